# SPDX-License-Identifier: Apache-2.0
"""Make room in a full EPC, as the kernel's reclaimer does, over all enclaves of a processor."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.machine.encls_paging import etrack
from ensconce.machine.processor import Processor
from ensconce.machine.secs_page import SecsPage

__all__ = ["Owner", "Reclaimer", "Run", "shoot_down"]

_BATCH = 512
_SHARE = 8  # of the EPC that is evicted beyond what is needed, at most one part in so many
_COMPLAIN = 5.0
_PAUSE = 20e-6

_logger = logging.getLogger(__name__)


Run = tuple[int, int]  # pages, from and to


class Owner(Protocol):
    """An enclave as the driver knows it, whose pages can be reclaimed."""

    secs: SecsPage

    def block(self, first: int, end: int) -> list[Run]:
        """Unmap and EBLOCK what is in the EPC of a range; return those pages. Lock held."""

    def write_back(self, runs: Sequence[Run]) -> list[Run]:
        """EWB pages that were blocked and tracked; return those in use again. Lock held."""


class Reclaimer:
    """Pages in the order in which they came into the EPC; the oldest go first.

    The real reclaimer passes over pages that were used lately, by their accessed bit, which
    can't be had here.
    """

    def __init__(self, cpu: Processor) -> None:
        self._cpu = cpu
        self._queue: deque[tuple[Owner, int, int]] = deque()
        self._working = 0

    @classmethod
    def of(cls, cpu: Processor) -> "Reclaimer":
        """Return the one reclaimer of a processor."""
        with cpu.lock:
            return cast(Reclaimer, cpu.system_software.setdefault(cls, cls(cpu)))

    def add(self, owner: Owner, first: int, end: int) -> None:
        """Make pages reclaimable. Lock held."""
        if self._queue:
            last, start, stop = self._queue[-1]
            if last is owner and stop == first:
                self._queue[-1] = (owner, start, end)
                return
        self._queue.append((owner, first, end))

    def drop(self, owner: Owner) -> None:
        """Forget an enclave. Lock held."""
        self._queue = deque(run for run in self._queue if run[0] is not owner)

    def reclaim(self, needed: int) -> bool:
        """Evict pages until so many are free, or at least some; False where nothing can be evicted.

        The lock must not be held: threads have to leave their enclaves meanwhile.
        """
        epc = self._cpu.epc
        with self._cpu.lock:
            if epc.free >= needed:
                return True
            if not self._cpu.evicts:
                return False
            chosen = self._choose(max(needed - epc.free, min(_BATCH, epc.pages // _SHARE)))
            if not chosen and not self._working:
                return False
            self._working += 1
        try:
            if not chosen:
                time.sleep(_PAUSE)  # somebody else is making room
                return True
            for owner, left in chosen:
                while left:
                    shoot_down(self._cpu, owner.secs, left)
                    with self._cpu.lock:
                        left = owner.write_back(left)
            return True
        finally:
            with self._cpu.lock:
                self._working -= 1

    def _choose(self, wanted: int) -> list[tuple[Owner, list[Run]]]:
        """Take pages off the queue and block them, grouped by enclave."""
        chosen: dict[int, tuple[Owner, list[Run]]] = {}
        found = 0
        while self._queue and found < wanted:
            owner, first, end = self._queue.popleft()
            cut = min(end, first + wanted - found)
            if cut < end:
                self._queue.appendleft((owner, cut, end))
            runs = owner.block(first, cut)
            if runs:
                chosen.setdefault(id(owner), (owner, []))[1].extend(runs)
                found += sum(stop - start for start, stop in runs)
        return list(chosen.values())


def shoot_down(cpu: Processor, secs: SecsPage, runs: Sequence[Run] = ()) -> None:
    """ETRACK, and wait until no thread inside could use pages that were blocked before.

    The lock must not be held.
    """
    while True:
        try:
            etrack(cpu, secs)
            break
        except Fault as fault:
            if fault.code is not ErrorCode.PREV_TRK_INCMPL:
                return  # the enclave was lost meanwhile: there is nothing to wait for
            _wait(cpu, secs, secs.core.epoch, ())
    _wait(cpu, secs, secs.core.epoch, runs)


def _in_use(cpu: Processor, secs: SecsPage, epoch: int, runs: Sequence[Run]) -> bool:
    """Return whether a thread is inside since before an epoch, or runs on `runs`.

    The lock keeps the enclave's TCSs and the core's the same ones meanwhile.
    """
    with cpu.lock:
        return bool(secs.core.inside_before(epoch)) or any(secs.pinned(*run) for run in runs)


def _wait(cpu: Processor, secs: SecsPage, epoch: int, runs: Sequence[Run]) -> None:
    """Kick threads until none is inside that entered before an epoch, and none runs on `runs`."""
    begun = 0.0
    while _in_use(cpu, secs, epoch, runs):
        now = time.monotonic()
        begun = begun or now
        if now - begun > _COMPLAIN:
            _logger.warning("event=thread_does_not_leave eid=%d", secs.eid)
            begun = now
        secs.core.kick()
        time.sleep(_PAUSE)
