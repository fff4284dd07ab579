# SPDX-License-Identifier: Apache-2.0
"""Whether KVM starts machines here: tried once for each start of the host, by a boot with a limit.

A device that is there says little: under some hosts /dev/kvm opens and its machines never get on.
"""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from ensconce.node.processes import boot_id
from ensconce.node.runv.kernel import Kernel
from ensconce.node.runv.linux import die_with_parent
from ensconce.node.runv.machine import Size, base_command

__all__ = ["Accelerator", "choose", "remembered"]

_FILE = "accelerator.json"
_DEVICE = Path("/dev/kvm")
_PATIENCE = 5.0  # seconds that a boot may take with KVM, which needs a fraction of one


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What machines run on, `kvm` or `tcg`, and why; `boot_id` is the host's start it holds for."""

    name: str
    why: str
    boot_id: str

    @property
    def notice(self) -> str:
        """What a user should hear; empty where there is nothing to say."""
        if self.name == "kvm":
            return ""
        return f"sandboxes run on QEMU's TCG, which is slow: {self.why}"


def choose(folder: Path, kernel: Kernel, device: Path = _DEVICE) -> tuple[Accelerator, bool]:
    """Return what machines run on, and whether that was found out just now.

    The result is kept in `folder`, the machine's state of this runtime, until the host starts anew.
    """
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (folder / ".accelerator.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = remembered(folder)
        if found:
            return found, False
        why = _try_kvm(kernel, device)
        found = Accelerator("tcg" if why else "kvm", why or "a machine booted", boot_id())
        made = folder / f".{_FILE}"
        made.write_text(json.dumps(asdict(found)))
        made.rename(folder / _FILE)
        return found, True


def remembered(folder: Path) -> Accelerator | None:
    """Return what was found out since the host's start; None where nothing was."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        found = Accelerator(**json.loads((folder / _FILE).read_bytes()))
        if found.boot_id == boot_id() and found.name in ("kvm", "tcg"):
            return found
    return None


def _try_kvm(kernel: Kernel, device: Path) -> str:
    """Boot a machine with KVM up to its agent; return why that can't be, empty where it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{device} can't be opened: {error.strerror}"
    ours, theirs = socket.socketpair()
    command = [
        *base_command(kernel, Size(160 << 20, 1), accelerated=True),
        *("-chardev", f"socket,id=agent,fd={theirs.fileno()}"),
        *("-device", "virtserialport,chardev=agent,name=ensconce"),
    ]
    parent = os.getpid()
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            preexec_fn=lambda: die_with_parent(parent),  # one thread only
        )
    except OSError as error:
        ours.close()
        return f"{command[0]} does not start: {error.strerror}"
    finally:
        theirs.close()
    with ours:
        ours.settimeout(_PATIENCE)
        return _hear(ours, process)


def _hear(agent: socket.socket, process: subprocess.Popen[bytes]) -> str:
    """Wait for the agent's first word, end the machine, and return why there was none."""
    try:
        if agent.recv(1):
            return ""
        why = "QEMU ended"
    except TimeoutError:
        why = f"a machine did not boot in {_PATIENCE:.0f} seconds"
    except OSError as error:
        why = f"QEMU ended: {error.strerror}"
    finally:
        process.kill()
        _, said = process.communicate()
    lines = said.decode(errors="replace").split("\n")
    last = "".join(c for c in next(filter(None, reversed(lines)), "") if c.isprintable())[:200]
    return f"KVM is there, but {why}" + (f" ({last})" if last else "")
