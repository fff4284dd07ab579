# SPDX-License-Identifier: Apache-2.0
"""PCMD and version arrays, for pages that leave the EPC (SDM vol. 3D, 38.12, 38.18)."""

from typing import Annotated

from ensconce.isa.record import U64, Record, Reserved, record
from ensconce.isa.secinfo import SecInfo

__all__ = ["VA_SLOTS", "VA_SLOT_SIZE", "Pcmd"]

VA_SLOTS = 512
VA_SLOT_SIZE = 8


@record(128)
class Pcmd(Record):
    """Paging crypto metadata of an evicted page; MAC covers page, version and the fields above."""

    secinfo: SecInfo = SecInfo()
    enclave_id: U64 = 0
    reserved: Annotated[bytes, Reserved(40)] = bytes(40)
    mac: Annotated[bytes, 16] = bytes(16)
