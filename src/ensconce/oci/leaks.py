# SPDX-License-Identifier: Apache-2.0
"""Find secrets that somebody is about to publish in an image by mistake.

This catches the obvious ones, private keys above all; that nothing is found proves nothing.
"""

import hashlib
import re
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from ensconce.oci.tree import Kind, Tree

__all__ = ["find_leaks"]

_PEM = re.compile(rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----\s")
_DER = b"\x30\x82"  # a sequence of more than 255 bytes
_LARGEST_KEY = 1 << 14
_NAMES = re.compile(
    r"(^|/)(\.netrc|\.pgpass|\.git-credentials|\.docker/config\.json|\.aws/credentials"
    r"|\.kube/config|id_(rsa|dsa|ecdsa|ed25519)|\.env|[^/]+\.(p12|pfx|jks|keystore))$"
)


def find_leaks(files: Tree, signers: frozenset[bytes]) -> dict[str, str]:
    """Return the paths that hold secrets, and what each is; `signers` are MRSIGNERs to know."""
    found = {}
    for path, entry in files:
        if entry.kind is Kind.FILE and (what := _leak(path, entry.content, signers)):
            found[path] = what
    return found


def _leak(path: str, content: bytes, signers: frozenset[bytes]) -> str:
    """Return what secret a file is, or nothing."""
    for start in _PEM.finditer(content):
        end = content.find(b"-----END " + start[1] + b"-----", start.end())
        if 0 <= end - start.start() <= _LARGEST_KEY:
            block = content[start.start() : end] + b"-----END " + start[1] + b"-----\n"
            return _kind_of_key(block, signers, load_pem_private_key)
    if content[:2] == _DER and len(content) <= _LARGEST_KEY:
        return _kind_of_key(content, signers, load_der_private_key, otherwise="")
    return "a file of credentials" if _NAMES.search(path) else ""


def _kind_of_key(
    encoded: bytes,
    signers: frozenset[bytes],
    load: Callable[[bytes, bytes | None], object],
    otherwise: str = "a private key",
) -> str:
    """Return what a key is for: one that an enclave in the image was signed with, or any."""
    try:
        key = load(encoded, None)
    except (ValueError, UnsupportedAlgorithm):
        return otherwise
    except TypeError:
        return "a private key"  # which is encrypted
    if isinstance(key, RSAPrivateKey):
        modulus = key.public_key().public_numbers().n
        size = (modulus.bit_length() + 7) // 8
        if hashlib.sha256(modulus.to_bytes(size, "little")).digest() in signers:
            return "the key that the enclave was signed with"
    return "a private key"
