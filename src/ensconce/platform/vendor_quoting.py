# SPDX-License-Identifier: Apache-2.0
"""The quoting role on a machine with SGX: the vendor's quoting library, by its C interface.

`libsgx_dcap_ql` loads the vendor's QE and PCE itself, or asks the host's aesmd where
SGX_AESM_ADDR says so. It makes quotes of version 3.
"""

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from ensconce.errors import ConfigError, DeviceError
from ensconce.isa.report import Report, TargetInfo

__all__ = ["QlError", "VendorQuoter"]

_LIBRARY = "libsgx_dcap_ql.so.1"
_VERSION = 3
_MOST_QUOTE = 1 << 20


class QlError(IntEnum):
    """What the vendor's quoting library answers (`quote3_error_t`)."""

    UNEXPECTED = 0xE001
    INVALID_PARAMETER = 0xE002
    OUT_OF_MEMORY = 0xE003
    ECDSA_ID_MISMATCH = 0xE004
    PATHNAME_BUFFER_OVERFLOW = 0xE005
    FILE_ACCESS = 0xE006
    STORED_KEY = 0xE007
    PUB_KEY_ID_MISMATCH = 0xE008
    INVALID_PCE_SIG_SCHEME = 0xE009
    ATT_KEY_BLOB = 0xE00A
    UNSUPPORTED_ATT_KEY_ID = 0xE00B
    UNSUPPORTED_LOADING_POLICY = 0xE00C
    INTERFACE_UNAVAILABLE = 0xE00D
    PLATFORM_LIB_UNAVAILABLE = 0xE00E
    ATT_KEY_NOT_INITIALIZED = 0xE00F
    ATT_KEY_CERT_DATA_INVALID = 0xE010
    NO_PLATFORM_CERT_DATA = 0xE011
    OUT_OF_EPC = 0xE012
    ERROR_REPORT = 0xE013
    ENCLAVE_LOST = 0xE014
    INVALID_REPORT = 0xE015
    ENCLAVE_LOAD_ERROR = 0xE016
    UNABLE_TO_GENERATE_QE_REPORT = 0xE017
    KEY_CERTIFICATION_ERROR = 0xE018
    NETWORK_ERROR = 0xE019
    MESSAGE_ERROR = 0xE01A


_SERVICE = "see that aesmd runs and that this process may reach its socket"
_KEY = "remove the attestation key that the library has stored, and try again"
_ENCLAVES = "install libsgx-ae-qe3 and libsgx-ae-pce, and join the group sgx_prv"
_PCCS = "see that the PCCS in /etc/sgx_default_qcnl.conf is up and can be reached from here"
_ANEW = "make the REPORT anew with the target info that this machine's library gives"
_MENDS = {
    QlError.OUT_OF_MEMORY: "free memory",
    QlError.ECDSA_ID_MISMATCH: _KEY,
    QlError.FILE_ACCESS: "give this user a home folder that it may write",
    QlError.STORED_KEY: _KEY,
    QlError.PUB_KEY_ID_MISMATCH: _KEY,
    QlError.ATT_KEY_BLOB: _KEY,
    QlError.INTERFACE_UNAVAILABLE: f"{_ENCLAVES}; or {_SERVICE}",
    QlError.PLATFORM_LIB_UNAVAILABLE: "install libsgx-dcap-default-qpl",
    QlError.ATT_KEY_NOT_INITIALIZED: "ask for the target info first",
    QlError.ATT_KEY_CERT_DATA_INVALID: f"{_PCCS}, and refresh what it has of this platform",
    QlError.NO_PLATFORM_CERT_DATA: "register this platform with the PCCS (PCKIDRetrievalTool), "
    f"and {_PCCS}",
    QlError.OUT_OF_EPC: "end other enclaves, or give the machine more EPC in its firmware",
    QlError.ERROR_REPORT: _ANEW,
    QlError.ENCLAVE_LOST: "try again: the machine slept or moved",
    QlError.INVALID_REPORT: _ANEW,
    QlError.ENCLAVE_LOAD_ERROR: _ENCLAVES,
    QlError.KEY_CERTIFICATION_ERROR: "refresh the PCCS: its PCK certificate is of a higher TCB "
    "than this platform's",
    QlError.NETWORK_ERROR: _PCCS,
    QlError.MESSAGE_ERROR: f"{_PCCS}, and speaks the API version that the client asks for",
}


class VendorQuoter:
    """The vendor's quoting library; raises ConfigError where it is not installed."""

    def __init__(self, library: str = _LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(library)
            self._functions = {
                name: getattr(self._library, name)
                for name in ("sgx_qe_get_target_info", "sgx_qe_get_quote_size", "sgx_qe_get_quote")
            }
        except (OSError, AttributeError) as error:
            raise ConfigError(
                f"{library} can't be used ({error}); install libsgx-dcap-ql, or quote on the "
                "emulated platform"
            ) from error

    @property
    def target_info(self) -> TargetInfo:
        """What an enclave makes its REPORT for. Raises DeviceError."""
        made = ctypes.create_string_buffer(TargetInfo.SIZE)
        self._call("sgx_qe_get_target_info", made)
        return TargetInfo.parse(made.raw)

    def quote(self, report: Report, *, version: int = _VERSION) -> bytes:
        """Return the quote of a REPORT. Raises DeviceError; ConfigError for other versions."""
        if version != _VERSION:
            raise ConfigError(f"the vendor's library makes quotes of version 3, not {version}")
        size = ctypes.c_uint32()
        self._call("sgx_qe_get_quote_size", ctypes.byref(size))
        if not 0 < size.value <= _MOST_QUOTE:
            raise DeviceError(f"the vendor's library asks for a quote of {size.value} bytes")
        made = ctypes.create_string_buffer(size.value)
        self._call("sgx_qe_get_quote", bytes(report), size, made)
        return made.raw

    def _call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library; what it answers other than 0 is a DeviceError."""
        function: Callable[..., int] = self._functions[name]
        code = function(*arguments)
        if code:
            raise DeviceError(f"{name} answers {_described(code)}")


def _described(code: int) -> str:
    """Return a code with its name and its mend."""
    if code not in set(QlError):
        return f"{code & 0xFFFFFFFF:#x}, which is no code of its own"
    error = QlError(code)
    mend = _MENDS.get(error, "see the log of aesmd or of the quote provider library")
    return f"SGX_QL_{error.name} ({code:#x}); {mend}"
