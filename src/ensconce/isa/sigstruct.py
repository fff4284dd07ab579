# SPDX-License-Identifier: Apache-2.0
"""SIGSTRUCT, the enclave's certificate (SDM vol. 3D, 38.13)."""

import hashlib
from typing import Annotated

from ensconce.isa.attributes import Attributes, CetAttributes, MiscSelect
from ensconce.isa.record import U16, U32, Record, Reserved, Unsigned, record

__all__ = ["HEADER", "HEADER2", "SigStruct"]

HEADER = bytes.fromhex("06000000e10000000000010000000000")
HEADER2 = bytes.fromhex("01010000600000006000000001000000")


@record(1808)
class SigStruct(Record):
    """Enclave signature structure; integers of RSA are little-endian.

    The signature covers bytes 0..127 and 900..1027.
    """

    header: Annotated[bytes, 16] = HEADER
    vendor: U32 = 0
    date: U32 = 0
    header2: Annotated[bytes, 16] = HEADER2
    sw_defined: U32 = 0
    reserved1: Annotated[bytes, Reserved(84)] = bytes(84)
    modulus: Annotated[bytes, 384] = bytes(384)
    exponent: U32 = 3
    signature: Annotated[bytes, 384] = bytes(384)
    misc_select: Annotated[MiscSelect, Unsigned(4)] = MiscSelect(0)
    misc_mask: Annotated[MiscSelect, Unsigned(4)] = MiscSelect(0)
    cet_attributes: Annotated[CetAttributes, Unsigned(1)] = CetAttributes(0)
    cet_attributes_mask: Annotated[CetAttributes, Unsigned(1)] = CetAttributes(0)
    reserved2: Annotated[bytes, Reserved(2)] = bytes(2)
    isv_family_id: Annotated[bytes, 16] = bytes(16)
    attributes: Attributes = Attributes()
    attribute_mask: Attributes = Attributes()
    enclave_hash: Annotated[bytes, 32] = bytes(32)
    reserved3: Annotated[bytes, Reserved(16)] = bytes(16)
    isv_ext_prod_id: Annotated[bytes, 16] = bytes(16)
    isv_prod_id: U16 = 0
    isv_svn: U16 = 0
    reserved4: Annotated[bytes, Reserved(12)] = bytes(12)
    q1: Annotated[bytes, 384] = bytes(384)
    q2: Annotated[bytes, 384] = bytes(384)

    @property
    def mr_signer(self) -> bytes:
        """MRSIGNER: the SHA-256 of MODULUS, 32 bytes."""
        return hashlib.sha256(self.modulus).digest()

    def signed_bytes(self) -> bytes:
        """Return the 256 bytes that SIGNATURE covers."""
        return signed_bytes(bytes(self))


def signed_bytes(raw: bytes) -> bytes:
    """Return the bytes that the signature covers, cut from SIGSTRUCT's own 1,808 bytes."""
    return raw[:128] + raw[900:1028]
