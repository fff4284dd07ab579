# SPDX-License-Identifier: Apache-2.0
"""ENCLS leaves of SGX2, that change pages of a running enclave: EAUG, EMODPR, EMODT (SDM 40.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.secinfo import PAGE_SIZE, SecInfo, SecInfoFlags
from ensconce.isa.ssa import Vector
from ensconce.machine.epc import (
    MODIFIED,
    PENDING,
    PERMISSIONS,
    PR,
    REG,
    SECINFO_MASK,
    TCS,
    TRIM,
    TYPE,
)

if TYPE_CHECKING:
    from ensconce.machine.processor import Processor
    from ensconce.machine.secs_page import SecsPage

__all__ = ["eaug", "emodpr", "emodt"]

_R, _W = int(SecInfoFlags.R), int(SecInfoFlags.W)


def eaug(cpu: Processor, secs: SecsPage, lin_addr: int, count: int = 1) -> None:
    """Add zero pages to an initialised enclave, pending its EACCEPT. Raises Fault #GP, #PF."""
    if lin_addr % PAGE_SIZE:
        raise Fault(Vector.GP, f"EAUG: LINADDR {lin_addr:#x} is not aligned to a page")
    with cpu.lock:
        _check_secs(secs, "EAUG")
        last = lin_addr + (count - 1) * PAGE_SIZE
        if count < 1 or not (secs.holds(lin_addr) and secs.holds(last)):
            raise Fault(Vector.GP, f"EAUG: LINADDR {lin_addr:#x} is outside ELRANGE")
        page = secs.page(lin_addr)
        for known in (secs.epcm, secs.lazy, secs.evicted):
            if known.overlaps(page, page + count):
                raise Fault(Vector.PF, "EAUG: the page is there already", address=lin_addr)
        secs.memory.discard(page * PAGE_SIZE, count * PAGE_SIZE)
        secs.put(page, page + count, REG | PENDING | _R | _W)


def emodpr(cpu: Processor, secs: SecsPage, secinfo: SecInfo, address: int) -> None:
    """Take permissions from a page. Raises Fault #GP, #PF, or PAGE_NOT_MODIFIABLE."""
    flags = int(secinfo.flags)
    if secinfo.reserved_nonzero() or flags & ~(PERMISSIONS | TYPE):
        raise Fault(Vector.GP, "EMODPR: a reserved field of SECINFO is set")
    if flags & _W and not flags & _R:
        raise Fault(Vector.GP, "EMODPR: a page can't be writable and not readable")
    with cpu.lock:
        page, entry = _entry(secs, address, "EMODPR")
        if entry & (PENDING | MODIFIED):
            raise Fault(ErrorCode.PAGE_NOT_MODIFIABLE, "EMODPR: the page awaits EACCEPT")
        if entry & TYPE != REG:
            raise Fault(Vector.PF, "EMODPR: not a regular page", address=address)
        _check_secs(secs, "EMODPR")
        kept = entry & PERMISSIONS & flags
        entry = entry & SECINFO_MASK & ~PERMISSIONS | kept | PR
        secs.put(page, page + 1, secs.stamp(entry))


def emodt(cpu: Processor, secs: SecsPage, secinfo: SecInfo, address: int) -> None:
    """Make a page a TCS or trim it. Raises Fault #GP, #PF, or PAGE_NOT_MODIFIABLE."""
    flags = int(secinfo.flags)
    kind = flags & TYPE
    if secinfo.reserved_nonzero() or flags & ~(PERMISSIONS | TYPE) or kind not in (TCS, TRIM):
        raise Fault(Vector.GP, "EMODT: SECINFO is neither for a TCS nor for trimming")
    with cpu.lock:
        page, entry = _entry(secs, address, "EMODT")
        if entry & TYPE != REG and not (entry & TYPE == TCS and kind == TRIM):
            raise Fault(Vector.PF, "EMODT: the page can't change to that type", address=address)
        if entry & (PENDING | MODIFIED):
            raise Fault(ErrorCode.PAGE_NOT_MODIFIABLE, "EMODT: the page awaits EACCEPT")
        _check_secs(secs, "EMODT")
        if entry & TYPE == TCS:
            secs.store_tcs(page)
        secs.put(page, page + 1, secs.stamp(kind | MODIFIED))


def _check_secs(secs: SecsPage, leaf: str) -> None:
    """Check that the SECS is in the EPC and initialised."""
    if not secs.valid:
        raise Fault(Vector.PF, f"{leaf}: the SECS is not in the EPC", address=secs.base)
    if not secs.initialized:
        raise Fault(Vector.GP, f"{leaf}: the enclave is not initialised")


def _entry(secs: SecsPage, address: int, leaf: str) -> tuple[int, int]:
    """Return the page number and EPCM entry of a leaf's RCX. Raises Fault #GP, #PF."""
    if address % PAGE_SIZE:
        raise Fault(Vector.GP, f"{leaf}: {address:#x} is not aligned to a page")
    entry = secs.epcm.get(secs.page(address)) if secs.holds(address) else None
    if entry is None:
        raise Fault(Vector.PF, f"{leaf}: no EPC page is at {address:#x}", address=address)
    return secs.page(address), entry
