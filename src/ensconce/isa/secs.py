# SPDX-License-Identifier: Apache-2.0
"""SECS, the enclave's control structure (SDM vol. 3D, 38.7)."""

from typing import Annotated

from ensconce.isa.attributes import Attributes, CetAttributes, MiscSelect
from ensconce.isa.record import U16, U32, U64, Record, Reserved, Unsigned, record

__all__ = ["Secs"]


@record(4096)
class Secs(Record):
    """SGX enclave control structure; the tail is the implementation's."""

    size: U64
    base_addr: U64 = 0
    ssa_frame_size: U32 = 1
    misc_select: Annotated[MiscSelect, Unsigned(4)] = MiscSelect(0)
    cet_leg_bitmap_offset: U64 = 0
    cet_attributes: Annotated[CetAttributes, Unsigned(1)] = CetAttributes(0)
    reserved1: Annotated[bytes, Reserved(15)] = bytes(15)
    attributes: Attributes = Attributes()
    mr_enclave: Annotated[bytes, 32] = bytes(32)
    reserved2: Annotated[bytes, Reserved(32)] = bytes(32)
    mr_signer: Annotated[bytes, 32] = bytes(32)
    reserved3: Annotated[bytes, Reserved(32)] = bytes(32)
    config_id: Annotated[bytes, 64] = bytes(64)
    isv_prod_id: U16 = 0
    isv_svn: U16 = 0
    config_svn: U16 = 0
    reserved4: Annotated[bytes, Reserved(3834)] = bytes(3834)
