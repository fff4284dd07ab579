# SPDX-License-Identifier: Apache-2.0
"""ENCLS leaves that build and destroy an enclave: ECREATE, EADD, EEXTEND, EREMOVE (SDM 40.3)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.measurement import CHUNK_SIZE
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfo, SecInfoFlags, page_type
from ensconce.isa.ssa import ExInfo, GprSgx, Vector, xsave_size
from ensconce.isa.tcs import Tcs
from ensconce.machine.address_space import OWN_PROCESS
from ensconce.machine.epc import MODIFIED, PERMISSIONS, REG, TCS, TRIM, TYPE
from ensconce.machine.secs_page import SecsPage

if TYPE_CHECKING:
    from ensconce.isa.secs import Secs
    from ensconce.machine.address_space import AddressSpace
    from ensconce.machine.processor import Processor

__all__ = ["eadd", "eadd_lazy", "eadd_pages", "ecreate", "eextend", "eremove", "eremove_pages"]

_CANONICAL = 1 << 47
_MODE64 = AttributeFlags.MODE64BIT
_LIMIT = 0xFFF


def ecreate(
    cpu: Processor, secs: Secs, secinfo: SecInfo, space: AddressSpace = OWN_PROCESS
) -> SecsPage:
    """Make a SECS page out of a SECS and return it. Raises Fault #GP, #PF (no EPC page left).

    `space` is the process whose threads will enter the enclave.
    """
    if secinfo.reserved_nonzero() or int(secinfo.flags) != PageType.SECS << 8:
        raise Fault(Vector.GP, "ECREATE: SECINFO is not that of a SECS page")
    if cpu.epc.free < 1:
        raise Fault(Vector.PF, "ECREATE: no EPC page is free")
    check_secs(cpu, secs)
    with cpu.lock:
        cpu.epc.take(1)
        try:
            page = SecsPage(
                dataclasses.replace(
                    secs, mr_enclave=bytes(32), mr_signer=bytes(32), isv_prod_id=0, isv_svn=0
                ),
                cpu.next_eid(),
                cpu.epc,
                cpu.user_leaf,
                space,
            )
        except BaseException:
            cpu.epc.give(1)
            raise
        cpu.enclaves[page.eid] = page
        return page


def check_secs(cpu: Processor, secs: Secs) -> None:
    """Check a SECS as ECREATE does. Raises Fault #GP."""
    _check_frame(cpu, secs)
    _check_range(cpu, secs)
    _check_attributes(cpu, secs)


def _check_frame(cpu: Processor, secs: Secs) -> None:
    """Check XFRM, MISCSELECT and that an SSA frame holds what they select."""
    if not secs.attributes.xfrm.legal:
        raise Fault(Vector.GP, f"ECREATE: XFRM {int(secs.attributes.xfrm):#x} is illegal")
    if int(secs.misc_select) & ~int(cpu.cpuid.misc_select):
        raise Fault(Vector.GP, f"ECREATE: MISCSELECT {int(secs.misc_select):#x} is unsupported")
    needed = xsave_size(int(secs.attributes.xfrm)) + GprSgx.SIZE
    needed += ExInfo.SIZE if secs.misc_select else 0
    if secs.ssa_frame_size * PAGE_SIZE < needed:
        raise Fault(
            Vector.GP, f"ECREATE: SSAFRAMESIZE {secs.ssa_frame_size} can't hold {needed} bytes"
        )


def _check_range(cpu: Processor, secs: Secs) -> None:
    """Check BASEADDR and SIZE."""
    if secs.attributes.flags & _MODE64:
        outside = secs.base_addr >= _CANONICAL  # ring 3 has the lower half
        limit = cpu.cpuid.max_enclave_size_64
    else:
        outside = secs.base_addr >> 32 != 0
        limit = cpu.cpuid.max_enclave_size_not64
    if outside:
        raise Fault(Vector.GP, f"ECREATE: BASEADDR {secs.base_addr:#x} is not canonical")
    if secs.size >= 1 << limit:
        raise Fault(Vector.GP, f"ECREATE: SIZE {secs.size:#x} is at or over 2^{limit}")
    if secs.size < 2 * PAGE_SIZE or secs.size & secs.size - 1:
        raise Fault(Vector.GP, f"ECREATE: SIZE {secs.size:#x} is no power of two from 8 KiB up")
    if secs.base_addr & secs.size - 1:
        raise Fault(Vector.GP, f"ECREATE: BASEADDR {secs.base_addr:#x} is not aligned to SIZE")


def _check_attributes(cpu: Processor, secs: Secs) -> None:
    """Check ATTRIBUTES, CET, reserved fields and that KSS fields come with KSS."""
    allowed = cpu.cpuid.attributes
    flags = int(secs.attributes.flags) & ~int(allowed.flags)
    xfrm = int(secs.attributes.xfrm) & ~int(allowed.xfrm)
    if flags or xfrm:
        raise Fault(Vector.GP, f"ECREATE: ATTRIBUTES {flags:#x}, XFRM {xfrm:#x} unsupported")
    if secs.cet_attributes or secs.cet_leg_bitmap_offset:
        raise Fault(Vector.GP, "ECREATE: CET is unsupported")
    reserved = secs.reserved_nonzero()
    if reserved:
        raise Fault(Vector.GP, f"ECREATE: SECS.{reserved[0]} is not zero")
    kss = secs.attributes.flags & AttributeFlags.KSS
    if not kss and (secs.config_svn or any(secs.config_id)):
        raise Fault(Vector.GP, "ECREATE: CONFIGID and CONFIGSVN need ATTRIBUTES.KSS")


def eadd(cpu: Processor, secs: SecsPage, lin_addr: int, secinfo: SecInfo, source: bytes) -> None:
    """Add one page with the 4,096 bytes of `source`. Raises Fault #GP, #PF."""
    if len(source) != PAGE_SIZE:
        raise ValueError(f"EADD copies {PAGE_SIZE} bytes, not {len(source)}")
    with secs.building():
        with cpu.lock:
            _check_add(secs, lin_addr, 1, secinfo)
            page = secs.page(lin_addr)
            secs.content(page)[:] = source
            _enter(secs, page, 1, secinfo)
        secs.measurement.add(lin_addr - secs.base, int(secinfo.flags))


def eadd_pages(
    cpu: Processor, secs: SecsPage, lin_addr: int, secinfo: SecInfo, count: int, *, extend: bool
) -> None:
    """Add consecutive pages whose contents system software has put into the EPC memory already.

    The same as for each page EADD and, with `extend`, sixteen EEXTENDs. Raises Fault #GP, #PF.
    """
    with secs.building():
        with cpu.lock:
            _check_add(secs, lin_addr, count, secinfo)
            page = secs.page(lin_addr)
            _enter(secs, page, count, secinfo)
        offset = lin_addr - secs.base
        pages = secs.alias[offset : offset + count * PAGE_SIZE] if extend else None
        secs.measurement.add_pages(offset, int(secinfo.flags), pages, count)


def eadd_lazy(cpu: Processor, secs: SecsPage, lin_addr: int, secinfo: SecInfo, count: int) -> None:
    """Add consecutive zero pages and evict them at once: measured, and no EPC taken until loaded.

    The same as for each page EADD of zeros, EBLOCK, ETRACK, EWB; `encls_paging.eldu_lazy` is
    the ELDU that brings such pages back, once. TCS pages can't come this way.
    Raises Fault #GP, #PF.
    """
    with secs.building():
        with cpu.lock:
            _check_add(secs, lin_addr, count, secinfo)
            if page_type(int(secinfo.flags)) != PageType.REG:
                raise Fault(Vector.GP, "EADD: only regular pages can be added lazily")
            page = secs.page(lin_addr)
            secs.lazy.put(page, page + count, int(secinfo.flags))
        secs.measurement.add_pages(lin_addr - secs.base, int(secinfo.flags), None, count)


def _check_add(secs: SecsPage, lin_addr: int, count: int, secinfo: SecInfo) -> None:
    """Check EADD's operands, in the manual's order as far as they are seen here."""
    if lin_addr % PAGE_SIZE:
        raise Fault(Vector.GP, f"EADD: LINADDR {lin_addr:#x} is not aligned to a page")
    flags = int(secinfo.flags)
    kind = page_type(flags)
    if secinfo.reserved_nonzero() or flags & ~(PERMISSIONS | TYPE):
        raise Fault(Vector.GP, "EADD: a reserved bit of SECINFO is set")
    if kind not in (PageType.REG, PageType.TCS):
        raise Fault(Vector.GP, f"EADD: page type {kind} can't be added")
    if not secs.valid:
        raise Fault(Vector.PF, "EADD: the SECS is not in the EPC", address=secs.base)
    if kind == PageType.REG and flags & SecInfoFlags.W and not flags & SecInfoFlags.R:
        raise Fault(Vector.GP, "EADD: a page can't be writable and not readable")
    last = lin_addr + (count - 1) * PAGE_SIZE
    if count < 1 or not (secs.holds(lin_addr) and secs.holds(last)):
        raise Fault(Vector.GP, f"EADD: LINADDR {lin_addr:#x} is outside ELRANGE")
    if secs.initialized:
        raise Fault(Vector.GP, "EADD: the enclave is initialised")
    page = secs.page(lin_addr)
    for known in (secs.epcm, secs.lazy, secs.evicted):
        if known.overlaps(page, page + count):
            raise Fault(Vector.PF, "EADD: the page is there already", address=lin_addr)


def _enter(secs: SecsPage, page: int, count: int, secinfo: SecInfo) -> None:
    """Check and settle TCS contents, then write the EPCM entries."""
    flags = int(secinfo.flags)
    if flags & TYPE == TCS:
        flags &= ~PERMISSIONS
        for each in range(page, page + count):
            _settle_tcs(secs, each)
    secs.put(page, page + count, flags)
    if flags & TYPE == TCS:
        for each in range(page, page + count):
            secs.load_tcs(each)


def _settle_tcs(secs: SecsPage, page: int) -> None:
    """Check an added TCS and clear what the processor owns of it: STATE, CSSA, AEP, DBGOPTIN."""
    content = secs.content(page)
    tcs = Tcs.parse(content)
    if tcs.reserved_nonzero():
        raise Fault(Vector.GP, "EADD: a reserved field of the TCS is not zero")
    check_limits(secs, tcs)
    if tcs.prev_ssp:
        raise Fault(Vector.GP, "EADD: TCS.PREVSSP is not zero")
    if tcs.stage or tcs.cssa or tcs.aep or tcs.flags & 1:
        settled = dataclasses.replace(
            tcs, stage=0, cssa=0, aep=0, flags=type(tcs.flags)(tcs.flags & ~1)
        )
        content[:] = bytes(settled)


def check_limits(secs: SecsPage, tcs: Tcs) -> None:
    """Check FSLIMIT and GSLIMIT, which only enclaves outside 64-bit mode use."""
    if secs.attributes & _MODE64:
        return
    if tcs.fs_limit & _LIMIT != _LIMIT or tcs.gs_limit & _LIMIT != _LIMIT:
        raise Fault(Vector.GP, "TCS: FSLIMIT and GSLIMIT must end in 0xfff")


def eextend(cpu: Processor, secs: SecsPage, address: int) -> None:
    """Measure 256 bytes of a page. Raises Fault #GP, #PF."""
    if address % CHUNK_SIZE:
        raise Fault(Vector.GP, f"EEXTEND: {address:#x} is not aligned to {CHUNK_SIZE} bytes")
    with secs.building():
        with cpu.lock:
            entry = secs.epcm.get(secs.page(address)) if secs.holds(address) else None
            if entry is None or entry & TYPE not in (REG, TCS):
                raise Fault(Vector.PF, "EEXTEND: no page is there", address=address)
            if not secs.valid:
                raise Fault(Vector.PF, "EEXTEND: the SECS is not in the EPC", address=address)
            if secs.initialized:
                raise Fault(Vector.GP, "EEXTEND: the enclave is initialised")
            offset = address - secs.base
            chunk = bytes(secs.alias[offset : offset + CHUNK_SIZE])
        secs.measurement.extend(offset, chunk)


def eremove(cpu: Processor, secs: SecsPage, address: int | None) -> None:
    """Free a page of the EPC; None names the SECS. Raises Fault #GP, #PF, or a code.

    Codes: CHILD_PRESENT (a SECS with pages), ENCLAVE_ACT (threads are inside).
    """
    if address is None:
        _eremove_secs(cpu, secs)
        return
    if address % PAGE_SIZE:
        raise Fault(Vector.GP, f"EREMOVE: {address:#x} is not aligned to a page")
    if not secs.holds(address):
        raise Fault(Vector.PF, "EREMOVE: no EPC page is there", address=address)
    with cpu.lock:
        page = secs.page(address)
        entry = secs.epcm.get(page)
        if entry is None:
            return
        trimmed = entry & TYPE == TRIM and not entry & MODIFIED
        if not trimmed and secs.active():
            raise Fault(ErrorCode.ENCLAVE_ACT, "EREMOVE: threads are inside the enclave")
        _forget(secs, page, page + 1)


def _eremove_secs(cpu: Processor, secs: SecsPage) -> None:
    """Free a SECS, and with it the enclave."""
    with cpu.lock:
        if not secs.valid:
            return
        if secs.resident:
            raise Fault(ErrorCode.CHILD_PRESENT, "EREMOVE: the enclave still has pages")
        secs.valid = False
        cpu.enclaves.pop(secs.eid, None)
        cpu.epc.give(1)


def eremove_pages(cpu: Processor, secs: SecsPage) -> None:
    """Free all pages of an enclave that no thread is in. Raises Fault ENCLAVE_ACT.

    The same as EREMOVE of each page, and forgetting those that were evicted.
    """
    with cpu.lock:
        if secs.active():
            raise Fault(ErrorCode.ENCLAVE_ACT, "EREMOVE: threads are inside the enclave")
        end = secs.size // PAGE_SIZE
        for page in list(secs.tcss):
            secs.drop_tcs(page)
        secs.put(0, end, None)
        secs.lazy.put(0, end, None)
        secs.evicted.put(0, end, None)
        secs.memory.discard(0, secs.size)


def _forget(secs: SecsPage, first: int, end: int) -> None:
    """Make pages invalid and give their memory back."""
    for page in range(first, end):
        secs.drop_tcs(page)
    secs.put(first, end, None)
    secs.memory.discard(first * PAGE_SIZE, (end - first) * PAGE_SIZE)
