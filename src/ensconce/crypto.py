# SPDX-License-Identifier: Apache-2.0
"""The few primitives that SGX fixes, over `cryptography`: AES-CMAC and RSA-3072 with e = 3."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

__all__ = [
    "RSA_BYTES",
    "RSA_EXPONENT",
    "aes_cmac",
    "generate_signing_key",
    "rsa3072_quotients",
    "rsa3072_sign",
    "rsa3072_verify",
]

RSA_BYTES = 384
RSA_EXPONENT = 3


def aes_cmac(key: bytes, message: bytes) -> bytes:
    """Return the AES-CMAC of a message: 16-byte key, 16-byte tag (NIST SP 800-38B)."""
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def generate_signing_key() -> rsa.RSAPrivateKey:
    """Return a new enclave signing key: RSA-3072 with the exponent 3 that SIGSTRUCT demands."""
    return rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=RSA_BYTES * 8)


def rsa3072_sign(key: rsa.RSAPrivateKey, message: bytes) -> bytes:
    """Return the 384-byte big-endian PKCS #1 v1.5 signature with SHA-256."""
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def rsa3072_verify(modulus: int, signature: bytes, message: bytes) -> bool:
    """Return whether a big-endian PKCS #1 v1.5 SHA-256 signature with e = 3 is valid."""
    if modulus.bit_length() != RSA_BYTES * 8 or not modulus & 1:
        return False
    key = rsa.RSAPublicNumbers(RSA_EXPONENT, modulus).public_key()
    try:
        key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def rsa3072_quotients(modulus: int, signature: int) -> tuple[int, int]:
    """Return SIGSTRUCT's Q1 and Q2, which spare EINIT the divisions (SDM vol. 3D, 38.13).

    Q1 = floor(S^2 / M), Q2 = floor((S^3 - Q1 * S * M) / M).
    """
    q1 = signature * signature // modulus
    q2 = (signature**3 - q1 * signature * modulus) // modulus
    return q1, q2
