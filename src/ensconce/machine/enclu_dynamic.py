# SPDX-License-Identifier: Apache-2.0
"""ENCLU leaves of SGX2, by which an enclave agrees to changes of its pages (SDM vol. 3D, 40.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.secinfo import PAGE_SIZE, SecInfo, SecInfoFlags
from ensconce.isa.ssa import Vector
from ensconce.isa.tcs import Tcs, TcsFlags
from ensconce.machine.encls_build import check_limits
from ensconce.machine.enclu import READ, finish, operand
from ensconce.machine.epc import (
    BLOCKED,
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
    from ensconce._core import Frame
    from ensconce.machine.processor import Processor
    from ensconce.machine.secs_page import SecsPage

__all__ = ["eaccept", "eacceptcopy", "emodpe"]

_KNOWN_FLAGS = PERMISSIONS | PENDING | MODIFIED | PR | TYPE
_MATCHED = PERMISSIONS | PENDING | MODIFIED | TYPE
_R, _W = int(SecInfoFlags.R), int(SecInfoFlags.W)


def _request(secs: SecsPage, address: int) -> int:
    """Return FLAGS of the SECINFO at a leaf's RBX. Raises Fault #GP, #PF."""
    offset = operand(secs, address, SecInfo.SIZE, READ)
    secinfo = SecInfo.parse(secs.alias[offset : offset + SecInfo.SIZE])
    flags = int(secinfo.flags)
    if secinfo.reserved_nonzero() or flags & ~_KNOWN_FLAGS:
        raise Fault(Vector.GP, "a reserved field of SECINFO is set")
    return flags


def _target(secs: SecsPage, address: int) -> int:
    """Return the page number of a leaf's RCX. Raises Fault #GP, #PF (not in the page tables)."""
    if address % PAGE_SIZE or not secs.holds(address):
        raise Fault(Vector.GP, f"target {address:#x} is misaligned or outside the enclave")
    page = secs.page(address)
    if secs.mapping.table.get(page) is None:
        raise _not_usable(secs, page)
    return page


def _not_usable(secs: SecsPage, page: int) -> Fault:
    """Return the #PF for a page that a leaf can't use."""
    return Fault(
        Vector.PF,
        f"page {page:#x} is not one that the leaf can use",
        address=secs.base + page * PAGE_SIZE,
        error_code=secs.mapping.fault_code(page, READ),
    )


def eaccept(cpu: Processor, secs: SecsPage, frame: Frame) -> None:
    """Accept a page's new state. RBX: SECINFO, RCX: the page; RAX: a code.

    Codes: PAGE_ATTRIBUTES_MISMATCH, NOT_TRACKED. Raises Fault #GP, #PF.
    """
    del cpu
    flags = _request(secs, frame.rbx)
    page = _target(secs, frame.rcx)
    kind, changes = flags & TYPE, flags & (PR | PENDING | MODIFIED)
    regular = kind == REG and changes & (PR | PENDING) and not changes & MODIFIED
    retyped = kind in (TCS, TRIM) and changes == MODIFIED
    if not regular and not retyped:
        raise Fault(Vector.GP, "EACCEPT: SECINFO's page type and state do not go together")
    entry = secs.epcm.get(page)
    if entry is None or entry & BLOCKED or entry & TYPE not in (REG, TCS, TRIM):
        raise _not_usable(secs, page)
    if entry & _MATCHED != flags & _MATCHED:
        finish(frame, ErrorCode.PAGE_ATTRIBUTES_MISMATCH)
        return
    if entry & (PR | MODIFIED) and not secs.tracked(entry):
        finish(frame, ErrorCode.NOT_TRACKED)
        return
    if kind == TCS:
        _check_new_tcs(secs, page)
    secs.put(page, page + 1, entry & ~(PENDING | MODIFIED | PR) & SECINFO_MASK)
    if kind == TCS:
        secs.load_tcs(page)
    finish(frame)


def _check_new_tcs(secs: SecsPage, page: int) -> None:
    """Check the TCS that the enclave wrote into a page before it became one."""
    tcs = Tcs.parse(secs.content(page))
    wrong = (
        tcs.reserved_nonzero()
        or tcs.flags & TcsFlags.DBGOPTIN
        or tcs.cssa >= tcs.nssa
        or tcs.aep
        or tcs.stage
    )
    if wrong:
        raise Fault(Vector.GP, "EACCEPT: the page does not hold an unused TCS")
    check_limits(secs, tcs)


def eacceptcopy(cpu: Processor, secs: SecsPage, frame: Frame) -> None:
    """Fill a pending page from another. RBX: SECINFO, RCX: the page, RDX: the source; RAX: a code.

    Code: PAGE_ATTRIBUTES_MISMATCH. Raises Fault #GP, #PF.
    """
    del cpu
    if frame.rdx % PAGE_SIZE or not secs.holds(frame.rdx):
        raise Fault(Vector.GP, "EACCEPTCOPY: the source is misaligned or outside the enclave")
    flags = _request(secs, frame.rbx)
    page = _target(secs, frame.rcx)
    if flags & TYPE != REG or flags & (PENDING | MODIFIED | PR) or _w_without_r(flags):
        raise Fault(Vector.GP, "EACCEPTCOPY: SECINFO is not that of a regular page")
    source = operand(secs, frame.rdx, PAGE_SIZE, READ)
    entry = secs.epcm.get(page)
    fresh = REG | PENDING | _R | _W
    if entry is None or entry & (_MATCHED | BLOCKED) != fresh:
        finish(frame, ErrorCode.PAGE_ATTRIBUTES_MISMATCH)
        return
    secs.content(page)[:] = secs.alias[source : source + PAGE_SIZE]
    secs.put(page, page + 1, REG | flags & PERMISSIONS)
    finish(frame)


def emodpe(cpu: Processor, secs: SecsPage, frame: Frame) -> None:
    """Add permissions to a page. RBX: SECINFO, RCX: the page. Raises Fault #GP, #PF."""
    del cpu
    flags = _request(secs, frame.rbx)
    page = _target(secs, frame.rcx)
    entry = secs.epcm.get(page)
    if entry is None or entry & (PENDING | MODIFIED | BLOCKED | TYPE) != REG:
        raise _not_usable(secs, page)
    if _w_without_r(entry | flags & PERMISSIONS) or _w_without_r(flags):
        raise Fault(Vector.GP, "EMODPE: a page can't be writable and not readable")
    secs.put(page, page + 1, entry | flags & PERMISSIONS)


def _w_without_r(flags: int) -> bool:
    """Return whether permissions have W and not R."""
    return bool(flags & _W) and not flags & _R
