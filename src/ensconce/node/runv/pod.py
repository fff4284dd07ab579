# SPDX-License-Identifier: Apache-2.0
"""The process that holds a pod's machine: it carries the streams of all its containers.

Other processes of this runtime reach it by a socket in the pod's folder, which is its user's
alone. A request is one line of JSON; the descriptors of a new process's streams and of its
container's files come with it. It ends with the pod's first container.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ensconce.errors import DeviceError, EnsconceError, ProtocolError
from ensconce.node.runv.linux import place_tree, unmount
from ensconce.node.runv.machine import Machine
from ensconce.node.runv.protocol import MOST_FRAME, Frame, Kind, Reader, frame, number
from ensconce.node.runv.streams import Event, Process

__all__ = ["Pod"]

_MOST_FILES = 250
_PATIENCE = 5.0  # seconds in which the guest must have ended what it was told to kill


class Pod:
    """A pod's machine with its processes; `share` is the folder that the guest sees."""

    def __init__(self, machine: Machine, share: Path, control: socket.socket) -> None:
        self.machine = machine
        self.share = share
        self.control = control
        self.processes: dict[int, Process] = {}
        self.clients: dict[socket.socket, Client] = {}
        self.greeting: list[Frame] = []
        self.over = False
        self._reader = Reader()
        self._unsent = bytearray()
        self._next = 1
        self._silent = False
        self._deadlines: dict[int, float] = {}
        self._trees: dict[str, list[Path]] = {}

    def send(self, data: bytes) -> None:
        """Queue bytes for the guest: config frames and, within their windows, inputs."""
        self._unsent += data
        self._flush()

    def run(
        self, container: str, payload: bytes, files: list[int], notify: Event, *, first: bool
    ) -> int:
        """Have the guest make a process; `files` are its streams, then its container's trees."""
        if first:
            self._place(container, files[3:])
        stream = self._next
        self._next += 1
        process = Process(stream, container, first, files[0], files[1:3], notify, self.send)
        self.processes[stream] = process
        self.send(frame(Kind.RUN, stream, payload))
        return stream

    def start(self, stream: int) -> None:
        """Have a process that was made run its program."""
        self.send(frame(Kind.START, stream))

    def signal(self, stream: int, wanted: int, *, everyone: bool) -> None:
        """Send a signal to a process, or to all of its container."""
        if stream not in self.processes:
            raise DeviceError("the process has ended")
        self.send(frame(Kind.SIGNAL, stream, number(wanted, int(everyone))))
        if wanted == signal.SIGKILL:
            self._deadlines.setdefault(stream, time.monotonic() + _PATIENCE)

    def resize(self, stream: int, rows: int, columns: int) -> None:
        """Tell a process's terminal its size."""
        self.send(frame(Kind.RESIZE, stream, number(rows, columns)))

    def loop(self, until: Callable[[], bool]) -> None:
        """Carry streams and serve clients until something holds, or the machine ends."""
        while not until() and not self.over:
            try:
                self._turn()
            except (ProtocolError, ConnectionError):
                self._end_all()

    def _turn(self) -> None:
        """Wait once and do what there is to do."""
        with selectors.PollSelector() as selector:
            self._register(selector)
            for key, events in selector.select(self._patience()):
                key.data(key.fileobj, events)
        late = [each for each, end in self._deadlines.items() if end < time.monotonic()]
        if any(each in self.processes for each in late):
            self._end_all()  # a guest that does not kill is no guest to keep

    def _register(self, selector: selectors.BaseSelector) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        selector.register(self.machine.channel, events, self._hear_guest)
        selector.register(self.control, selectors.EVENT_READ, self._accept)
        if not self._silent:
            selector.register(self.machine.console, selectors.EVENT_READ, self._hear_console)
        for connection, client in self.clients.items():
            selector.register(connection, selectors.EVENT_READ, client.hear)
        taken: set[int] = set()
        for process in self.processes.values():
            for descriptor, writes in process.wants():
                if descriptor in taken:
                    continue  # a terminal's end is input and output: one at a time
                taken.add(descriptor)
                self._register_stream(selector, process, descriptor, writes=writes)

    @staticmethod
    def _register_stream(
        selector: selectors.BaseSelector, process: Process, descriptor: int, *, writes: bool
    ) -> None:
        def ready(_file: object, _events: int) -> None:
            if not writes:
                process.take_input()
            elif descriptor in process.outputs:
                process.drain(process.outputs.index(descriptor))

        selector.register(
            descriptor, selectors.EVENT_WRITE if writes else selectors.EVENT_READ, ready
        )

    def _hear_console(self, _file: object, _events: int) -> None:
        self._silent = not self.machine.hear_console()

    def _patience(self) -> float | None:
        now = time.monotonic()
        waits = [end - now for each, end in self._deadlines.items() if each in self.processes]
        return max(0.0, min(waits)) if waits else None

    def _hear_guest(self, _file: object, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if not events & selectors.EVENT_READ:
            return
        try:
            data = self.machine.channel.recv(1 << 18)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError("the machine ended")
        for message in self._reader.feed(data):
            if message.stream == 0:
                self._hear_pod(message)
            elif message.stream in self.processes:
                self.processes[message.stream].hear(message)
                self._forget_ended(message.stream)

    def _hear_pod(self, message: Frame) -> None:
        """Keep what answers the set-up; more than that no guest has to say."""
        if len(self.greeting) >= 2:  # READY, then DONE or FAILED
            raise ProtocolError("the guest speaks of its pod out of turn")
        self.greeting.append(message)

    def _forget_ended(self, stream: int) -> None:
        process = self.processes.get(stream)
        if process is None or process.code is None:
            return
        if process.first:
            self._clear(process.container)

    def finish(self, stream: int) -> None:
        """Forget a process that is over."""
        self.processes.pop(stream, None)
        self._deadlines.pop(stream, None)

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._unsent:
                sent = self.machine.channel.send(self._unsent)
                del self._unsent[:sent]

    def _end_all(self) -> None:
        """Treat every process as killed: the machine is gone or not to be trusted."""
        self.over = True
        self.machine.qemu.kill()
        for process in list(self.processes.values()):
            for each in process.pending:
                each.clear()
            process.end(128 + signal.SIGKILL)

    def _place(self, container: str, trees: list[int]) -> None:
        """Mount a container's files where the guest sees them."""
        places: list[Path] = []
        self._trees[container] = places
        (self.share / container).mkdir()
        for place, tree in enumerate(trees):
            target = self.share / container / ("root" if place == 0 else f"m{place - 1}")
            if os.path.isdir(f"/proc/self/fd/{tree}"):  # noqa: PTH112
                target.mkdir()
            else:
                target.touch()
            place_tree(tree, str(target))
            os.close(tree)
            places.append(target)

    def _clear(self, container: str) -> None:
        """Take a container's files away."""
        for target in reversed(self._trees.pop(container, [])):
            with contextlib.suppress(DeviceError, OSError):
                unmount(str(target))
                target.rmdir() if target.is_dir() else target.unlink()
        with contextlib.suppress(OSError):
            (self.share / container).rmdir()

    def _accept(self, _file: object, _events: int) -> None:
        connection, _ = self.control.accept()
        self.clients[connection] = Client(self, connection)


class Client:
    """Another process of this runtime that asks something of the pod, or waits for a process."""

    def __init__(self, pod: Pod, connection: socket.socket) -> None:
        self._pod = pod
        self._connection = connection
        self._line = bytearray()
        self._files: list[int] = []
        self._stream = 0

    def hear(self, _file: object, _events: int) -> None:
        """Take what came; a client that goes takes its process with it."""
        try:
            data, files, _, _ = socket.recv_fds(self._connection, 1 << 20, _MOST_FILES)
        except OSError:
            data, files = b"", []
        self._files += files
        self._line += data
        if not data or len(self._line) > 4 * MOST_FRAME:
            self._leave()
            return
        while b"\n" in self._line:
            line, _, rest = bytes(self._line).partition(b"\n")
            self._line = bytearray(rest)
            self._obey(json.loads(line))

    def _obey(self, request: dict[str, Any]) -> None:
        try:
            self._do(request)
        except (EnsconceError, OSError) as error:
            self._tell("failed", str(error), 0)

    def _do(self, request: dict[str, Any]) -> None:
        wanted, stream = request["do"], request.get("stream") or self._stream
        if wanted == "run":
            files, self._files = self._files, []
            payload = bytes.fromhex(request["payload"])
            self._stream = self._pod.run(
                request["container"], payload, files, self._tell, first=request["first"]
            )
            return
        if wanted == "start":
            process = self._pod.processes.get(stream)
            if process is None or process.started:
                raise DeviceError("the process is not waiting to be started")
            _tell_also(process, self)
            self._pod.start(stream)
            return
        if wanted == "signal":
            self._pod.signal(stream, request["signal"], everyone=request.get("everyone", False))
        elif wanted == "resize":
            self._pod.resize(stream, request["rows"], request["columns"])
            return
        self._tell("done", "", 0)

    def _tell(self, what: str, text: str, value: int) -> None:
        line = json.dumps({"event": what, "text": text, "value": value, "stream": self._stream})
        with contextlib.suppress(OSError):
            self._connection.sendall(line.encode() + b"\n")
        if what == "exited":
            self._pod.finish(self._stream)

    def _leave(self) -> None:
        del self._pod.clients[self._connection]
        self._connection.close()
        for each in self._files:
            os.close(each)
        if self._stream in self._pod.processes:
            self._pod.signal(self._stream, signal.SIGKILL, everyone=False)


def _tell_also(process: Process, client: Client) -> None:
    """Have a client hear of a process's start besides the one that waits for its end."""
    owner = process.notify

    def notify(what: str, text: str, value: int) -> None:
        owner(what, text, value)
        if what in ("started", "failed", "exited"):
            process.notify = owner
            client._tell(what, text, value)

    process.notify = notify
