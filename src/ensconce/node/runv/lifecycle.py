# SPDX-License-Identifier: Apache-2.0
"""What becomes of a container after it was made: start, signals, its end."""

import contextlib
import os
import signal
import time
from pathlib import Path

from ensconce.errors import ConfigError, DeviceError
from ensconce.node.runv import cgroup, state
from ensconce.node.runv.client import connect
from ensconce.node.runv.hooks import run_hooks

__all__ = ["delete", "kill", "run", "start"]

_PATIENCE = 10.0


def start(root: Path, name: str) -> None:
    """Have a container that was made run its program."""
    with state.locked(root, name):
        record = state.load(root, name)
        if record.status != "created":
            raise ConfigError(f"container {name!r} is {record.status}; only a new one is started")
        talk = connect(root / record.pod)
        record.started = True
        state.save(root, record)
        talk.ask({"do": "start", "stream": record.stream})
        talk.expect("started")
        _run_late(record, "poststart", "running")


def run(
    root: Path,
    name: str,
    bundle: Path,
    console: str | None,
    pid_file: str | None,
    *,
    detach: bool,
) -> int:
    """Make and start a container; unless detached wait, delete it and return its code."""
    from ensconce.node.runv.launch import create

    create(root, name, bundle, console, pid_file)
    pid = state.load(root, name).pid
    start(root, name)
    if detach:
        return 0
    _, result = os.waitpid(pid, 0)
    delete(root, name, force=True)
    return os.waitstatus_to_exitcode(result)


def kill(root: Path, name: str, wanted: int, *, everyone: bool) -> None:
    """Send a signal to a container's process, or to all of them."""
    record = state.load(root, name)
    if record.status == "stopped":
        raise ConfigError("container not running")  # the words that engines look for
    talk = connect(root / record.pod)
    request = {"do": "signal", "stream": record.stream, "signal": wanted, "everyone": everyone}
    talk.ask(request)
    talk.expect("done")


def delete(root: Path, name: str, *, force: bool) -> None:
    """Remove what is left of a container; with `force` also one that runs, or was never there."""
    try:
        record = state.load(root, name)
    except ConfigError:
        if force:
            state.remove(root, name)
            return
        raise
    if record.status != "stopped":
        if not force:
            raise ConfigError(f"container {name!r} is {record.status}; kill it, or use --force")
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGKILL)
        end = time.monotonic() + _PATIENCE
        while record.status != "stopped":
            if time.monotonic() > end:
                raise DeviceError(f"process {record.pid} of container {name!r} does not end")
            time.sleep(0.005)
    cgroup.kill_all(record.cgroups)
    cgroup.remove(record.cgroups)
    state.remove(root, name)
    _run_late(record, "poststop", "stopped")


def _run_late(record: state.Record, when: str, status: str) -> None:
    """Run hooks whose failure, as the specification has it, changes nothing."""
    with contextlib.suppress(DeviceError):
        run_hooks(record, when, status)
