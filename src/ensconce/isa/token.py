# SPDX-License-Identifier: Apache-2.0
"""EINITTOKEN, the launch enclave's permission (SDM vol. 3D, 38.14)."""

from typing import Annotated

from ensconce.isa.attributes import Attributes, CetAttributes, MiscSelect
from ensconce.isa.record import U16, U32, Record, Reserved, Unsigned, record

__all__ = ["EInitToken"]


@record(304)
class EInitToken(Record):
    """EINIT token; its MAC covers bytes 0..191."""

    valid: U32 = 0
    reserved1: Annotated[bytes, Reserved(44)] = bytes(44)
    attributes: Attributes = Attributes()
    mr_enclave: Annotated[bytes, 32] = bytes(32)
    reserved2: Annotated[bytes, Reserved(32)] = bytes(32)
    mr_signer: Annotated[bytes, 32] = bytes(32)
    reserved3: Annotated[bytes, Reserved(32)] = bytes(32)
    cpu_svn_le: Annotated[bytes, 16] = bytes(16)
    isv_prod_id_le: U16 = 0
    isv_svn_le: U16 = 0
    cet_masked_attributes_le: Annotated[CetAttributes, Unsigned(1)] = CetAttributes(0)
    reserved4: Annotated[bytes, Reserved(23)] = bytes(23)
    masked_misc_select_le: Annotated[MiscSelect, Unsigned(4)] = MiscSelect(0)
    masked_attributes_le: Attributes = Attributes()
    key_id: Annotated[bytes, 32] = bytes(32)
    mac: Annotated[bytes, 16] = bytes(16)
