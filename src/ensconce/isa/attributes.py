# SPDX-License-Identifier: Apache-2.0
"""ATTRIBUTES, XFRM, MISCSELECT and CET_ATTRIBUTES (SDM vol. 3D, 38.7.1, 38.7.2)."""

from enum import KEEP, IntFlag
from typing import Annotated

from ensconce.isa.record import Record, Unsigned, record

__all__ = ["AttributeFlags", "Attributes", "CetAttributes", "MiscSelect", "Xfrm"]


class AttributeFlags(IntFlag, boundary=KEEP):
    """The lower 64 bits of ATTRIBUTES; bits without a name here are reserved."""

    INIT = 1 << 0
    DEBUG = 1 << 1
    MODE64BIT = 1 << 2
    PROVISIONKEY = 1 << 4
    EINITTOKENKEY = 1 << 5
    CET = 1 << 6
    KSS = 1 << 7
    AEXNOTIFY = 1 << 10

    @property
    def reserved(self) -> int:
        """The bits set that the manual reserves."""
        return int(self) & ~_ATTRIBUTE_FLAGS


_ATTRIBUTE_FLAGS = 0x4F7


class Xfrm(IntFlag, boundary=KEEP):
    """XSAVE features an enclave uses, numbered as in XCR0."""

    X87 = 1 << 0
    SSE = 1 << 1
    AVX = 1 << 2
    BNDREGS = 1 << 3
    BNDCSR = 1 << 4
    OPMASK = 1 << 5
    ZMM_HI256 = 1 << 6
    HI16_ZMM = 1 << 7
    PKRU = 1 << 9
    TILECFG = 1 << 17
    TILEDATA = 1 << 18

    LEGACY = 0x3
    AVX512 = 0xE0

    @property
    def legal(self) -> bool:
        """Whether XSETBV would take this value for XCR0 (SDM vol. 1, 13.3)."""
        value = int(self)
        legacy = value & 3 == 3
        mpx = value & 0x18 in (0, 0x18)
        avx512 = value & 0xE0 == 0 or (value & 0xE0 == 0xE0 and value & 4 == 4)
        amx = value & 0x60000 in (0, 0x60000)
        return legacy and mpx and avx512 and amx


class MiscSelect(IntFlag, boundary=KEEP):
    """Which extra facts an AEX saves (MISCSELECT)."""

    EXINFO = 1 << 0
    CPINFO = 1 << 1


class CetAttributes(IntFlag, boundary=KEEP):
    """CET features of an enclave (CET_ATTRIBUTES)."""

    SH_STK_EN = 1 << 0
    WR_SHSTK_EN = 1 << 1
    ENDBR_EN = 1 << 2
    LEG_IW_EN = 1 << 3
    NO_TRACK_EN = 1 << 4
    SUPPRESS_DIS = 1 << 5


@record(16)
class Attributes(Record):
    """ATTRIBUTES: what an enclave may do, and its XFRM."""

    flags: Annotated[AttributeFlags, Unsigned(8)] = AttributeFlags(0)
    xfrm: Annotated[Xfrm, Unsigned(8)] = Xfrm(0)

    def __and__(self, mask: "Attributes") -> "Attributes":
        return Attributes(self.flags & mask.flags, self.xfrm & mask.xfrm)
