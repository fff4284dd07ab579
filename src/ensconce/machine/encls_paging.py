# SPDX-License-Identifier: Apache-2.0
"""ENCLS leaves that move pages between the EPC and memory (SDM vol. 3D, 38.5, 40.3).

EPA, EBLOCK, ETRACK, ETRACKC, EWB, ELDB, ELDU. An evicted page is AES-GCM with a key that lives
as long as the processor is powered; its version goes into a slot of a VA page, and a page
loads only with the version in the slot, which is emptied by it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.paging import VA_SLOTS, Pcmd
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfo, SecInfoFlags, page_type
from ensconce.isa.ssa import Vector
from ensconce.machine.epc import BLOCKED, PERMISSIONS, REG, SECINFO_MASK, TCS, TYPE, VaPage
from ensconce.machine.narrowing import narrow_loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ensconce.machine.processor import Processor
    from ensconce.machine.secs_page import SecsPage

__all__ = [
    "EvictedPage",
    "eblock",
    "eblock_pages",
    "eldb",
    "eldu",
    "eldu_lazy",
    "eldu_secs",
    "eldu_va",
    "epa",
    "eremove_va",
    "etrack",
    "etrackc",
    "ewb",
    "ewb_pages",
    "ewb_secs",
    "ewb_va",
    "ewb_zeros",
]

_MAC_BYTES = 16
# MAC header: SECINFO.FLAGS, EID, LINADDR; the rest of its 128 bytes is zero
_HEADER = struct.Struct("<Q56xQQ48x")
_VERSIONS = struct.Struct(f"<{VA_SLOTS}Q")
_SECS_BLOB = struct.Struct("<Q4088x")
_X = int(SecInfoFlags.X)
_PROBE = 64


@dataclass(frozen=True, slots=True)
class EvictedPage:
    """What EWB leaves in memory: 4,096 bytes of ciphertext, PCMD, and the page's LINADDR.

    `slot_was_occupied` is RAX = VA_SLOT_OCCUPIED: the version that was there is lost.
    """

    content: bytes
    pcmd: Pcmd
    lin_addr: int = 0
    slot_was_occupied: bool = False


def epa(cpu: Processor) -> VaPage:
    """Make a version array page. Raises Fault #PF where no EPC page is free."""
    with cpu.lock:
        cpu.epc.take(1)
        page = VaPage()
        cpu.va_pages.add(page)
        return page


def eremove_va(cpu: Processor, page: VaPage) -> None:
    """Free a version array page; whatever has its version there can never be loaded again."""
    with cpu.lock:
        if page.valid:
            page.valid = False
            cpu.va_pages.discard(page)
            cpu.epc.give(1)


def eblock(cpu: Processor, secs: SecsPage, address: int | None) -> None:
    """Mark a page so that no new translation to it is made; None names the SECS.

    Raises Fault #GP, #PF or a code: PG_INVLD, PG_IS_SECS, BLKSTATE.
    """
    if address is None:
        raise Fault(ErrorCode.PG_IS_SECS, "EBLOCK: a SECS can't be blocked")
    with cpu.lock:
        page, entry = _entry(secs, address, "EBLOCK")
        if entry is None:
            raise Fault(ErrorCode.PG_INVLD, f"EBLOCK: no page is at {address:#x}")
        if entry & BLOCKED:
            raise Fault(ErrorCode.BLKSTATE, f"EBLOCK: the page at {address:#x} is blocked already")
        secs.put(page, page + 1, secs.stamp(entry | BLOCKED))


def eblock_pages(cpu: Processor, secs: SecsPage, first: int, end: int) -> None:
    """Block pages, by number: the same as EBLOCK of each. Raises Fault PG_INVLD, BLKSTATE."""
    with cpu.lock:
        spans = secs.epcm.spans(first, end)
        for _, _, entry in spans:
            if entry is None:
                raise Fault(ErrorCode.PG_INVLD, "EBLOCK: a page is not in the EPC")
            if entry & BLOCKED:
                raise Fault(ErrorCode.BLKSTATE, "EBLOCK: a page is blocked already")
        for start, stop, entry in spans:
            secs.put(start, stop, secs.stamp((entry or 0) | BLOCKED))


def etrack(cpu: Processor, secs: SecsPage) -> None:
    """Begin to track the threads that are inside now. Raises Fault #PF, PREV_TRK_INCMPL."""
    with cpu.lock:
        if not secs.valid:
            raise Fault(Vector.PF, "ETRACK: the SECS is not in the EPC", address=secs.base)
        if secs.core.inside_before(secs.core.epoch):
            raise Fault(ErrorCode.PREV_TRK_INCMPL, "ETRACK: threads are inside since the last one")
        secs.core.advance_epoch()


def etrackc(cpu: Processor, secs: SecsPage, address: int | None) -> None:
    """Begin to track as ETRACK does, named by any page of the enclave; None names the SECS.

    Raises Fault #GP, #PF or a code: PG_INVLD, PREV_TRK_INCMPL.
    """
    if address is not None:
        _, entry = _entry(secs, address, "ETRACKC")
        if entry is None:
            raise Fault(ErrorCode.PG_INVLD, f"ETRACKC: no page is at {address:#x}")
    etrack(cpu, secs)


def ewb(cpu: Processor, secs: SecsPage, address: int, va: VaPage, slot: int) -> EvictedPage:
    """Evict a blocked and tracked page. Raises Fault #GP, #PF or a code.

    Codes: PAGE_NOT_BLOCKED, NOT_TRACKED. VA_SLOT_OCCUPIED is told in what is returned, since
    the page is evicted none the less.
    """
    with cpu.lock:
        page, entry = _entry(secs, address, "EWB")
        if entry is None:
            raise Fault(Vector.PF, f"EWB: no page is at {address:#x}", address=address)
        _check_slot(va, slot)
        _check_evictable(secs, page, page + 1, entry)
        return _evict(cpu, secs, page, page + 1, entry, [(va, slot)])[0]


def ewb_pages(
    cpu: Processor, secs: SecsPage, first: int, end: int, slots: Sequence[tuple[VaPage, int]]
) -> list[EvictedPage]:
    """Evict pages of equal state, by number: the same as EWB of each. Raises as EWB."""
    with cpu.lock:
        entry = _uniform(secs, first, end)
        for va, slot in slots:
            _check_slot(va, slot)
        _check_evictable(secs, first, end, entry)
        return _evict(cpu, secs, first, end, entry, slots)


def ewb_zeros(cpu: Processor, secs: SecsPage, first: int, end: int) -> bool:
    """Evict regular pages, by number, if all of them are zero; False where one is not.

    The counterpart of `eldu_lazy`: that a page is zero is remembered instead of its ciphertext
    and version. Raises as EWB.
    """
    with cpu.lock:
        entry = _uniform(secs, first, end)
        flags = entry & SECINFO_MASK
        if flags & ~(PERMISSIONS | TYPE) or flags & TYPE != REG:
            return False
        _check_evictable(secs, first, end, entry)
        # through the file: the alias would have each page mapped only to be read once
        size = (end - first) * PAGE_SIZE
        if any(os.pread(secs.memory.fd, _PROBE, first * PAGE_SIZE)):
            return False
        if os.pread(secs.memory.fd, size, first * PAGE_SIZE) != bytes(size):
            return False
        secs.put(first, end, None)
        secs.lazy.put(first, end, flags)
        secs.memory.discard(first * PAGE_SIZE, size)
        return True


def _uniform(secs: SecsPage, first: int, end: int) -> int:
    """Return the EPCM entry that all pages of a range have. Raises Fault #PF."""
    spans = secs.epcm.spans(first, end)
    if len(spans) != 1 or spans[0][2] is None:
        raise Fault(Vector.PF, "EWB: not pages of one state")
    return spans[0][2]


def _check_evictable(secs: SecsPage, first: int, end: int, entry: int) -> None:
    """Check that EBLOCK and ETRACK have done their work."""
    if not entry & BLOCKED:
        raise Fault(ErrorCode.PAGE_NOT_BLOCKED, f"EWB: page {first:#x} is not blocked")
    if not secs.tracked(entry) or secs.pinned(first, end):
        raise Fault(ErrorCode.NOT_TRACKED, "EWB: threads that knew the page are still inside")


def _evict(
    cpu: Processor,
    secs: SecsPage,
    first: int,
    end: int,
    entry: int,
    slots: Sequence[tuple[VaPage, int]],
) -> list[EvictedPage]:
    """Encrypt pages and make them invalid."""
    flags = entry & SECINFO_MASK
    evicted = []
    for page, (va, slot) in zip(range(first, end), slots, strict=True):
        if flags & TYPE == TCS:
            secs.store_tcs(page)
        address = secs.base + page * PAGE_SIZE
        evicted.append(_encrypt(cpu, secs.content(page), flags, secs.eid, address, va, slot))
        secs.drop_tcs(page)
    secs.put(first, end, None)
    secs.evicted.put(first, end, flags)
    secs.memory.discard(first * PAGE_SIZE, (end - first) * PAGE_SIZE)
    return evicted


def eldu(cpu: Processor, secs: SecsPage, evicted: EvictedPage, va: VaPage, slot: int) -> None:
    """Load an evicted page. Raises Fault #GP, #PF, MAC_COMPARE_FAIL (altered, or replayed)."""
    _load(cpu, secs, evicted, va, slot, 0)


def eldb(cpu: Processor, secs: SecsPage, evicted: EvictedPage, va: VaPage, slot: int) -> None:
    """Load an evicted page as blocked. Raises as ELDU."""
    _load(cpu, secs, evicted, va, slot, BLOCKED)


def _load(
    cpu: Processor, secs: SecsPage, evicted: EvictedPage, va: VaPage, slot: int, blocked: int
) -> None:
    """Check, decrypt and enter an evicted page."""
    address = evicted.lin_addr
    flags = int(evicted.pcmd.secinfo.flags)
    if address % PAGE_SIZE or not secs.holds(address):
        raise Fault(Vector.GP, f"ELDU: LINADDR {address:#x} is not a page of the enclave")
    if evicted.pcmd.reserved_nonzero() or page_type(flags) not in (
        PageType.REG,
        PageType.TCS,
        PageType.TRIM,
    ):
        raise Fault(Vector.GP, "ELDU: PCMD is not that of an enclave's page")
    with cpu.lock:
        _check_slot(va, slot)
        if not secs.valid:
            raise Fault(Vector.PF, "ELDU: the SECS is not in the EPC", address=secs.base)
        page = secs.page(address)
        if secs.epcm.get(page) is not None:
            raise Fault(Vector.PF, f"ELDU: a page is at {address:#x}", address=address)
        plain = _decrypt(cpu, evicted, secs.eid, va, slot)
        if cpu.epc.free < 1:
            raise Fault(Vector.PF, "ELDU: no EPC page is free")
        secs.content(page)[:] = plain
        va.slots[slot] = 0
        secs.evicted.put(page, page + 1, None)
        secs.put(page, page + 1, secs.stamp(flags | blocked) if blocked else flags)
        _loaded(secs, page, page + 1, flags)


def eldu_lazy(cpu: Processor, secs: SecsPage, first: int, end: int) -> None:
    """Load pages, by number, that `eadd_lazy` added: zeros, each page once. Raises Fault #PF."""
    with cpu.lock:
        if not secs.valid:
            raise Fault(Vector.PF, "ELDU: the SECS is not in the EPC", address=secs.base)
        spans = secs.lazy.spans(first, end)
        if any(flags is None for _, _, flags in spans):
            raise Fault(Vector.PF, "ELDU: a page was not added lazily, or is loaded already")
        if cpu.epc.free < end - first:
            raise Fault(Vector.PF, f"ELDU: no {end - first} EPC pages are free")
        secs.lazy.put(first, end, None)
        for start, stop, flags in spans:
            secs.put(start, stop, flags)
            _loaded(secs, start, stop, flags or 0)


def _loaded(secs: SecsPage, first: int, end: int, flags: int) -> None:
    """Settle what hangs on pages that came into the EPC: TCSs, XSAVE masks."""
    if flags & TYPE == TCS:
        for page in range(first, end):
            secs.load_tcs(page)
    if flags & _X and secs.unnarrowed.overlaps(first, end):
        narrow_loaded(secs, first, end)


def ewb_secs(cpu: Processor, secs: SecsPage, va: VaPage, slot: int) -> EvictedPage:
    """Evict a SECS. Raises Fault #GP, #PF, CHILD_PRESENT."""
    with cpu.lock:
        _check_slot(va, slot)
        if not secs.valid:
            raise Fault(Vector.PF, "EWB: the SECS is not in the EPC")
        if secs.resident:
            raise Fault(ErrorCode.CHILD_PRESENT, "EWB: the enclave has pages in the EPC")
        evicted = _encrypt(
            cpu, _SECS_BLOB.pack(secs.eid), PageType.SECS << 8, 0, 0, va, slot, owner=secs.eid
        )
        secs.valid = False
        cpu.epc.give(1)
        return evicted


def eldu_secs(cpu: Processor, evicted: EvictedPage, va: VaPage, slot: int) -> SecsPage:
    """Load an evicted SECS and return it. Raises Fault #GP, #PF, MAC_COMPARE_FAIL."""
    if int(evicted.pcmd.secinfo.flags) != PageType.SECS << 8:
        raise Fault(Vector.GP, "ELDU: PCMD is not that of a SECS")
    with cpu.lock:
        _check_slot(va, slot)
        (eid,) = _SECS_BLOB.unpack(_decrypt(cpu, evicted, 0, va, slot))
        secs = cpu.enclaves[eid]
        cpu.epc.take(1)
        va.slots[slot] = 0
        secs.valid = True
        return secs


def ewb_va(cpu: Processor, page: VaPage, va: VaPage, slot: int) -> EvictedPage:
    """Evict a version array page into a slot of another. Raises Fault #GP, #PF."""
    if page is va:
        raise Fault(Vector.GP, "EWB: a VA page can't hold its own version")
    with cpu.lock:
        _check_slot(va, slot)
        if not page.valid:
            raise Fault(Vector.PF, "EWB: the VA page is not in the EPC")
        evicted = _encrypt(cpu, _VERSIONS.pack(*page.slots), PageType.VA << 8, 0, 0, va, slot)
        page.valid = False
        cpu.va_pages.discard(page)
        cpu.epc.give(1)
        return evicted


def eldu_va(cpu: Processor, evicted: EvictedPage, va: VaPage, slot: int) -> VaPage:
    """Load an evicted version array page. Raises Fault #GP, #PF, MAC_COMPARE_FAIL."""
    if int(evicted.pcmd.secinfo.flags) != PageType.VA << 8:
        raise Fault(Vector.GP, "ELDU: PCMD is not that of a VA page")
    with cpu.lock:
        _check_slot(va, slot)
        plain = _decrypt(cpu, evicted, 0, va, slot)
        page = epa(cpu)
        page.slots[:] = _VERSIONS.unpack(plain)
        va.slots[slot] = 0
        return page


def _entry(secs: SecsPage, address: int, leaf: str) -> tuple[int, int | None]:
    """Return the page number and EPCM entry of a leaf's RCX. Raises Fault #GP, #PF."""
    if address % PAGE_SIZE:
        raise Fault(Vector.GP, f"{leaf}: {address:#x} is not aligned to a page")
    if not secs.holds(address):
        raise Fault(Vector.PF, f"{leaf}: no EPC page is at {address:#x}", address=address)
    page = secs.page(address)
    return page, secs.epcm.get(page)


def _check_slot(va: VaPage, slot: int) -> None:
    """Check that a slot is one of a valid VA page."""
    if not 0 <= slot < VA_SLOTS:
        raise Fault(Vector.GP, f"a VA page has no slot {slot}")
    if not va.valid:
        raise Fault(Vector.PF, "the VA page is not in the EPC")


def _encrypt(
    cpu: Processor,
    plain: bytes | memoryview,
    flags: int,
    eid: int,
    lin_addr: int,
    va: VaPage,
    slot: int,
    *,
    owner: int = 0,
) -> EvictedPage:
    """Encrypt a page, put its version into a slot, and return what goes to memory."""
    version = cpu.next_version()
    sealed = AESGCM(cpu.paging_key).encrypt(
        (version << 32).to_bytes(12, "little"), plain, _HEADER.pack(flags, eid, lin_addr)
    )
    occupied = bool(va.slots[slot])
    va.slots[slot] = version
    pcmd = Pcmd(SecInfo(SecInfoFlags(flags)), eid or owner, mac=sealed[-_MAC_BYTES:])
    return EvictedPage(sealed[:-_MAC_BYTES], pcmd, lin_addr, occupied)


def _decrypt(cpu: Processor, evicted: EvictedPage, eid: int, va: VaPage, slot: int) -> bytes:
    """Return an evicted page's content. Raises Fault MAC_COMPARE_FAIL."""
    header = _HEADER.pack(int(evicted.pcmd.secinfo.flags), eid, evicted.lin_addr)
    nonce = (va.slots[slot] << 32 & (1 << 96) - 1).to_bytes(12, "little")
    try:
        return AESGCM(cpu.paging_key).decrypt(nonce, evicted.content + evicted.pcmd.mac, header)
    except InvalidTag:
        raise Fault(
            ErrorCode.MAC_COMPARE_FAIL, "ELDU: the page was altered, or is not the latest"
        ) from None
