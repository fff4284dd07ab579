# SPDX-License-Identifier: Apache-2.0
"""One enclave as the Linux driver keeps it (struct sgx_encl): pages, mappings, backing, faults."""

import errno
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.paging import VA_SLOTS
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.machine.encls_build import eremove, eremove_pages
from ensconce.machine.encls_dynamic import eaug
from ensconce.machine.encls_paging import (
    EvictedPage,
    eblock_pages,
    eldu,
    eldu_lazy,
    eldu_secs,
    epa,
    eremove_va,
    ewb_pages,
    ewb_secs,
    ewb_zeros,
)
from ensconce.machine.epc import BLOCKED, VaPage, access_of
from ensconce.machine.processor import Processor
from ensconce.machine.reclaim import Reclaimer, Run
from ensconce.machine.runs import RunMap
from ensconce.machine.secs_page import SecsPage

__all__ = ["READ", "RWX", "WRITE", "DriverEnclave", "Statistics", "refusal"]

READ, WRITE = 1, 2
RWX = 7

_logger = logging.getLogger(__name__)

_LEAST_AROUND = 16
_MOST_AROUND = 512
_EPC_SHARE = 16  # of the EPC that one fault may fill, at most one part in so many
_SPURIOUS = 1000
_PAUSE = 50e-6
_PATIENCE = 2.0


def refusal(number: int, reason: str = "") -> OSError:
    """Return the OSError that a system call raises."""
    text = os.strerror(number)
    return OSError(number, f"{text}: {reason}" if reason else text)


@dataclass(slots=True)
class Statistics:
    """What the driver has done for an enclave; pages, but `faults` are page faults handled."""

    added: int = 0
    added_lazily: int = 0
    faults: int = 0
    committed: int = 0
    augmented: int = 0
    evicted: int = 0
    loaded: int = 0


@dataclass(frozen=True, slots=True)
class _Backing:
    """An evicted page in the shmem file, and where its version is."""

    page: EvictedPage
    va: VaPage
    slot: int


class DriverEnclave:
    """Pages of one enclave; the processor's lock guards everything but where it says otherwise.

    `maximum` holds, for each page, what a mapping of it may have at most. `areas` are the
    mappings (VMAs), by page number of the address space.
    """

    def __init__(self, cpu: Processor, secs: SecsPage, areas: RunMap) -> None:
        self.cpu = cpu
        self.secs = secs
        self.areas = areas
        self.maximum = RunMap()
        self.statistics = Statistics()
        self.reclaimer = Reclaimer.of(cpu)
        self._backing: dict[int, _Backing] = {}
        self._secs_backing: _Backing | None = None
        self._va_pages: list[VaPage] = []
        self._slots: list[tuple[VaPage, int]] = []
        self._base_page = secs.base // PAGE_SIZE
        self._next_fault = -1
        self._around = _LEAST_AROUND
        self._last_spurious = (-1, 0)
        secs.page_fault = self.page_fault

    # --- room in the EPC

    def make_room(self, count: int) -> None:
        """Wait until pages are free for `count` more of this enclave. The lock must not be held.

        Pages on their way into another enclave can be evicted a moment later, so one look at an
        EPC that others share is not enough. Raises OSError ENOMEM.
        """
        until = 0.0
        while True:
            with self.cpu.lock:
                needed = self._reserve(count)
                shared = self.cpu.epc.used > self.secs.resident + len(self._va_pages) + 1
                shared = shared and self.cpu.evicts
            if not needed:
                return
            if self.reclaimer.reclaim(needed):
                continue
            until = until or time.monotonic() + _PATIENCE
            if not shared or time.monotonic() > until:
                raise refusal(errno.ENOMEM, "the EPC is full, and nothing in it can be evicted")
            time.sleep(_PAUSE)

    def _reserve(self, count: int) -> int:
        """Make VA pages for `count` more pages; else return how many EPC pages must be free."""
        kept = self.secs.resident + len(self._backing) + count + 1  # and the SECS
        growth = max(-(-kept // VA_SLOTS) - len(self._va_pages), 0)
        if self.cpu.epc.free < count + growth:
            return count + growth
        for _ in range(growth):
            page = epa(self.cpu)
            self._va_pages.append(page)
            self._slots.extend((page, slot) for slot in reversed(range(VA_SLOTS)))
        return 0

    # --- mappings

    def entered(self, first: int, end: int) -> None:
        """Map pages that came into the EPC, and make them reclaimable."""
        base = self._base_page
        for start, stop, permission in self.areas.spans(base + first, base + end):
            if permission is not None:
                self.secs.translate(start - base, stop - base, permission)
        self.reclaimer.add(self, first, end)

    def may_map(self, first: int, end: int, protection: int) -> bool:
        """Return whether every page there is in a range allows a mapping with that protection."""
        return not any(
            most is not None and protection & ~most for _, _, most in self.maximum.spans(first, end)
        )

    def map_resident(self, first: int, end: int, protection: int | None) -> None:
        """Write the page-table entries of what is in the EPC; None unmaps."""
        if protection is None:
            self.secs.translate(first, end, None)
            return
        for start, stop, entry in self.secs.epcm.spans(first, end):
            if entry is not None and not entry & BLOCKED:
                self.secs.translate(start, stop, protection)

    # --- reclaim

    def block(self, first: int, end: int) -> list[Run]:
        """Unmap and EBLOCK what is in the EPC of a range; return those pages."""
        runs: list[Run] = []
        for start, stop, entry in self.secs.epcm.spans(first, end):
            if entry is None or entry & BLOCKED or not self.secs.valid:
                continue  # gone, or on its way out already
            self.secs.translate(start, stop, None)
            eblock_pages(self.cpu, self.secs, start, stop)
            runs.append((start, stop))
        return runs

    def write_back(self, runs: Sequence[Run]) -> list[Run]:
        """EWB pages that were blocked and tracked; return those that can't go just now.

        A thread that tries to enter by a blocked TCS or SSA frame uses it for that moment.
        """
        left: list[Run] = []
        if not self.secs.valid:
            return left  # lost meanwhile
        for first, end in runs:
            for start, stop, entry in self.secs.epcm.spans(first, end):
                if entry is None:
                    continue  # removed meanwhile
                try:
                    self._write_back(start, stop)
                except Fault as fault:
                    if fault.code is not ErrorCode.NOT_TRACKED:
                        raise
                    left.append((start, stop))
        if not self.secs.resident and self.secs.initialized:
            va, slot = self._slots.pop()
            self._secs_backing = _Backing(ewb_secs(self.cpu, self.secs, va, slot), va, slot)
        return left

    def _write_back(self, first: int, end: int) -> None:
        """EWB pages of equal state; those that are zero need no backing."""
        if ewb_zeros(self.cpu, self.secs, first, end):
            self.statistics.evicted += end - first
            return
        start = first
        for page in range(first, end):
            if not ewb_zeros(self.cpu, self.secs, page, page + 1):
                continue
            self.statistics.evicted += 1
            self._encrypt(start, page)
            start = page + 1
        self._encrypt(start, end)

    def _encrypt(self, first: int, end: int) -> None:
        """EWB pages of equal state into the shmem file."""
        if first == end:
            return
        slots = [self._slots.pop() for _ in range(first, end)]
        try:
            pages = ewb_pages(self.cpu, self.secs, first, end, slots)
        except Fault:
            self._slots.extend(slots)
            raise
        for page, evicted, (va, slot) in zip(range(first, end), pages, slots, strict=True):
            self._backing[page] = _Backing(evicted, va, slot)
        self.statistics.evicted += end - first

    # --- loading

    def load(self, page: int, most: int = 1) -> bool:
        """Bring a page, and up to `most` lazy ones after it, into the EPC. Lock not held.

        False where the enclave has no such page. Raises OSError ENOMEM, EIO.
        """
        while True:
            count = max(most, 1)
            with self.cpu.lock:
                if self.secs.epcm.get(page) is not None:
                    return True
                if self.secs.lazy.get(page) is None and page not in self._backing:
                    return False
                if self._secs_backing is not None:
                    count += 1
                if not self._reserve(count):
                    self._load(page, most)
                    return True
            self.make_room(count)

    def _load(self, page: int, most: int) -> None:
        """Load a page for which there is room."""
        try:
            if self._secs_backing is not None:
                backing, self._secs_backing = self._secs_backing, None
                eldu_secs(self.cpu, backing.page, backing.va, backing.slot)
                self._slots.append((backing.va, backing.slot))
            if page in self._backing:
                backing = self._backing[page]
                eldu(self.cpu, self.secs, backing.page, backing.va, backing.slot)
                del self._backing[page]
                self._slots.append((backing.va, backing.slot))
                self.statistics.loaded += 1
                self.entered(page, page + 1)
                return
            _, end, _ = self.secs.lazy.spans(page, page + most)[0]
            eldu_lazy(self.cpu, self.secs, page, end)
        except Fault as fault:
            raise refusal(errno.EIO, str(fault)) from fault
        self.statistics.committed += end - page
        self.entered(page, end)

    # --- faults

    def page_fault(self, address: int, error_code: int, function: int) -> bool:
        """Handle a page fault in ELRANGE as the kernel would: True to try again.

        `function` is the ENCLU leaf that faulted, as the vDSO reports it. The lock is not held.
        """
        del function
        if not self.secs.holds(address):
            return False
        page = self.secs.page(address)
        try:
            return self._handle(page, access_of(error_code))
        except OSError as error:
            _logger.warning("event=page_fault_not_handled address=%#x error=%s", address, error)
            return False

    def _handle(self, page: int, access: int) -> bool:
        """Handle a fault on a page: VMA, then page tables, then EPCM, then what is not there."""
        with self.cpu.lock:
            self.statistics.faults += 1
            area = self.areas.get(self._base_page + page)
            if area is None or area & access != access:
                return False
            entry = self.secs.epcm.get(page)
            if entry is not None and not entry & BLOCKED:
                return self._present(page, access, area)
            known = self.maximum.get(page)
            if known is not None and area & ~known:
                return False
            dynamic = known is None
            around = 1 if dynamic else self._window(page)
        if entry is not None:
            time.sleep(_PAUSE)  # it is on its way out: let it go, then load it again
            return True
        if dynamic:
            return self._augment(page)
        try:
            return self.load(page, around)
        except OSError as error:
            if around == 1 or error.errno != errno.ENOMEM:
                raise
        return self.load(page)

    def _present(self, page: int, access: int, area: int) -> bool:
        """Handle a fault on a page that is in the EPC."""
        if self.secs.mapping.table.get(page) is None:
            if not self.may_map(page, page + 1, area):
                return False
            self.secs.translate(page, page + 1, area)
            return True
        if page in self.secs.tcss:
            return self._spurious(page)
        allowed = self.secs.mapping.effective.get(page) or 0
        return bool(allowed & access) and self._spurious(page)

    def _spurious(self, page: int) -> bool:
        """Try again after a fault that somebody else has mended; not without end."""
        last, count = self._last_spurious
        self._last_spurious = (page, count + 1 if last == page else 1)
        return self._last_spurious[1] < _SPURIOUS

    def _window(self, page: int) -> int:
        """Return how many lazy pages to commit from here on: more as faults go upwards."""
        if page == self._next_fault:
            self._around = min(self._around * 2, _MOST_AROUND)
        else:
            self._around = _LEAST_AROUND
        most = max(self.cpu.epc.pages // _EPC_SHARE, 1)
        count = min(self._around, most)
        first_known = self.secs.lazy.spans(page, page + count)[0]
        end = first_known[1] if first_known[2] is not None else page + 1
        self._next_fault = end
        return end - page

    def _augment(self, page: int) -> bool:
        """EAUG a page that an initialised enclave touches and does not have."""
        if not self.secs.initialized:
            return False
        while True:
            with self.cpu.lock:
                if self.secs.epcm.get(page) is not None:
                    return True
                if not self._reserve(1):
                    try:
                        eaug(self.cpu, self.secs, self.secs.base + page * PAGE_SIZE)
                    except Fault:
                        return False
                    self.maximum.put(page, page + 1, RWX)
                    self.statistics.augmented += 1
                    self.entered(page, page + 1)
                    return True
            self.make_room(1)

    # --- the end

    def forget(self, page: int) -> None:
        """Free a page for good."""
        self.secs.translate(page, page + 1, None)
        eremove(self.cpu, self.secs, self.secs.base + page * PAGE_SIZE)
        self.maximum.put(page, page + 1, None)

    def release(self) -> None:
        """Free everything (sgx_encl_release). Raises Fault ENCLAVE_ACT while a thread is inside."""
        with self.cpu.lock:
            eremove_pages(self.cpu, self.secs)
            self.secs.core.enable(False)  # noqa: FBT003
            self.reclaimer.drop(self)
            self._backing.clear()
            eremove(self.cpu, self.secs, None)
            for va in self._va_pages:
                eremove_va(self.cpu, va)
            self._va_pages.clear()
            self._slots.clear()
