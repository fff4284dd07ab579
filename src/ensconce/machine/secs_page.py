# SPDX-License-Identifier: Apache-2.0
"""An enclave as the processor knows it: its SECS in the EPC and all that hangs on it."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from ensconce._core import Frame
from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.measurement import Measurement
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.secs import Secs
from ensconce.isa.ssa import Vector
from ensconce.isa.tcs import Tcs
from ensconce.machine.address_space import OWN_PROCESS, AddressSpace
from ensconce.machine.epc import (
    BLOCKED,
    EPOCH_SHIFT,
    MODIFIED,
    PENDING,
    TCS,
    TYPE,
    Epc,
    PageFaultCode,
    access_of,
    entry_epoch,
)
from ensconce.machine.mapping import Mapping
from ensconce.machine.runs import RunMap

__all__ = ["LeafCallback", "PageFaultHandler", "SecsPage"]

LeafCallback = Callable[["SecsPage", Frame], tuple[int, int, int] | None]
PageFaultHandler = Callable[[int, int, int], bool]

# TCS.STATE, CSSA
_TCS_STATE = struct.Struct("<Q")
_TCS_CSSA = struct.Struct("<I")
_CSSA_AT = Tcs.offset_of("cssa")
_CLOSED = PENDING | MODIFIED | BLOCKED


class SecsPage:
    """One enclave's SECS, EPCM entries, tracking and memory.

    `epcm` holds the entries of pages in the EPC. `lazy` holds the pages that were added and never
    touched: architecturally they were evicted at once, so they take no EPC and can be loaded.
    `evicted` marks the pages that EWB has taken. Page numbers are within ELRANGE. All of it
    belongs to the processor's lock, but `measurement`, which belongs to whoever is `building`.
    """

    __slots__ = (
        "_building",
        "alias",
        "attributes",
        "base",
        "core",
        "eid",
        "epc",
        "epcm",
        "evicted",
        "initialized",
        "isv_ext_prod_id",
        "isv_family_id",
        "lazy",
        "mapping",
        "measurement",
        "memory",
        "page_fault",
        "report_prefix",
        "secs",
        "size",
        "tcss",
        "unnarrowed",
        "valid",
        "xfrm",
    )

    def __init__(
        self,
        secs: Secs,
        eid: int,
        epc: Epc,
        leaf: LeafCallback,
        space: AddressSpace = OWN_PROCESS,
    ) -> None:
        self.secs = secs
        self.eid = eid
        self.epc = epc
        self.base = secs.base_addr
        self.size = secs.size
        self.attributes = int(secs.attributes.flags)
        self.xfrm = int(secs.attributes.xfrm)
        self.isv_family_id = bytes(16)
        self.isv_ext_prod_id = bytes(16)
        self.report_prefix = b""
        self.initialized = False
        self.valid = True
        self.measurement = Measurement(secs.size, secs.ssa_frame_size)
        self._building = Lock()
        self.epcm = RunMap()
        self.lazy = RunMap()
        self.evicted = RunMap()
        self.unnarrowed = RunMap()
        self.tcss: dict[int, Tcs] = {}
        self.page_fault: PageFaultHandler = _no_handler
        self.memory, self.core = space.open(
            secs, lambda frame: leaf(self, frame), self._on_page_fault
        )
        self.alias = self.memory.alias_view(0, secs.size)
        self.mapping = Mapping(self.memory, self.epcm)

    def _on_page_fault(self, address: int, error_code: int, function: int) -> bool | int:
        """Let system software handle a page fault; else return the error code to deliver."""
        if self.page_fault(address, error_code, function):
            return True
        if not self.holds(address):
            return error_code
        page = self.page(address)
        access = access_of(error_code)
        if not self.valid:  # the page tables still point there, and nothing is
            return error_code | PageFaultCode.P | PageFaultCode.U | PageFaultCode.SGX
        if (self.mapping.effective.get(page) or 0) & access:
            return error_code  # refused by something else, such as a protection key
        return self.mapping.fault_code(page, access)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Keep EADD, EEXTEND and EINIT of one enclave apart; a second at a time is #GP."""
        if not self._building.acquire(blocking=False):
            raise Fault(Vector.GP, "another leaf is changing the enclave's measurement")
        try:
            yield
        finally:
            self._building.release()

    @property
    def debug(self) -> bool:
        """Whether ATTRIBUTES.DEBUG lets debuggers in."""
        return bool(self.attributes & AttributeFlags.DEBUG)

    @property
    def resident(self) -> int:
        """The enclave's pages in the EPC, the SECS not counted."""
        return self.epcm.pages

    def holds(self, address: int) -> bool:
        """Return whether a linear address is within ELRANGE."""
        return 0 <= address - self.base < self.size

    def page(self, address: int) -> int:
        """Return the page number of a linear address within ELRANGE."""
        return (address - self.base) // PAGE_SIZE

    def content(self, page: int) -> memoryview:
        """Return the 4,096 bytes of a page in the EPC, writable."""
        return self.alias[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]

    def put(self, first: int, end: int, entry: int | None) -> None:
        """Write EPCM entries (None: VALID = 0), keep the EPC's count, and put them in force."""
        held = sum(
            stop - start for start, stop, old in self.epcm.spans(first, end) if old is not None
        )
        wanted = 0 if entry is None else end - first
        if wanted > held:
            self.epc.take(wanted - held)
        else:
            self.epc.give(held - wanted)
        self.epcm.put(first, end, entry)
        self.mapping.refresh(first, end)
        if self.tcss:
            self._gate(first, end)

    def translate(self, first: int, end: int, permission: int | None) -> None:
        """Write page-table entries (None clears them), which is system software's to do."""
        self.mapping.enter(first, end, permission)
        if self.tcss:
            self._gate(first, end)

    def stamp(self, entry: int) -> int:
        """Return an EPCM entry marked with the enclave's present epoch."""
        return entry & (1 << EPOCH_SHIFT) - 1 | self.core.epoch << EPOCH_SHIFT

    def tracked(self, entry: int) -> bool:
        """Return whether every thread that could still use an older translation has left.

        True after an ETRACK later than the entry's epoch, once all threads that were inside then
        have exited (SDM vol. 3D, 38.5.3).
        """
        marked = entry_epoch(entry)
        return self.core.epoch > marked and not self.core.inside_before(marked + 1)

    def pins(self) -> list[tuple[int, int]]:
        """Return the pages, as ranges, that threads inside have as TCS or as next SSA frame.

        The core saves state there without asking again, also of a thread that is in a leaf.
        """
        ranges = []
        frame = self.secs.ssa_frame_size
        for page, tcs in list(self.tcss.items()):
            cssa, busy, _ = self.core.tcs(page * PAGE_SIZE)
            if busy:
                first = tcs.ossa // PAGE_SIZE + cssa * frame
                ranges += [(page, page + 1), (first, first + frame)]
        return ranges

    def pinned(self, first: int, end: int) -> bool:
        """Return whether a thread inside has a page of a range as TCS or as next SSA frame."""
        return any(start < end and first < stop for start, stop in self.pins())

    def active(self) -> int:
        """Return the number of threads inside the enclave."""
        return self.core.inside_before(self.core.epoch + 1)

    # --- TCS pages: the core runs them, these keep it and the page in step

    def load_tcs(self, page: int) -> None:
        """Tell the core of the TCS in a page that became accessible."""
        tcs = Tcs.parse(self.content(page))
        self.tcss[page] = tcs
        self.core.set_tcs(
            page * PAGE_SIZE,
            flags=int(tcs.flags),
            ossa=tcs.ossa,
            nssa=tcs.nssa,
            cssa=tcs.cssa,
            oentry=tcs.oentry,
            ofsbase=tcs.ofs_base,
            ogsbase=tcs.ogs_base,
        )
        self._gate(page, page + 1)

    def store_tcs(self, page: int) -> None:
        """Write the core's CSSA and STATE into a TCS's page."""
        cssa, busy, _ = self.core.tcs(page * PAGE_SIZE)
        content = self.content(page)
        _TCS_STATE.pack_into(content, 0, int(busy))
        _TCS_CSSA.pack_into(content, _CSSA_AT, cssa)

    def drop_tcs(self, page: int) -> None:
        """Tell the core that a page holds no TCS any more."""
        if page not in self.tcss:
            return
        if self.pinned(page, page + 1):
            raise Fault(Vector.GP, "a thread runs on the TCS")
        del self.tcss[page]
        self.core.remove_tcs(page * PAGE_SIZE)

    def _gate(self, first: int, end: int) -> None:
        """Let threads enter the TCSs in a range just where page tables and EPCM allow it."""
        for page in [page for page in self.tcss if first <= page < end]:
            entry = self.epcm.get(page)
            usable = entry is not None and entry & (TYPE | _CLOSED) == TCS
            present = self.mapping.table.get(page) is not None
            self.core.block_tcs(page * PAGE_SIZE, not (usable and present))

    def close(self) -> None:
        """Give the core's objects back; no thread may be inside."""
        self.core.close()
        self.alias.release()
        self.memory.close()


def _no_handler(address: int, error_code: int, function: int) -> bool:
    """Leave a page fault to the program: no system software has taken the enclave on."""
    del address, error_code, function
    return False
