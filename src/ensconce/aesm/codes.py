# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, by the protocol's codes: each with its cause and its mend.

The codes are those of `aesm_error_t`; a quoting library's own (`quote3_error_t`, 0xe001 …) are
translated as the protocol's service does, and kept in the reason.
"""

from enum import IntEnum
from typing import NamedTuple

from ensconce.errors import ProtocolError
from ensconce.platform.vendor_quoting import QlError

__all__ = [
    "Code",
    "Explanation",
    "Refusal",
    "code_label",
    "code_name",
    "explain",
    "from_quote_library",
]


class Code(IntEnum):
    """An answer's error code."""

    SUCCESS = 0
    UNEXPECTED_ERROR = 1
    NO_DEVICE_ERROR = 2
    PARAMETER_ERROR = 3
    EPIDBLOB_ERROR = 4
    EPID_REVOKED_ERROR = 5
    GET_LICENSETOKEN_ERROR = 6
    SESSION_INVALID = 7
    MAX_NUM_SESSION_REACHED = 8
    PSDA_UNAVAILABLE = 9
    EPH_SESSION_FAILED = 10
    LONG_TERM_PAIRING_FAILED = 11
    NETWORK_ERROR = 12
    NETWORK_BUSY_ERROR = 13
    PROXY_SETTING_ASSIST = 14
    FILE_ACCESS_ERROR = 15
    SGX_PROVISION_FAILED = 16
    SERVICE_STOPPED = 17
    BUSY = 18
    BACKEND_SERVER_BUSY = 19
    UPDATE_AVAILABLE = 20
    OUT_OF_MEMORY_ERROR = 21
    MSG_ERROR = 22
    THREAD_ERROR = 23
    SGX_DEVICE_NOT_AVAILABLE = 24
    ENABLE_SGX_DEVICE_FAILED = 25
    PLATFORM_INFO_BLOB_INVALID_SIG = 26
    KDF_MISMATCH = 28
    OUT_OF_EPC = 29
    SERVICE_UNAVAILABLE = 30
    UNRECOGNIZED_PLATFORM = 31
    ECDSA_ID_MISMATCH = 32
    PATHNAME_BUFFER_OVERFLOW_ERROR = 33
    ERROR_STORED_KEY = 34
    PUB_KEY_ID_MISMATCH = 35
    INVALID_PCE_SIG_SCHEME = 36
    ATT_KEY_BLOB_ERROR = 37
    UNSUPPORTED_ATT_KEY_ID = 38
    UNSUPPORTED_LOADING_POLICY = 39
    INTERFACE_UNAVAILABLE = 40
    PLATFORM_LIB_UNAVAILABLE = 41
    ATT_KEY_NOT_INITIALIZED = 42
    ATT_KEY_CERT_DATA_INVALID = 43
    NO_PLATFORM_CERT_DATA = 44
    ERROR_REPORT = 45
    ENCLAVE_LOST = 46
    INVALID_REPORT = 47
    ENCLAVE_LOAD_ERROR = 48
    UNABLE_TO_GENERATE_QE_REPORT = 49
    KEY_CERTIFICATION_ERROR = 50
    CONFIG_UNSUPPORTED = 51


class Explanation(NamedTuple):
    """Why a code is answered, and what to do."""

    cause: str
    mend: str


_KEY_AGAIN = "ask init_quote_ex again, which makes and certifies the attestation key anew"
_DEVICES = "let this service's user open /dev/sgx_enclave and /dev/sgx_provision (group `sgx_prv`)"
_LIBRARY = "see what the quoting library logged, and restart the service"

_EXPLAINED: dict[int, Explanation] = {
    Code.UNEXPECTED_ERROR: Explanation(
        "the quoting library failed in a way it does not name", _LIBRARY
    ),
    Code.NO_DEVICE_ERROR: Explanation("this machine shows no SGX device", _DEVICES),
    Code.PARAMETER_ERROR: Explanation(
        "a field of the request is missing or has a wrong size",
        "give key ids of 256 bytes, a REPORT of 432, and the sizes that the service tells",
    ),
    Code.NETWORK_ERROR: Explanation(
        "the certificate service (PCCS) can't be reached",
        "see pccs_url and use_secure_cert in /etc/sgx_default_qcnl.conf, and that the PCCS answers",
    ),
    Code.FILE_ACCESS_ERROR: Explanation(
        "a file of the quoting library can't be read or written",
        "see that the quoting enclave's file is installed and its data folder is writable",
    ),
    Code.BUSY: Explanation(
        "more quotes are asked for than are made in time", "ask again, or with fewer threads"
    ),
    Code.OUT_OF_MEMORY_ERROR: Explanation("memory is short", "free some, or raise the limit"),
    Code.MSG_ERROR: Explanation(
        "the certificate service (PCCS) gave an answer that can't be read",
        "see that pccs_url leads to a PCCS of the same API version, and not to a proxy's page",
    ),
    Code.SGX_DEVICE_NOT_AVAILABLE: Explanation("the SGX device is missing or off", _DEVICES),
    Code.OUT_OF_EPC: Explanation(
        "the enclave page cache is full", "end enclaves that are not needed, or wait"
    ),
    Code.SERVICE_UNAVAILABLE: Explanation(
        "this part of the protocol is not offered: attestation is by DCAP, and there are no launch "
        "tokens",
        "use the calls for DCAP (select_att_key_id, init_quote_ex, get_quote_ex)",
    ),
    Code.UNRECOGNIZED_PLATFORM: Explanation(
        "the certificate service does not know this platform", "register the platform"
    ),
    Code.ECDSA_ID_MISMATCH: Explanation(
        "the quoting enclave has another identity than its stored key", _KEY_AGAIN
    ),
    Code.ERROR_STORED_KEY: Explanation("the stored attestation key can't be used", _KEY_AGAIN),
    Code.PUB_KEY_ID_MISMATCH: Explanation(
        "the attestation key is another one than the client's", _KEY_AGAIN
    ),
    Code.ATT_KEY_BLOB_ERROR: Explanation("the stored attestation key is damaged", _KEY_AGAIN),
    Code.UNSUPPORTED_ATT_KEY_ID: Explanation(
        "the client wants an attestation key that is not here; an EPID key never is",
        "take a key id that the service offers: ECDSA P-256, for DCAP",
    ),
    Code.UNSUPPORTED_LOADING_POLICY: Explanation(
        "the quoting library refuses its policy", _LIBRARY
    ),
    Code.INTERFACE_UNAVAILABLE: Explanation(
        "the quoting library can't reach its launch or attestation interface",
        "install the vendor's quoting package (libsgx-dcap-ql)",
    ),
    Code.PLATFORM_LIB_UNAVAILABLE: Explanation(
        "the library that fetches certificates is missing",
        "install libsgx-dcap-default-qpl, or the cloud's own provider library",
    ),
    Code.ATT_KEY_NOT_INITIALIZED: Explanation("there is no attestation key yet", _KEY_AGAIN),
    Code.ATT_KEY_CERT_DATA_INVALID: Explanation(
        "the certificate service's PCK certificate is not this platform's",
        "refresh the PCCS's cache for this platform",
    ),
    Code.NO_PLATFORM_CERT_DATA: Explanation(
        "the certificate service has no PCK certificate for this platform at its TCB",
        "register the platform (all packages), or refresh the PCCS's cache after a TCB recovery",
    ),
    Code.ERROR_REPORT: Explanation("the quoting enclave's own REPORT was refused", _LIBRARY),
    Code.ENCLAVE_LOST: Explanation(
        "the quoting enclave's memory is gone, as after a suspend", "ask again"
    ),
    Code.INVALID_REPORT: Explanation(
        "the REPORT was not made on this platform for its quoting enclave",
        "make it for the target info of init_quote_ex, on this node and platform, and anew after "
        "a TCB recovery; on the emulated platform client and service must share its identity",
    ),
    Code.ENCLAVE_LOAD_ERROR: Explanation("the quoting enclave can't be loaded", _DEVICES),
    Code.UNABLE_TO_GENERATE_QE_REPORT: Explanation(
        "the quoting enclave can't make a REPORT for the client", "ask without qe_report_info"
    ),
    Code.KEY_CERTIFICATION_ERROR: Explanation(
        "the certificate service names a TCB that is above this platform's",
        "refresh the PCCS's cache for this platform",
    ),
    Code.CONFIG_UNSUPPORTED: Explanation("the service's configuration has no such thing", _LIBRARY),
}

_NAMES: dict[int, str] = {code.value: code.name for code in Code}
_UNKNOWN = Explanation(
    "a code that does not belong to attestation by DCAP", "see the log of the service that gave it"
)

# What a quoting library answers, where the protocol has a code of another name for it.
_QUOTE_LIBRARY = {
    QlError.UNEXPECTED: Code.UNEXPECTED_ERROR,
    QlError.INVALID_PARAMETER: Code.PARAMETER_ERROR,
    QlError.OUT_OF_MEMORY: Code.OUT_OF_MEMORY_ERROR,
    QlError.PATHNAME_BUFFER_OVERFLOW: Code.PATHNAME_BUFFER_OVERFLOW_ERROR,
    QlError.FILE_ACCESS: Code.FILE_ACCESS_ERROR,
    QlError.STORED_KEY: Code.ERROR_STORED_KEY,
    QlError.ATT_KEY_BLOB: Code.ATT_KEY_BLOB_ERROR,
    QlError.MESSAGE_ERROR: Code.MSG_ERROR,
}


class Refusal(ProtocolError):
    """The service, or what makes its quotes, answered with an error; `code` says which."""

    def __init__(self, code: int, reason: str = "") -> None:
        cause, mend = explain(code)
        super().__init__(f"AESM error {code_name(code)}: {reason or cause}; {mend}")
        self.code = code
        self.reason = reason


def code_label(code: int) -> str:
    """Return a code's name, of which there are few whatever the code."""
    return _NAMES.get(code, "UNKNOWN")


def code_name(code: int) -> str:
    """Return a code's name and number, as messages and logs show it."""
    return f"{code_label(code)} ({code})"


def explain(code: int) -> Explanation:
    """Return cause and mend of a code."""
    return _EXPLAINED.get(code, _UNKNOWN)


def from_quote_library(status: int, call: str) -> Refusal:
    """Return the refusal for what a quoting library's function returned."""
    if status in set(QlError):
        error = QlError(status)
        code = _QUOTE_LIBRARY.get(error) or Code[error.name]
        name = f"SGX_QL_{error.name}"
    else:
        code, name = Code.UNEXPECTED_ERROR, "no code of its own"
    return Refusal(code, f"{call} returned {status:#06x} ({name}): {explain(code).cause}")
