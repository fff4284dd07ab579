# SPDX-License-Identifier: Apache-2.0
"""ENCLS leaves for debuggers and system software: EDBGRD, EDBGWR, ERDINFO (SDM vol. 3D, 40.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.paging import VA_SLOTS
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.ssa import Vector
from ensconce.isa.tcs import Tcs, TcsFlags
from ensconce.machine.epc import BLOCKED, MODIFIED, PENDING, REG, SECINFO_MASK, TCS, TYPE, VaPage

if TYPE_CHECKING:
    from ensconce.machine.processor import Processor
    from ensconce.machine.secs_page import SecsPage

__all__ = ["RdInfo", "RdInfoStatus", "edbgrd", "edbgrd_va", "edbgwr", "erdinfo"]

_WORD = struct.Struct("<Q")
_TCS_LIMIT = Tcs.offset_of("reserved")
_TCS_FLAGS = Tcs.offset_of("flags")
_KNOWN_FLAGS = int(TcsFlags.DBGOPTIN | TcsFlags.AEXNOTIFY)


class RdInfoStatus(IntFlag):
    """RDINFO.STATUS."""

    CHLDPRESENT = 1 << 0


@dataclass(frozen=True, slots=True)
class RdInfo:
    """RDINFO: STATUS, FLAGS (SECINFO.FLAGS and BLOCKED in bit 63), ENCLAVECONTEXT (here EID)."""

    status: RdInfoStatus
    flags: int
    enclave_context: int


def edbgrd(cpu: Processor, secs: SecsPage, address: int) -> int:
    """Return eight bytes of a debug enclave. Raises Fault #GP, #PF, PAGE_NOT_DEBUGGABLE."""
    with cpu.lock:
        page, entry = _debuggable(secs, address, "EDBGRD")
        if entry & TYPE == TCS:
            if address % PAGE_SIZE >= _TCS_LIMIT:
                raise Fault(Vector.GP, "EDBGRD: the offset is beyond the TCS")
            secs.store_tcs(page)
        value: int = _WORD.unpack_from(secs.alias, address - secs.base)[0]
        return value


def edbgwr(cpu: Processor, secs: SecsPage, address: int, value: int) -> None:
    """Write eight bytes of a debug enclave; of a TCS only FLAGS. Raises as EDBGRD."""
    with cpu.lock:
        page, entry = _debuggable(secs, address, "EDBGWR")
        if entry & TYPE == TCS:
            if address % PAGE_SIZE != _TCS_FLAGS:
                raise Fault(Vector.GP, "EDBGWR: of a TCS only FLAGS can be written")
            if value & ~_KNOWN_FLAGS:
                raise Fault(Vector.GP, "EDBGWR: a reserved bit of TCS.FLAGS is set")
            secs.store_tcs(page)
        _WORD.pack_into(secs.alias, address - secs.base, value & (1 << 64) - 1)
        if entry & TYPE == TCS:
            secs.load_tcs(page)


def _debuggable(secs: SecsPage, address: int, leaf: str) -> tuple[int, int]:
    """Return the page number and EPCM entry of an address that a debugger may use."""
    if address % _WORD.size:
        raise Fault(Vector.GP, f"{leaf}: {address:#x} is not aligned to eight bytes")
    entry = secs.epcm.get(secs.page(address)) if secs.holds(address) else None
    if entry is None or entry & TYPE not in (REG, TCS):
        raise Fault(Vector.PF, f"{leaf}: no page is at {address:#x}", address=address)
    if entry & (PENDING | MODIFIED):
        raise Fault(ErrorCode.PAGE_NOT_DEBUGGABLE, f"{leaf}: the page awaits EACCEPT")
    if not secs.debug:
        raise Fault(Vector.GP, f"{leaf}: the enclave does not allow debugging")
    return secs.page(address), entry


def edbgrd_va(cpu: Processor, va: VaPage, slot: int) -> int:
    """Return whether a slot of a VA page holds a version: all ones or 0. Raises Fault #GP, #PF."""
    with cpu.lock:
        if not 0 <= slot < VA_SLOTS:
            raise Fault(Vector.GP, f"EDBGRD: a VA page has no slot {slot}")
        if not va.valid:
            raise Fault(Vector.PF, "EDBGRD: the VA page is not in the EPC")
        return (1 << 64) - 1 if va.slots[slot] else 0


def erdinfo(cpu: Processor, secs: SecsPage, address: int | None) -> RdInfo:
    """Return type and state of a page; None names the SECS. Raises Fault #GP, #PF, PG_INVLD."""
    with cpu.lock:
        if address is None:
            if not secs.valid:
                raise Fault(ErrorCode.PG_INVLD, "ERDINFO: the SECS is not in the EPC")
            status = RdInfoStatus.CHLDPRESENT if secs.resident else RdInfoStatus(0)
            return RdInfo(status, 0, secs.eid)
        if address % PAGE_SIZE:
            raise Fault(Vector.GP, f"ERDINFO: {address:#x} is not aligned to a page")
        if not secs.holds(address):
            raise Fault(Vector.PF, f"ERDINFO: no page is at {address:#x}", address=address)
        entry = secs.epcm.get(secs.page(address))
        if entry is None:
            raise Fault(ErrorCode.PG_INVLD, f"ERDINFO: no page is at {address:#x}")
        flags = entry & SECINFO_MASK | (1 << 63 if entry & BLOCKED else 0)
        return RdInfo(RdInfoStatus(0), flags, secs.eid)
