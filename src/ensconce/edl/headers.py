# SPDX-License-Identifier: Apache-2.0
"""Types from C and SGX headers that EDL files name without defining them (x86-64 Linux)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["HEADER_TYPES", "HeaderType"]


class HeaderType(NamedTuple):
    """Size and alignment in bytes; `scalar` is True for an integer or enumeration."""

    size: int
    alignment: int
    scalar: bool = True


def _structure(size: int, alignment: int) -> HeaderType:
    return HeaderType(size, alignment, scalar=False)


_BYTE, _SHORT, _INT, _LONG = (HeaderType(size, size) for size in (1, 2, 4, 8))

HEADER_TYPES: Mapping[str, HeaderType] = MappingProxyType(
    {
        "_Bool": _BYTE,
        "bool": _BYTE,
        # stdint.h, stddef.h, sys/types.h and the libc that the SDK's own EDL files speak to
        "clock_t": _LONG,
        "clockid_t": _INT,
        "dev_t": _LONG,
        "gid_t": _INT,
        "ino_t": _LONG,
        "intmax_t": _LONG,
        "intptr_t": _LONG,
        "mode_t": _INT,
        "nfds_t": _LONG,
        "off64_t": _LONG,
        "off_t": _LONG,
        "pid_t": _INT,
        "ptrdiff_t": _LONG,
        "pthread_t": _LONG,
        "socklen_t": _INT,
        "ssize_t": _LONG,
        "suseconds_t": _LONG,
        "time_t": _LONG,
        "uid_t": _INT,
        "uintmax_t": _LONG,
        "uintptr_t": _LONG,
        "useconds_t": _INT,
        # sgx_eid.h, sgx_error.h, sgx_key_exchange.h, sgx_quote.h, and those of DCAP
        "ae_error_t": _INT,
        "quote3_error_t": _INT,
        "sgx_enclave_id_t": _LONG,
        "sgx_isv_svn_t": _SHORT,
        "sgx_misc_select_t": _INT,
        "sgx_prod_id_t": _SHORT,
        "sgx_ql_qv_result_t": _INT,
        "sgx_quote_sign_type_t": _INT,
        "sgx_ra_context_t": _INT,
        "sgx_ra_key_type_t": _INT,
        "sgx_status_t": _INT,
        # Structures, as the manual and the SDK's headers lay them out
        "sgx_attributes_t": _structure(16, 8),
        "sgx_cpu_svn_t": _structure(16, 1),
        "sgx_dh_msg1_t": _structure(576, 1),
        "sgx_dh_msg2_t": _structure(512, 1),
        "sgx_dh_msg3_t": _structure(452, 1),
        "sgx_dh_session_enclave_identity_t": _structure(260, 1),
        "sgx_ec256_private_t": _structure(32, 1),
        "sgx_ec256_public_t": _structure(64, 1),
        "sgx_ec256_signature_t": _structure(64, 4),
        "sgx_epid_group_id_t": _structure(4, 1),
        "sgx_key_128bit_t": _structure(16, 1),
        "sgx_key_id_t": _structure(32, 1),
        "sgx_mac_t": _structure(16, 1),
        "sgx_measurement_t": _structure(32, 1),
        "sgx_report_data_t": _structure(64, 1),
        "sgx_report_t": _structure(432, 8),
        "sgx_spid_t": _structure(16, 1),
        "sgx_target_info_t": _structure(512, 8),
    }
)
