# SPDX-License-Identifier: Apache-2.0
"""SIGSTRUCT, checked as EINIT checks it and made by a key that may live elsewhere."""

from collections.abc import Callable
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import rsa

from ensconce.crypto import (
    RSA_BYTES,
    RSA_EXPONENT,
    rsa3072_quotients,
    rsa3072_sign,
    rsa3072_verify,
)
from ensconce.errors import ConfigError, VerificationError
from ensconce.isa.sigstruct import HEADER, HEADER2, SigStruct

__all__ = [
    "DEBUG_HEADER",
    "HEADER_SIZE",
    "INTEL_VENDOR",
    "Signer",
    "check_signing_key",
    "finish_sigstruct",
    "key_signer",
    "sign_sigstruct",
    "sigstruct_fault",
    "verify_sigstruct",
]

INTEL_VENDOR = 0x8086

# the last four bytes are a type whose bit 31 marks a debug release; Intel signed some so
DEBUG_HEADER = HEADER[:15] + b"\x80"
HEADER_SIZE = 128

# bytes to sign -> big-endian PKCS #1 v1.5 SHA-256 signature of 384 bytes
Signer = Callable[[bytes], bytes]


def sigstruct_fault(sigstruct: SigStruct) -> str:
    """Return what EINIT would refuse about a SIGSTRUCT by itself, or an empty string.

    The checks of SDM vol. 3D, EINIT: header constants, vendor, reserved fields, exponent, the
    signature, and Q1 and Q2.
    """
    if sigstruct.header not in (HEADER, DEBUG_HEADER) or sigstruct.header2 != HEADER2:
        return "its header constants are wrong"
    if sigstruct.vendor not in (0, INTEL_VENDOR):
        return f"its vendor {sigstruct.vendor:#x} is neither 0 nor {INTEL_VENDOR:#x}"
    if reserved := sigstruct.reserved_nonzero():
        return f"its reserved fields {', '.join(reserved)} are not zero"
    if sigstruct.exponent != RSA_EXPONENT:
        return f"its exponent is {sigstruct.exponent}, not {RSA_EXPONENT}"
    modulus = int.from_bytes(sigstruct.modulus, "little")
    signature = int.from_bytes(sigstruct.signature, "little")
    if signature >= modulus:
        return "its signature is not smaller than its modulus"
    if not rsa3072_verify(modulus, sigstruct.signature[::-1], sigstruct.signed_bytes()):
        return "its RSA signature does not verify"
    q1, q2 = rsa3072_quotients(modulus, signature)
    if (sigstruct.q1, sigstruct.q2) != (_little(q1), _little(q2)):
        return "its Q1 or Q2 does not belong to its signature"
    return ""


def verify_sigstruct(sigstruct: SigStruct, *, source: str) -> None:
    """Raise `VerificationError` unless EINIT would take the SIGSTRUCT by itself."""
    if fault := sigstruct_fault(sigstruct):
        raise VerificationError(f"the SIGSTRUCT of {source} is not valid: {fault}")


def check_signing_key(key: rsa.RSAPrivateKey | rsa.RSAPublicKey, *, source: str) -> None:
    """Raise `ConfigError` unless a key is RSA-3072 with exponent 3."""
    public = key.public_key() if isinstance(key, rsa.RSAPrivateKey) else key
    exponent = public.public_numbers().e
    if public.key_size != RSA_BYTES * 8 or exponent != RSA_EXPONENT:
        raise ConfigError(
            f"{source} is an RSA-{public.key_size} key with exponent {exponent}; enclaves are "
            "signed with RSA-3072 and exponent 3 (`openssl genrsa -3 3072`)"
        )


def key_signer(key: rsa.RSAPrivateKey) -> Signer:
    """Return a signer that uses a private key in this process."""
    return lambda message: rsa3072_sign(key, message)


def sign_sigstruct(unsigned: SigStruct, public: rsa.RSAPublicKey, signer: Signer) -> SigStruct:
    """Return a SIGSTRUCT with the key's modulus and the signer's signature over it."""
    return finish_sigstruct(unsigned, public, signer(unsigned.signed_bytes()))


def finish_sigstruct(unsigned: SigStruct, public: rsa.RSAPublicKey, signature: bytes) -> SigStruct:
    """Return a SIGSTRUCT with a big-endian signature that was made elsewhere.

    Raises `VerificationError` when the signature is not this key's over this SIGSTRUCT.
    """
    check_signing_key(public, source="the signing key")
    modulus = public.public_numbers().n
    if not rsa3072_verify(modulus, signature, unsigned.signed_bytes()):
        raise VerificationError(
            "the signature is not the signing key's over this SIGSTRUCT; sign the bytes that "
            "gendata wrote, with PKCS #1 v1.5 and SHA-256"
        )
    q1, q2 = rsa3072_quotients(modulus, int.from_bytes(signature, "big"))
    return replace(
        unsigned,
        modulus=_little(modulus),
        exponent=RSA_EXPONENT,
        signature=signature[::-1],
        q1=_little(q1),
        q2=_little(q2),
    )


def _little(value: int) -> bytes:
    return value.to_bytes(RSA_BYTES, "little")
