# SPDX-License-Identifier: Apache-2.0
"""KEYREQUEST, key names and key policies (SDM vol. 3D, 38.17)."""

from enum import KEEP, IntEnum, IntFlag
from typing import Annotated

from ensconce.isa.attributes import Attributes, CetAttributes, MiscSelect
from ensconce.isa.record import U16, Record, Reserved, Unsigned, record

__all__ = ["KeyName", "KeyPolicy", "KeyRequest"]


class KeyName(IntEnum):
    """KEYNAME: the keys that EGETKEY derives."""

    EINITTOKEN = 0
    PROVISION = 1
    PROVISION_SEAL = 2
    REPORT = 3
    SEAL = 4


class KeyPolicy(IntFlag, boundary=KEEP):
    """KEYPOLICY: what of the enclave's identity a key is bound to."""

    MRENCLAVE = 1 << 0
    MRSIGNER = 1 << 1
    NOISVPRODID = 1 << 2
    CONFIGID = 1 << 3
    ISVFAMILYID = 1 << 4
    ISVEXTPRODID = 1 << 5

    KSS = NOISVPRODID | CONFIGID | ISVFAMILYID | ISVEXTPRODID


@record(512)
class KeyRequest(Record):
    """KEYREQUEST: EGETKEY's operand; `key_name` may hold a number that has no name."""

    key_name: U16 = 0
    key_policy: Annotated[KeyPolicy, Unsigned(2)] = KeyPolicy(0)
    isv_svn: U16 = 0
    cet_attributes_mask: Annotated[CetAttributes, Unsigned(1)] = CetAttributes(0)
    reserved1: Annotated[bytes, Reserved(1)] = bytes(1)
    cpu_svn: Annotated[bytes, 16] = bytes(16)
    attribute_mask: Attributes = Attributes()
    key_id: Annotated[bytes, 32] = bytes(32)
    misc_mask: Annotated[MiscSelect, Unsigned(4)] = MiscSelect(0)
    config_svn: U16 = 0
    reserved2: Annotated[bytes, Reserved(434)] = bytes(434)
