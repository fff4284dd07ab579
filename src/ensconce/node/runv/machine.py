# SPDX-License-Identifier: Apache-2.0
"""A pod's virtual machine: QEMU with a microvm, and virtiofsd with what the host shares.

Both are children of the pod's process and die with it; both have the pod's control group and
network namespace, and see the host's files only through the folder that the pod shares.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ConfigError, DeviceError
from ensconce.node.runv.kernel import Kernel
from ensconce.node.runv.linux import die_with_parent

__all__ = ["Machine", "Size", "base_command", "start_machine"]

_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd")
_PATIENCE = 10.0  # seconds that virtiofsd may take to listen
_KEPT = 8192  # bytes of what a machine prints
_CODE_CACHE = 64  # MiB for translated code


@dataclass(frozen=True, slots=True)
class Size:
    """How large a machine is."""

    memory: int  # bytes
    processors: int


@dataclass(slots=True)
class Machine:
    """A machine that runs; `channel` leads to the agent, `console` to its kernel's last words."""

    qemu: subprocess.Popen[bytes]
    files: subprocess.Popen[bytes]
    channel: socket.socket
    console: int
    printed: bytes = b""

    def hear_console(self) -> bool:
        """Take what kernel and QEMU printed and keep its end; return whether more may come."""
        try:
            data = os.read(self.console, 65536)
        except BlockingIOError:
            return True
        self.printed = (self.printed + data)[-_KEPT:]
        return bool(data)

    def last_words(self) -> str:
        """Return the end of what was printed, as one line that is safe to show."""
        self.hear_console()
        text = self.printed.decode(errors="replace")
        lines = "".join(c if c.isprintable() else "\n" for c in text)
        return " | ".join(each for each in lines.split("\n")[-6:] if each.strip())

    def stop(self) -> None:
        """End both processes."""
        for process in (self.qemu, self.files):
            process.kill()
            process.wait()
        self.channel.close()
        os.close(self.console)


def start_machine(
    kernel: Kernel, size: Size, share: Path, nets: list[tuple[int, str]], *, accelerated: bool
) -> Machine:
    """Start a machine; `nets` are taps' descriptors with the guest's hardware addresses."""
    ours, theirs = socket.socketpair()
    console, console_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    fcntl.fcntl(console_end, fcntl.F_SETFL, 0)
    files, link = _start_files(share)
    command = [
        *base_command(kernel, size, accelerated=accelerated),
        *("-chardev", f"socket,id=agent,fd={theirs.fileno()}"),
        *("-device", "virtserialport,chardev=agent,name=ensconce"),
        *("-chardev", f"socket,id=files,path={link}"),
        *("-device", "vhost-user-fs-device,chardev=files,tag=share"),
    ]
    for place, (tap, address) in enumerate(nets):
        command += ["-netdev", f"tap,id=net{place},fd={tap}"]
        command += ["-device", f"virtio-net-device,netdev=net{place},mac={address}"]
    parent = os.getpid()
    try:
        qemu = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=console_end,
            stderr=console_end,
            pass_fds=[theirs.fileno(), *(tap for tap, _ in nets)],
            preexec_fn=lambda: die_with_parent(parent),  # one thread only
        )
    except OSError as error:
        files.kill()
        raise ConfigError(
            f"{command[0]} does not start: {error.strerror}; apt install qemu-system-x86"
        ) from error
    finally:
        os.close(console_end)
        theirs.close()
    for tap, _ in nets:
        os.close(tap)
    ours.settimeout(0)
    return Machine(qemu, files, ours, console)


def base_command(kernel: Kernel, size: Size, *, accelerated: bool) -> list[str]:
    """Return QEMU's arguments for a machine without what is the pod's own."""
    memory = f"{size.memory >> 20}M"
    accelerator = "kvm" if accelerated else f"tcg,thread=multi,tb-size={_CODE_CACHE}"
    return [
        "qemu-system-x86_64",
        *("-M", "microvm,acpi=on,pcie=off,memory-backend=memory"),
        *("-accel", accelerator),
        *("-cpu", "host" if accelerated else "max"),
        *("-smp", str(size.processors), "-m", memory),
        *("-object", f"memory-backend-memfd,id=memory,size={memory},share=on"),
        *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(kernel.image), "-initrd", str(kernel.ramdisk)),
        *("-append", _command_line(accelerated=accelerated)),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-global", "virtio-mmio.force-legacy=false"),
        *("-device", "virtio-serial-device"),
        *("-device", "virtio-rng-device"),
    ]


def _command_line(*, accelerated: bool) -> str:
    """Return the kernel's command line."""
    line = "console=ttyS0 quiet panic=-1 random.trust_cpu=on"
    if accelerated:
        return line
    # A loaded host makes the guest's own calibration hang.
    return f"{line} tsc=reliable tsc_early_khz={_kilohertz()} lpj=4000000 no_timer_check"


def _kilohertz() -> int:
    """Return the rate of the host's time stamp counter, which is the guest's."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("cpu MHz"):
                return int(float(line.split(":")[1]) * 1000)
    return 2_000_000


def _start_files(share: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start virtiofsd on the shared folder; return it and its socket."""
    program = shutil.which("virtiofsd") or next(filter(os.path.exists, _VIRTIOFSD), None)
    if not program:
        raise ConfigError("virtiofsd is missing; apt install qemu-system-common (or virtiofsd)")
    link = share.parent / "files.sock"
    parent = os.getpid()
    process = subprocess.Popen(  # noqa: S603
        [program, f"--socket-path={link}", "-o", f"source={share}", "-o", "cache=auto,xattr"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: die_with_parent(parent),  # one thread only
    )
    end = time.monotonic() + _PATIENCE
    while not link.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise DeviceError(f"{program} does not share {share}; run it by hand to see why")
        time.sleep(0.002)
    return process, link
