# SPDX-License-Identifier: Apache-2.0
"""What AESM's clients say of attestation keys and of the QE's own REPORT."""

import struct
from typing import Annotated

from ensconce.aesm.codes import Code, Refusal
from ensconce.dcap.keyid import KeyId
from ensconce.isa.record import Record, record
from ensconce.isa.report import Report, TargetInfo

__all__ = ["QeReportInfo", "parse_key_list"]

MOST_KEYS = 10  # in a client's list
_LIST = struct.Struct("<HHI")  # id, version, how many key ids follow


@record(960)
class QeReportInfo(Record):
    """`sgx_ql_qe_report_info_t`: the client's nonce and enclave, and the QE's REPORT for it."""

    nonce: Annotated[bytes, 16]
    target: TargetInfo
    report: Report


def parse_key_list(data: bytes) -> tuple[bytes, ...]:
    """Return the key ids, 256 bytes each, of a client's list. Raises Refusal."""
    size = KeyId.SIZE
    if len(data) < _LIST.size + size:
        raise Refusal(Code.PARAMETER_ERROR, f"a list of key ids can't have {len(data)} bytes")
    kind, version, count = _LIST.unpack_from(data)
    if kind or version or count > MOST_KEYS or _LIST.size + count * size != len(data):
        raise Refusal(
            Code.PARAMETER_ERROR,
            f"a list of key ids with id {kind}, version {version} and {count} entries can't have "
            f"{len(data)} bytes",
        )
    return tuple(data[at : at + size] for at in range(_LIST.size, len(data), size))
