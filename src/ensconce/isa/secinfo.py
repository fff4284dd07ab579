# SPDX-License-Identifier: Apache-2.0
"""SECINFO and PAGEINFO (SDM vol. 3D, 38.10, 38.11)."""

from enum import KEEP, IntEnum, IntFlag
from typing import Annotated

from ensconce.isa.record import U64, Record, Reserved, Unsigned, record

__all__ = [
    "PAGE_SIZE",
    "PageInfo",
    "PageType",
    "SecInfo",
    "SecInfoFlags",
    "page_type",
    "secinfo_flags",
]

PAGE_SIZE = 4096


class PageType(IntEnum):
    """PT, the type of an EPC page."""

    SECS = 0
    TCS = 1
    REG = 2
    VA = 3
    TRIM = 4
    SS_FIRST = 5
    SS_REST = 6


class SecInfoFlags(IntFlag, boundary=KEEP):
    """SECINFO.FLAGS: permissions and state; bits 15:8 hold the page type."""

    R = 1 << 0
    W = 1 << 1
    X = 1 << 2
    PENDING = 1 << 3
    MODIFIED = 1 << 4
    PR = 1 << 5


def page_type(flags: int) -> int:
    """Return the page type in SECINFO.FLAGS."""
    return flags >> 8 & 0xFF


def secinfo_flags(kind: PageType, permissions: int = 0) -> SecInfoFlags:
    """Return SECINFO.FLAGS for a page type and its permissions."""
    return SecInfoFlags(int(kind) << 8 | int(permissions))


@record(64)
class SecInfo(Record):
    """SECINFO: a page's type, permissions and state."""

    flags: Annotated[SecInfoFlags, Unsigned(8)] = SecInfoFlags(0)
    reserved: Annotated[bytes, Reserved(56)] = bytes(56)


@record(32)
class PageInfo(Record):
    """PAGEINFO: the operands of EADD, ECREATE, ELDU; all four are addresses."""

    lin_addr: U64 = 0
    src_pge: U64 = 0
    secinfo: U64 = 0
    secs: U64 = 0
