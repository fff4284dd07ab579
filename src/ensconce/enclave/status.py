# SPDX-License-Identifier: Apache-2.0
"""The vendor's status codes (`sgx_status_t`): what a number means, and what to do about it."""

from enum import IntEnum

__all__ = ["Status", "describe"]


class Status(IntEnum):
    """What trusted code of the vendor's SDK returns from an ECALL or to an OCALL's caller."""

    SUCCESS = 0
    UNEXPECTED = 0x0001
    INVALID_PARAMETER = 0x0002
    OUT_OF_MEMORY = 0x0003
    ENCLAVE_LOST = 0x0004
    INVALID_STATE = 0x0005
    FEATURE_NOT_SUPPORTED = 0x0008
    PTHREAD_EXIT = 0x0009
    MEMORY_MAP_FAILURE = 0x000A
    INVALID_FUNCTION = 0x1001
    OUT_OF_TCS = 0x1003
    ENCLAVE_CRASHED = 0x1006
    ECALL_NOT_ALLOWED = 0x1007
    OCALL_NOT_ALLOWED = 0x1008
    STACK_OVERRUN = 0x1009
    UNDEFINED_SYMBOL = 0x2000
    INVALID_ENCLAVE = 0x2001
    INVALID_ENCLAVE_ID = 0x2002
    INVALID_SIGNATURE = 0x2003
    NDEBUG_ENCLAVE = 0x2004
    OUT_OF_EPC = 0x2005
    NO_DEVICE = 0x2006
    MEMORY_MAP_CONFLICT = 0x2007
    INVALID_METADATA = 0x2009
    DEVICE_BUSY = 0x200C
    INVALID_VERSION = 0x200D
    MODE_INCOMPATIBLE = 0x200E
    ENCLAVE_FILE_ACCESS = 0x200F
    INVALID_MISC = 0x2010
    INVALID_LAUNCH_TOKEN = 0x2011
    MAC_MISMATCH = 0x3001
    INVALID_ATTRIBUTE = 0x3002
    INVALID_CPUSVN = 0x3003
    INVALID_ISVSVN = 0x3004
    INVALID_KEYNAME = 0x3005
    UNSUPPORTED_FUNCTION = 0x3006
    SERVICE_UNAVAILABLE = 0x4001
    SERVICE_TIMEOUT = 0x4002
    AE_INVALID_EPIDBLOB = 0x4003
    SERVICE_INVALID_PRIVILEGE = 0x4004
    EPID_MEMBER_REVOKED = 0x4005
    UPDATE_NEEDED = 0x4006
    NETWORK_FAILURE = 0x4007
    AE_SESSION_INVALID = 0x4008
    BUSY = 0x400A
    MC_NOT_FOUND = 0x400C
    MC_NO_ACCESS_RIGHT = 0x400D
    MC_USED_UP = 0x400E
    MC_OVER_QUOTA = 0x400F
    KDF_MISMATCH = 0x4011
    UNRECOGNIZED_PLATFORM = 0x4012
    UNSUPPORTED_CONFIG = 0x4013
    NO_PRIVILEGE = 0x5002
    PCL_ENCRYPTED = 0x6001
    PCL_NOT_ENCRYPTED = 0x6002
    PCL_MAC_MISMATCH = 0x6003
    PCL_SHA_MISMATCH = 0x6004
    PCL_GUID_MISMATCH = 0x6005
    FILE_BAD_STATUS = 0x7001
    FILE_NO_KEY_ID = 0x7002
    FILE_NAME_MISMATCH = 0x7003
    FILE_NOT_SGX_FILE = 0x7004
    FILE_CANT_OPEN_RECOVERY_FILE = 0x7005
    FILE_CANT_WRITE_RECOVERY_FILE = 0x7006
    FILE_RECOVERY_NEEDED = 0x7007
    FILE_FLUSH_FAILED = 0x7008
    FILE_CLOSE_FAILED = 0x7009
    UNSUPPORTED_ATT_KEY_ID = 0x8001
    ATT_KEY_CERTIFICATION_FAILURE = 0x8002
    ATT_KEY_UNINITIALIZED = 0x8003
    INVALID_ATT_KEY_CERT_DATA = 0x8004
    PLATFORM_CERT_UNAVAILABLE = 0x8005
    TLS_X509_INVALID_EXTENSION = 0x9001


# what happened; what mends it
_TEXTS: dict[Status, str] = {
    Status.UNEXPECTED: (
        "something failed inside the enclave that has no code of its own; load it with debug=True "
        "and look at its OCALLs"
    ),
    Status.INVALID_PARAMETER: (
        "the enclave refused an argument: a pointer into the enclave, a size that overflows or a "
        "string without its end; check the arguments against the EDL"
    ),
    Status.OUT_OF_MEMORY: (
        "the enclave's heap, or the untrusted stack for OCALLs, is used up; raise HeapMaxSize and "
        "sign again"
    ),
    Status.ENCLAVE_LOST: "the enclave's memory is gone; load it again",
    Status.INVALID_STATE: "the enclave's functions were called in the wrong order",
    Status.FEATURE_NOT_SUPPORTED: "this platform lacks what the enclave asked for",
    Status.PTHREAD_EXIT: "the ECALL ended with pthread_exit()",
    Status.INVALID_FUNCTION: (
        "the enclave has no ECALL of that number, or the host no such OCALL; use the EDL file that "
        "the enclave was built with"
    ),
    Status.OUT_OF_TCS: "every TCS is in use; raise TCSNum, or call from fewer threads",
    Status.ENCLAVE_CRASHED: "the enclave faulted or aborted, and takes no ECALLs any more; reload",
    Status.ECALL_NOT_ALLOWED: (
        "the ECALL is private, or the OCALL that is running does not allow it; make it public or "
        "list it in allow(...)"
    ),
    Status.OCALL_NOT_ALLOWED: "OCALLs can't be made while an exception is being handled",
    Status.STACK_OVERRUN: "the enclave's stack overflowed; raise StackMaxSize and sign again",
    Status.MAC_MISMATCH: (
        "a MAC does not match: sealed data or a report was changed, or comes from another enclave "
        "or platform"
    ),
    Status.INVALID_ATTRIBUTE: "the enclave's ATTRIBUTES do not permit that key or report",
    Status.INVALID_CPUSVN: "the data was sealed on a platform with a newer TCB; update this one",
    Status.INVALID_ISVSVN: "the data was sealed by a newer version of the enclave; update it",
    Status.INVALID_KEYNAME: "the enclave asked EGETKEY for a key that does not exist",
    Status.SERVICE_UNAVAILABLE: "no AESM service answered; start it",
    Status.SERVICE_TIMEOUT: "the AESM service did not answer in time",
    Status.BUSY: "the service is busy; try again",
    Status.FILE_NOT_SGX_FILE: "the file was not written by the enclave's protected file system",
    Status.ATT_KEY_UNINITIALIZED: "the platform has no attestation key yet",
    Status.PLATFORM_CERT_UNAVAILABLE: "there is no PCK certificate for this platform",
}


def describe(code: int) -> str:
    """Return a code's number, its vendor name and, where known, its cause and mend."""
    try:
        status = Status(code)
    except ValueError:
        return f"status {code:#x}"
    prefix = "SGX_" if status in (Status.SUCCESS, Status.PTHREAD_EXIT) else "SGX_ERROR_"
    text = _TEXTS.get(status)
    name = f"{prefix}{status.name} ({code:#06x})"
    return f"{name}: {text}" if text else name
