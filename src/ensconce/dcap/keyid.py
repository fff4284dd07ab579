# SPDX-License-Identifier: Apache-2.0
"""What names an attestation key: 256 bytes, of which the first 158 count.

Source: Intel SGX ECDSA QuoteLibReference, `sgx_att_key_id_ext_t`.
"""

from enum import IntEnum
from typing import Annotated

from ensconce.isa.record import U16, U32, Record, record

__all__ = ["VENDOR_QE_KEY", "Algorithm", "KeyBase", "KeyId", "ecdsa_key_id"]


class Algorithm(IntEnum):
    """How an attestation key signs."""

    EPID_UNLINKABLE = 0
    EPID_LINKABLE = 1
    ECDSA_P256 = 2


@record(158)
class KeyBase(Record):
    """`sgx_ql_att_key_id_t`: whose key, of which product, by which algorithm."""

    id: U16 = 0
    version: U16 = 0
    mr_signer_length: U16 = 32
    mr_signer: Annotated[bytes, 48] = bytes(48)
    prod_id: U32 = 0
    ext_prod_id: Annotated[bytes, 16] = bytes(16)
    config_id: Annotated[bytes, 64] = bytes(64)
    family_id: Annotated[bytes, 16] = bytes(16)
    algorithm: U32 = Algorithm.ECDSA_P256


@record(256)
class KeyId(Record):
    """`sgx_att_key_id_ext_t`: the base, and what EPID and newer services add."""

    base: KeyBase
    spid: Annotated[bytes, 16] = bytes(16)
    att_key_type: U16 = 0
    reserved: Annotated[bytes, 80] = bytes(80)


def ecdsa_key_id(mr_signer: bytes, prod_id: int) -> KeyId:
    """Return the id of an ECDSA P-256 key of the quoting enclaves of a signer."""
    return KeyId(KeyBase(mr_signer=mr_signer.ljust(48, b"\0"), prod_id=prod_id))


VENDOR_QE_KEY = ecdsa_key_id(
    bytes.fromhex("8c4f5775d796503e96137f77c68a829a0056ac8ded70140b081b094490c57bff"), 1
)
"""The key id of the vendor's quoting enclave, which some clients have built in."""
