# SPDX-License-Identifier: Apache-2.0
"""Know a process again: its number and when it began, which no other process shares in one boot."""

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "boot_id"]

_START = 19  # of the fields after the command's name in /proc/PID/stat


def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


@dataclass(frozen=True, slots=True)
class Process:
    """A process by number and start time (clock ticks since boot)."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Return the process that has a number now; None where none has, or it is a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2]
        except OSError:
            return None
        words = fields.split()
        return None if words[0] in "ZX" else cls(pid, int(words[_START]))

    @classmethod
    def parse(cls, text: str) -> "Process | None":
        """Read `pid start`; None where it is neither."""
        words = text.split()
        good = len(words) == 2 and all(word.isdecimal() for word in words)
        return cls(int(words[0]), int(words[1])) if good else None

    def __str__(self) -> str:
        return f"{self.pid} {self.start}"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return Process.of(self.pid) == self

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to it and to no other that has its number by now."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return whether it came."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive:
                return True
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(seconds * 1000))
        finally:
            os.close(handle)
