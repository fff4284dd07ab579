# SPDX-License-Identifier: Apache-2.0
"""Why the driver refused to build an enclave, said in one sentence.

Linux answers EPERM whatever EINIT's own code was, so what EINIT checks is checked once more here.
"""

import errno

from ensconce.errors import (
    DeviceError,
    EnsconceError,
    MeasurementError,
    PolicyError,
    VerificationError,
)
from ensconce.image import Image, sigstruct_fault
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.secs import Secs

__all__ = ["build_error", "init_error"]

_TEXTS = {
    errno.ENOMEM: "the EPC is too small for it, or other enclaves fill it; give the platform more "
    "EPC, end other enclaves, or lower HeapMaxSize",
    errno.EIO: "the enclave was lost while it was being built, as in a power transition; load it "
    "again",
    errno.EACCES: "this process may not map it executable, or has not been granted the "
    "provisioning key; look at the mount options and at /dev/sgx_provision",
    errno.EINVAL: "the driver found its SECS or one of its pages invalid; the file is damaged",
    errno.EFAULT: "the driver could not read what it was given",
    errno.EBUSY: "the driver is busy with this enclave, or two of its pages have one address",
    errno.EEXIST: "two of its pages have one address; the file is damaged",
}
_CODES = {
    ErrorCode.INVALID_SIG_STRUCT: "a field of its SIGSTRUCT is not what it must be; sign it again",
    ErrorCode.INVALID_ATTRIBUTE: "its ATTRIBUTES are not those that were signed, or it asks for a "
    "key that only Intel's enclaves may have",
    ErrorCode.INVALID_EINITTOKEN: "this platform launches only enclaves with a token: it has no "
    "flexible launch control",
    ErrorCode.UNMASKED_EVENT: "interrupts kept EINIT from finishing; load it again",
}


def build_error(image: Image, step: str, error: OSError) -> DeviceError:
    """Return the error for a refused step before EINIT."""
    number = error.errno or 0
    text = _TEXTS.get(number, error.strerror or "the driver gave no reason")
    return DeviceError(f"{image.source}: {step} was refused: {text}", errno=number)


def init_error(image: Image, secs: Secs, answer: int | OSError) -> EnsconceError:
    """Return the error for a refused EINIT, from an SGX code or the driver's errno."""
    if isinstance(answer, OSError):
        if answer.errno == errno.EACCES:
            flags = secs.attributes.flags
            return PolicyError(
                f"{image.source} asks for ATTRIBUTES {int(flags):#x}, which the SGX driver of "
                "Linux does not grant: EINITTOKENKEY is for launch enclaves, which flexible launch "
                "control does without"
            )
        if answer.errno != errno.EPERM:
            return build_error(image, "EINIT", answer)
        code = _likely_code(image, secs)
    else:
        code = answer
    sigstruct = image.sigstruct
    signed = sigstruct.enclave_hash.hex() if sigstruct is not None else "none"
    if code == ErrorCode.INVALID_MEASUREMENT:
        return MeasurementError(
            f"{image.source} was changed after signing, or its SIGSTRUCT is another enclave's: "
            f"MRENCLAVE is {image.measure().hex()}, and {signed} was signed; sign it again"
        )
    if code == ErrorCode.INVALID_SIGNATURE:
        return VerificationError(
            f"{image.source} has a SIGSTRUCT whose signature is not valid; sign it again"
        )
    name = ErrorCode(code).name if code in set(ErrorCode) else f"{code:#x}"
    text = _CODES.get(ErrorCode(code)) if code in set(ErrorCode) else None
    return PolicyError(
        f"{image.source}: EINIT was refused (SGX_{name}): "
        f"{text or 'the processor or its driver does not launch it'}"
    )


def _likely_code(image: Image, secs: Secs) -> int:
    """Return the code that EINIT gives for this enclave, by its own checks in their order."""
    sigstruct = image.sigstruct
    if sigstruct is None or sigstruct.reserved_nonzero():
        return ErrorCode.INVALID_SIG_STRUCT
    if sigstruct_fault(sigstruct):
        return ErrorCode.INVALID_SIGNATURE
    if image.measure() != sigstruct.enclave_hash:
        return ErrorCode.INVALID_MEASUREMENT
    mask = sigstruct.attribute_mask
    if secs.attributes & mask != sigstruct.attributes & mask:
        return ErrorCode.INVALID_ATTRIBUTE
    return ErrorCode.INVALID_EINITTOKEN
