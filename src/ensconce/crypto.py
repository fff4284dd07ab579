# SPDX-License-Identifier: Apache-2.0
"""The few primitives that SGX fixes, over `cryptography`: AES-CMAC, RSA-3072 with e = 3, P-256."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

__all__ = [
    "P256_BYTES",
    "RSA_BYTES",
    "RSA_EXPONENT",
    "aes_cmac",
    "generate_signing_key",
    "p256_key",
    "p256_point",
    "p256_sign",
    "rsa3072_quotients",
    "rsa3072_sign",
    "rsa3072_verify",
]

RSA_BYTES = 384
RSA_EXPONENT = 3
P256_BYTES = 32

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_SECRET_BYTES = 40


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


def p256_key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key that a secret of 40 bytes or more stands for.

    The eight bytes more than the order keep the key from being biased (FIPS 186-5, A.2.1).
    """
    if len(secret) < _P256_SECRET_BYTES:
        raise ValueError(f"a P-256 key takes {_P256_SECRET_BYTES} bytes of secret")
    return ec.derive_private_key(
        int.from_bytes(secret, "big") % (_P256_ORDER - 1) + 1, ec.SECP256R1()
    )


def p256_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as quotes hold it: x and y, 32 big-endian bytes each."""
    numbers = key.public_numbers()
    return numbers.x.to_bytes(P256_BYTES, "big") + numbers.y.to_bytes(P256_BYTES, "big")


def p256_sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return the ECDSA signature with SHA-256 as r and s, 32 big-endian bytes each.

    The nonce follows from key and message (RFC 6979), so that the same input gives the same bytes.
    """
    made = key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = decode_dss_signature(made)
    return r.to_bytes(P256_BYTES, "big") + s.to_bytes(P256_BYTES, "big")
