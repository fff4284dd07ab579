# SPDX-License-Identifier: Apache-2.0
"""Bring containers and their further processes to life.

An engine wants a process of the host's for each container, and waits for its end: the first
container's holds the pod's machine, the others wait on it.
"""

import contextlib
import json
import logging
import os
import pty
import signal
import socket
import struct
import termios
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fcntl import ioctl
from pathlib import Path
from typing import Any

from ensconce.errors import ConfigError, DeviceError, EnsconceError
from ensconce.node.runv import cgroup, network, state
from ensconce.node.runv.accelerator import choose
from ensconce.node.runv.client import Talk, connect, listen
from ensconce.node.runv.hooks import run_hooks
from ensconce.node.runv.kernel import prepare
from ensconce.node.runv.linux import (
    CLONE_NEWNS,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    mount,
    open_tree,
    unshare,
)
from ensconce.node.runv.machine import Size, start_machine
from ensconce.node.runv.pod import Pod
from ensconce.node.runv.protocol import VERSION, Kind, Tag, frame, number, record, text
from ensconce.node.runv.spec import Container, container_records, process_records, read_bundle

__all__ = ["create", "execute"]

_log = logging.getLogger(__name__)
_DEFAULT_MEMORY = 512 << 20
_OVERHEAD = 96 << 20  # that the guest's kernel takes of the machine's memory
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
_SANDBOX_IDS = ("io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID")
_SANDBOX_TYPES = ("io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType")


@dataclass(frozen=True, slots=True)
class Streams:
    """What a new process reads and writes: three descriptors, or a terminal's end."""

    files: tuple[int, int, int]
    terminal: int = -1

    def all(self) -> list[int]:
        """Return every descriptor that there is."""
        return [each for each in (*self.files, self.terminal) if each >= 0]


def create(root: Path, name: str, bundle: Path, console: str | None, pid_file: str | None) -> None:
    """Make a container whose process waits to be started."""
    container = read_bundle(bundle)
    if container.network is None and _pod_of(root, container) is None:
        raise ConfigError(
            "linux.namespaces: a sandbox can't use the host's network; run with a network of its "
            "own (--network bridge; in Kubernetes hostNetwork: false)"
        )
    folder = state.folder_of(root, name)
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise ConfigError(f"container {name!r} exists already; delete it first") from None
    try:
        with state.locked(root, name):
            _create(root, name, bundle, container, console, pid_file)
    except BaseException:
        _withdraw(root, name)
        raise


def _create(
    root: Path,
    name: str,
    bundle: Path,
    container: Container,
    console: str | None,
    pid_file: str | None,
) -> None:
    config = container.config
    process, seccomp = config.get("process"), config["linux"].get("seccomp")
    if not process:
        raise ConfigError("config.json has no process; give the container one")
    pod = _pod_of(root, container)
    elder = (pod, state.load(root, pod).pid) if pod else None
    payload = container_records(container, name, elder) + process_records(process, seccomp)
    trees = [open_tree(str(each)) for each in (container.root, *container.trees)]
    streams = _open_streams(console, terminal=container.terminal)
    cgroups = cgroup.paths(config["linux"].get("cgroupsPath") or f"/ensconce/{name}")
    remembered = state.Record(
        id=name,
        pod=pod or name,
        stream=1,
        pid=0,
        pid_start=0,
        bundle=str(bundle.resolve()),
        created=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        terminal=container.terminal,
        annotations=container.annotations,
        cgroups=cgroups,
        hooks=config.get("hooks") or {},
    )
    state.save(root, remembered)
    size = _size_of(container)
    if not pod:
        accelerator, new = choose(state.default_root(), prepare())
        if new and accelerator.notice:
            _log.warning(accelerator.notice)

    def body(report: "Report") -> int:
        cgroup.enter(cgroups, container.limits, size.memory if not pod else None)
        files = [*streams.files, *trees]
        if pod:
            return _wait_for(connect(root / pod), name, payload, files, streams, report, first=True)
        return _hold_pod(root / name, name, container, size, payload, files, streams, report)

    answer = _spawn(body, keep=[*streams.all(), *trees])
    remembered.pid, remembered.stream = answer["pid"], answer["stream"]
    remembered.pid_start = state.start_time(remembered.pid)
    state.save(root, remembered)
    try:
        run_hooks(remembered, "prestart", "creating")
        run_hooks(remembered, "createRuntime", "creating")
    except DeviceError:
        os.kill(remembered.pid, signal.SIGKILL)
        raise
    if pid_file:
        _write_pid(pid_file, remembered.pid)


def execute(
    root: Path,
    name: str,
    process: dict[str, Any],
    *,
    console: str | None,
    pid_file: str | None,
    detach: bool,
) -> int:
    """Run one more process in a container; return its exit code, 0 at once where detached."""
    remembered = state.load(root, name)
    if remembered.status != "running":
        raise ConfigError(f"container {name!r} is {remembered.status}, and not running")
    payload = record(Tag.CONTAINER, text(name)) + record(Tag.JOIN)
    seccomp = None
    with contextlib.suppress(OSError, ValueError):
        config = json.loads((Path(remembered.bundle) / "config.json").read_bytes())
        seccomp = config["linux"].get("seccomp")
    payload += process_records(process, seccomp)
    streams = _open_streams(console, terminal=bool(process.get("terminal")), own=not detach)

    def body(report: "Report") -> int:
        talk = connect(root / remembered.pod)
        return _wait_for(talk, name, payload, [*streams.files], streams, report, first=False)

    if detach:
        answer = _spawn(body, keep=streams.all())
        if pid_file:
            _write_pid(pid_file, answer["pid"])
        return 0
    if pid_file:
        _write_pid(pid_file, os.getpid())
    return body(Report(-1))


class Report:
    """Tells the command that waits what became of the process it asked for."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def ready(self, stream: int) -> None:
        """Say that the process is there."""
        self._say({"pid": os.getpid(), "stream": stream})

    def failed(self, why: str) -> None:
        """Say that there will be no process."""
        if self._pipe < 0:
            raise DeviceError(why)
        self._say({"error": why})

    def never(self, why: str) -> None:
        """Say that there will be no process, unless there was one."""
        if self._pipe >= 0:
            self.failed(why)

    def _say(self, answer: dict[str, Any]) -> None:
        if self._pipe >= 0:
            os.write(self._pipe, json.dumps(answer).encode())
            os.close(self._pipe)
            self._pipe = -1


def _spawn(body: Callable[[Report], int], keep: list[int]) -> dict[str, Any]:
    """Run `body` in a process of its own and return what it reports; close `keep` here."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _close_others({0, 1, 2, writer, *keep})  # above all the lock of the container's folder
        code = 1
        report = Report(writer)
        try:
            os.setsid()
            code = body(report)
        except (EnsconceError, OSError) as error:
            with contextlib.suppress(OSError):
                report.failed(str(error))
        except BaseException as error:  # the command that waits shows it
            with contextlib.suppress(OSError):
                report.failed(f"{type(error).__name__}: {error}")
        os._exit(code)
    os.close(writer)
    for each in {each for each in keep if each > 2}:
        os.close(each)
    with open(reader, "rb") as pipe:  # noqa: PTH123
        data = pipe.read(65536)
    answer: dict[str, Any] = json.loads(data) if data else {"error": "the pod's process ended"}
    if "error" in answer:
        os.waitpid(child, 0)
        raise DeviceError(answer["error"])
    return answer


def _close_others(kept: set[int]) -> None:
    """Close every descriptor but these: what the command or its engine left open is not ours."""
    for each in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if each not in kept:
            with contextlib.suppress(OSError):
                os.close(each)


def _hold_pod(
    folder: Path,
    name: str,
    container: Container,
    size: Size,
    payload: bytes,
    files: list[int],
    streams: Streams,
    report: Report,
) -> int:
    """Start the pod's machine, hold it until its first container ends; return that one's code."""
    control = listen(folder)
    share = folder / "share"
    share.mkdir()
    _own_mounts(share)
    kernel = prepare()
    accelerator, _ = choose(state.default_root(), kernel)
    nets = network.take_over(container.network or "")
    machine = start_machine(
        kernel,
        size,
        share,
        [(each.tap, each.address) for each in nets],
        accelerated=accelerator.name == "kvm",
    )
    pod = Pod(machine, share, control)
    ended: list[int] = []
    problems: list[str] = []
    stream = 0

    def notify(what: str, why: str, value: int) -> None:
        if what == "created":
            report.ready(stream)
        elif what == "failed":
            problems[:] = problems[:1] or [why]  # the guest can say so for ever
        elif what == "exited":
            ended.append(value)

    try:
        _greet(pod, nets)
        stream = pod.run(name, payload, files, notify, first=True)
        _forward_signals(pod, stream, streams)
        pod.loop(lambda: bool(ended))
        report.never(problems[0] if problems else "the sandbox's process ended at once")
        return ended[0] if ended else 128 + signal.SIGKILL
    finally:
        machine.stop()


def _greet(pod: Pod, nets: list[network.Net]) -> None:
    """Wait for the guest's agent and make the guest this pod's."""
    end = time.monotonic() + 60
    pod.loop(lambda: len(pod.greeting) > 0 or time.monotonic() > end)
    hello = pod.greeting[0] if pod.greeting else None
    if hello is None or hello.kind != Kind.READY or hello.number != VERSION:
        raise DeviceError(f"the sandbox's machine does not start: {pod.machine.last_words()}")
    now = time.time_ns()
    clock = number(now // 10**9, now // 10**9 >> 32, now % 10**9)
    parts = [
        record(Tag.CLOCK, clock),
        record(Tag.ENTROPY, os.urandom(64)),
        record(Tag.SHARE, text("virtiofs", "share", "")),
        *(record(Tag.NETLINK, each) for each in network.guest_requests(nets)),
    ]
    pod.send(frame(Kind.POD, 0, b"".join(parts)))
    pod.loop(lambda: len(pod.greeting) > 1)
    if len(pod.greeting) < 2 or pod.greeting[1].kind != Kind.DONE:
        why = pod.greeting[1].text if len(pod.greeting) > 1 else pod.machine.last_words()
        raise DeviceError(why)


def _wait_for(
    talk: Talk,
    name: str,
    payload: bytes,
    files: list[int],
    streams: Streams,
    report: Report,
    *,
    first: bool,
) -> int:
    """Have a pod's process run a process, wait for its end and return its exit code."""
    talk.ask({"do": "run", "container": name, "payload": payload.hex(), "first": first}, files)
    stream = 0

    def forward(wanted: int, _frame: object) -> None:
        if wanted == signal.SIGWINCH:
            rows, columns = _window(streams.terminal)
            talk.ask({"do": "resize", "rows": rows, "columns": columns})
        else:
            talk.ask({"do": "signal", "signal": wanted})

    for event in talk.events():
        if event["event"] == "created":
            stream = event["stream"]
            _handle_signals(forward, streams)
            if not first:
                talk.ask({"do": "start"})
            report.ready(stream)
        elif event["event"] == "failed":
            report.failed(event["text"])
        elif event["event"] == "exited":
            return int(event["value"])
    return 128 + signal.SIGKILL


def _forward_signals(pod: Pod, stream: int, streams: Streams) -> None:
    """Send on what the pod's process is sent."""

    def forward(wanted: int, _frame: object) -> None:
        with contextlib.suppress(EnsconceError):
            if wanted == signal.SIGWINCH:
                pod.resize(stream, *_window(streams.terminal))
            else:
                pod.signal(stream, wanted, everyone=False)

    _handle_signals(forward, streams)


def _handle_signals(forward: Callable[[int, object], None], streams: Streams) -> None:
    """Call `forward` for signals; a terminal's end becomes this process's, to hear of its size."""
    for each in _FORWARDED:
        signal.signal(each, forward)
    if streams.terminal >= 0:
        with contextlib.suppress(OSError):
            ioctl(streams.terminal, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGWINCH, forward)
        os.kill(os.getpid(), signal.SIGWINCH)


def _window(terminal: int) -> tuple[int, int]:
    """Return a terminal's rows and columns."""
    rows, columns, _, _ = struct.unpack("4H", ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def _open_streams(console: str | None, *, terminal: bool, own: bool = False) -> Streams:
    """Return the process's streams; a new terminal's other end goes to the engine's socket."""
    if not terminal:
        if console:
            raise ConfigError("--console-socket needs process.terminal; set it, or leave it out")
        return Streams((0, 1, 2))
    if not console:
        if own and os.isatty(0):
            tty.setraw(0)
            return Streams((0, 1, -1), 0)
        raise ConfigError("process.terminal needs --console-socket; give the engine's socket")
    master, end = pty.openpty()
    tty.setraw(end)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.connect(console)
        socket.send_fds(engine, [b"terminal"], [master])
    os.close(master)
    return Streams((end, os.dup(end), os.dup(end)), os.dup(end))


def _own_mounts(share: Path) -> None:
    """Leave the host's mounts alone: what the guest sees is mounted for this process only."""
    unshare(CLONE_NEWNS)
    mount("", "/", MS_REC | MS_SLAVE)
    mount(str(share), str(share), MS_BIND)
    mount("", str(share), MS_SHARED)


def _pod_of(root: Path, container: Container) -> str | None:
    """Return the id of the pod that a container joins, None where it is its pod's first."""
    notes = container.annotations
    kinds = {notes.get(each) for each in _SANDBOX_TYPES}
    if "container" not in kinds:
        return None
    sandbox = next((notes[each] for each in _SANDBOX_IDS if notes.get(each)), None)
    if sandbox is None:
        raise ConfigError("annotations: a pod's container needs io.kubernetes.cri.sandbox-id")
    return state.load(root, sandbox).pod


def _size_of(container: Container) -> Size:
    """Return how large a machine the first container of a pod needs."""
    limits = container.limits
    memory = limits.memory + _OVERHEAD if limits.memory else _DEFAULT_MEMORY
    processors = -(-limits.cpu_quota // limits.cpu_period) if limits.cpu_quota else 1
    memory = -(-max(memory, 160 << 20) // (2 << 20)) * (2 << 20)
    return Size(memory, min(processors, os.cpu_count() or 1))


def _write_pid(path: str, pid: int) -> None:
    """Write a pid file in one step."""
    made = Path(f"{path}.{os.getpid()}")
    made.write_text(str(pid))
    made.rename(path)


def _withdraw(root: Path, name: str) -> None:
    """Leave nothing of a container that could not be made."""
    with contextlib.suppress(EnsconceError):
        cgroup.remove(state.load(root, name).cgroups)
    state.remove(root, name)
