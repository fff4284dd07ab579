# SPDX-License-Identifier: Apache-2.0
"""The host's side of one process in the guest: its input, outputs and what becomes of it.

Outputs are held back by credit: what the guest may send is bounded by what was written on, so a
reader that is slow costs a window of memory and holds up nobody else.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from ensconce.errors import ProtocolError
from ensconce.node.runv.protocol import MOST_DATA, WINDOW, Frame, Kind, frame, number

__all__ = ["Event", "Process"]

_PIECE = 4096  # bytes that a pipe which is ready takes without waiting

Event = Callable[[str, str, int], None]  # what happened (created, started, failed, exited)


@dataclass(slots=True)
class Process:
    """A process in the guest; descriptors are -1 where there is none (any more)."""

    stream: int
    container: str
    first: bool
    input: int
    outputs: list[int]  # of outputs and errors
    notify: Event
    send: Callable[[bytes], None]
    created: bool = False
    started: bool = False
    code: int | None = None
    under_way: int = 0  # bytes of input that the guest has not taken yet
    owed: int = 0  # bytes of output that the guest may not send again yet
    pending: list[bytearray] = field(default_factory=lambda: [bytearray(), bytearray()])

    def wants(self) -> list[tuple[int, bool]]:
        """Return the descriptors to wait for, each with whether to write to it."""
        found = [(self.outputs[each], True) for each in (0, 1) if self.pending[each]]
        if self.input >= 0 and self.started and self.under_way < WINDOW:
            found.append((self.input, False))
        return found

    def take_input(self) -> None:
        """Read input that is there and send it on."""
        try:
            data = os.read(self.input, min(MOST_DATA, WINDOW - self.under_way))
        except OSError:  # a terminal that was hung up
            data = b""
        if data:
            self.under_way += len(data)
            self.send(frame(Kind.INPUT, self.stream, data))
        else:
            self._close_input()
            self.send(frame(Kind.INPUT_END, self.stream))

    def drain(self, which: int) -> None:
        """Write some of an output that is pending."""
        data = self.pending[which]
        try:
            done = os.write(self.outputs[which], data[:_PIECE])
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            done = len(data)
        del data[:done]
        self._allow(done)
        self.settle()

    def hear(self, message: Frame) -> None:
        """Take a frame of this process's; raises ProtocolError for one out of turn."""
        if message.kind in (Kind.OUTPUT, Kind.ERRORS):
            self._hear_output(message)
        elif message.kind == Kind.TAKEN:
            if message.number > self.under_way:
                raise ProtocolError("the guest took more input than it was given")
            self.under_way -= message.number
        elif message.kind == Kind.DONE:
            self._hear_done(message)
        elif message.kind == Kind.FAILED:
            self.notify("failed", message.text, 0)
            if not self.created:
                self.end(127)
        elif message.kind == Kind.EXITED:
            self.end(message.number & 0xFF)
        else:
            raise ProtocolError(f"the guest sent a {message.kind.name} frame for a process")

    def _hear_output(self, message: Frame) -> None:
        self.owed += len(message.payload)
        if self.owed > WINDOW:
            raise ProtocolError("the guest sent more output than it had credit for")
        which = int(message.kind == Kind.ERRORS)
        if self.outputs[which] < 0:
            self._allow(len(message.payload))
        else:
            self.pending[which] += message.payload

    def _hear_done(self, message: Frame) -> None:
        if self.started:
            raise ProtocolError("the guest started a process twice")
        self.started = self.created
        self.created = True
        self.notify("started" if self.started else "created", "", message.number)

    def end(self, code: int) -> None:
        """Note that the process ended; it is over once its outputs are written."""
        if self.code is None:
            self.code = code
            self._close_input()
            self.settle()

    def settle(self) -> None:
        """Say that all is over if it is."""
        if self.code is None or any(self.pending):
            return
        for each in (0, 1):
            _close(self.outputs[each])
            self.outputs[each] = -1
        self.notify("exited", "", self.code)

    def _allow(self, size: int) -> None:
        """Give the guest credit for bytes that are written."""
        self.owed -= size
        if self.code is None and size:
            self.send(frame(Kind.CREDIT, self.stream, number(size)))

    def _close_input(self) -> None:
        _close(self.input)
        self.input = -1


def _close(descriptor: int) -> None:
    """Close a descriptor where there is one."""
    if descriptor >= 0:
        os.close(descriptor)
