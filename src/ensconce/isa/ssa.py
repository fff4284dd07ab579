# SPDX-License-Identifier: Apache-2.0
"""The state save area: GPRSGX, EXITINFO, EXINFO, XSAVE sizes (SDM vol. 3D, 38.9)."""

from enum import IntEnum
from typing import Annotated

from ensconce.isa.attributes import Xfrm
from ensconce.isa.record import U8, U32, U64, Record, Reserved, record

__all__ = [
    "EXIT_HARDWARE",
    "EXIT_SOFTWARE",
    "ExInfo",
    "GprSgx",
    "Vector",
    "exit_info",
    "xsave_size",
]

EXIT_HARDWARE = 3
EXIT_SOFTWARE = 6


class Vector(IntEnum):
    """Exceptions by their number (SDM vol. 3A, 6.3.1)."""

    DE = 0
    DB = 1
    BP = 3
    BR = 5
    UD = 6
    NM = 7
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    XM = 19
    CP = 21


_ALWAYS_REPORTED = frozenset(
    (Vector.DE, Vector.DB, Vector.BP, Vector.BR, Vector.UD, Vector.MF, Vector.AC, Vector.XM)
)
_REPORTED_WITH_EXINFO = frozenset((Vector.GP, Vector.PF))


def exit_info(vector: int, *, with_exinfo: bool) -> int:
    """Return EXITINFO for an exception: 0 where the manual has it not reported (table 38-16)."""
    reported = vector in _ALWAYS_REPORTED or (with_exinfo and vector in _REPORTED_WITH_EXINFO)
    if not reported:
        return 0
    kind = EXIT_SOFTWARE if vector == Vector.BP else EXIT_HARDWARE
    return 1 << 31 | kind << 8 | vector


@record(184)
class GprSgx(Record):
    """GPRSGX: the general registers of an interrupted enclave thread, last in its SSA frame."""

    rax: U64 = 0
    rcx: U64 = 0
    rdx: U64 = 0
    rbx: U64 = 0
    rsp: U64 = 0
    rbp: U64 = 0
    rsi: U64 = 0
    rdi: U64 = 0
    r8: U64 = 0
    r9: U64 = 0
    r10: U64 = 0
    r11: U64 = 0
    r12: U64 = 0
    r13: U64 = 0
    r14: U64 = 0
    r15: U64 = 0
    rflags: U64 = 0
    rip: U64 = 0
    ursp: U64 = 0
    urbp: U64 = 0
    exit_info: U32 = 0
    reserved: Annotated[bytes, Reserved(3)] = bytes(3)
    aex_notify: U8 = 0
    fs_base: U64 = 0
    gs_base: U64 = 0


@record(16)
class ExInfo(Record):
    """EXINFO, just below GPRSGX where MISCSELECT.EXINFO is set: the fault's address and code."""

    maddr: U64 = 0
    errcd: U32 = 0
    reserved: Annotated[bytes, Reserved(4)] = bytes(4)


_XSAVE_LEGACY = 512 + 64
# end of each component in the standard format (SDM vol. 1, 13.5), by XCR0 bit
_XSAVE_ENDS = {2: 832, 3: 1024, 4: 1088, 5: 1152, 6: 1664, 7: 2688, 9: 2696, 17: 2816, 18: 11008}


def xsave_size(xfrm: int) -> int:
    """Return the bytes that XSAVE needs for XFRM in the standard format."""
    return max([_XSAVE_LEGACY, *(end for bit, end in _XSAVE_ENDS.items() if xfrm >> bit & 1)])


def ssa_frame_pages(xfrm: Xfrm | int, misc_bytes: int = 16) -> int:
    """Return the smallest SSAFRAMESIZE, in pages, for an XFRM and MISC area."""
    return -(-(xsave_size(int(xfrm)) + misc_bytes + GprSgx.SIZE) // 4096)
