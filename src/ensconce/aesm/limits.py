# SPDX-License-Identifier: Apache-2.0
"""How much of the service one client can have, and who has to go when there is too little.

A process has a share of the connections, and so has a user, since processes are cheap. Where a
share or the whole is used up, the connection that has taken longest to send its request is dropped:
of that process, of that user, or of the user who has most such. Requests of honest clients are read
within a moment, so it is never one of theirs.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ensconce.aesm.endpoint import Peer

__all__ = ["Connections", "Limits"]

_Key = TypeVar("_Key")
_UNKNOWN = 0  # the id of a process in a container that this one can't see into


@dataclass(frozen=True, slots=True)
class Limits:
    """The service's limits; times in seconds."""

    connections: int = 1024
    per_user: int = 768
    per_process: int = 256
    receive: float = 5.0
    work: float = 30.0
    send: float = 5.0
    drain: float = 10.0
    turns: int = 4  # of one process at a slow backend


class Connections:
    """The connections that are open, in order of their coming."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[int, Peer] = {}
        self._users: Counter[int] = Counter()
        self._processes: Counter[Peer] = Counter()
        self._reading: dict[int, Callable[[], None]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, peer: Peer, drop: Callable[[], None]) -> int | None:
        """Return a number for a new connection, or None where it is too many.

        `drop` ends it, should it have to make room while it is still reading.
        """
        limits, room = self._limits, True
        if peer.pid != _UNKNOWN and self._processes[peer] >= limits.per_process:
            room = self._make_room(lambda other: other == peer)
        elif self._users[peer.uid] >= limits.per_user:
            room = self._make_room(lambda other: other.uid == peer.uid)
        elif len(self) >= limits.connections:
            greediest = self._greediest()
            room = self._make_room(lambda other: other.uid == greediest)
        if not room:
            return None
        self._last += 1
        self._open[self._last] = peer
        self._users[peer.uid] += 1
        self._processes[peer] += 1
        self._reading[self._last] = drop
        return self._last

    def has_read(self, number: int) -> None:
        """Note that a connection's request is there, so that it is not dropped any more."""
        self._reading.pop(number, None)

    def gone(self, number: int) -> None:
        """Note the end of a connection."""
        self._reading.pop(number, None)
        peer = self._open.pop(number)
        _less(self._users, peer.uid)
        _less(self._processes, peer)

    def _make_room(self, whose: Callable[[Peer], bool]) -> bool:
        """Drop the connection of theirs that has been reading longest, if there is one."""
        for number, drop in self._reading.items():
            if whose(self._open[number]):
                del self._reading[number]
                drop()
                return True
        return False

    def _greediest(self) -> int | None:
        """Return the user with most connections that are still reading."""
        reading = Counter(self._open[number].uid for number in self._reading)
        return reading.most_common(1)[0][0] if reading else None


def _less(counter: Counter[_Key], key: _Key) -> None:
    """Count one less, and keep no zeros."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
