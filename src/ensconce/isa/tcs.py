# SPDX-License-Identifier: Apache-2.0
"""TCS, the thread control structure (SDM vol. 3D, 38.8)."""

from enum import KEEP, IntFlag
from typing import Annotated

from ensconce.isa.record import U32, U64, Record, Reserved, Unsigned, record

__all__ = ["Tcs", "TcsFlags"]


class TcsFlags(IntFlag, boundary=KEEP):
    """TCS.FLAGS; all other bits are reserved."""

    DBGOPTIN = 1 << 0
    AEXNOTIFY = 1 << 1


@record(4096)
class Tcs(Record):
    """Thread control structure; the offsets are relative to the enclave's base."""

    stage: U64 = 0
    flags: Annotated[TcsFlags, Unsigned(8)] = TcsFlags(0)
    ossa: U64 = 0
    cssa: U32 = 0
    nssa: U32 = 0
    oentry: U64 = 0
    aep: U64 = 0
    ofs_base: U64 = 0
    ogs_base: U64 = 0
    fs_limit: U32 = 0
    gs_limit: U32 = 0
    ocet_ssa: U64 = 0
    prev_ssp: U64 = 0
    reserved: Annotated[bytes, Reserved(4008)] = bytes(4008)
