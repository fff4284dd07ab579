# SPDX-License-Identifier: Apache-2.0
"""User and admin tokens: kept only as hashes, compared in constant time, never weak."""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict

from ensconce.errors import ConfigError

__all__ = ["TokenHash", "check_strength", "hash_token", "new_token"]

_N, _R, _P, _SIZE = 1 << 14, 8, 1, 32
_MOST_MEMORY = 64 << 20
_LONGEST = 1024
_SHORTEST, _FEWEST_KINDS = 16, 8
_REMEMBERED = 16
_SCRYPT = re.compile(
    r"scrypt\$([0-9]{1,8})\$([0-9]{1,2})\$([0-9]{1,2})\$([0-9a-f]{32})\$([0-9a-f]{64})"
)
_SHA512 = re.compile("[0-9a-fA-F]{128}")
_COMMON = (
    "", "admin", "administrator", "changeit", "changeme", "default", "intel", "intel123", "letmein",
    "pass", "passw0rd", "password", "password1", "password123", "pccs", "pccsadmin", "pccsuser",
    "qwerty", "root", "secret", "sgx", "test", "token", "user", "0123456789", "1234", "12345",
    "123456", "12345678", "1234567890", "admintoken", "usertoken", "admin-token", "user-token",
    "mytoken", "pccs-admin", "pccs-user", "1234567890abcdef", "0123456789abcdef",
    "passwordpassword", "changemechangeme", "adminadminadmin1",
)  # fmt: skip
_COMMON_HASHES = {hashlib.sha512(word.encode()).hexdigest() for word in _COMMON}


def new_token() -> str:
    """Return a token with 256 bits of chance."""
    return secrets.token_urlsafe(32)


def check_strength(token: str) -> None:
    """Refuse a token that can be guessed."""
    if token.lower() in _COMMON or len(token) < _SHORTEST or len(set(token)) < _FEWEST_KINDS:
        raise ConfigError(
            f"the token is a common word, shorter than {_SHORTEST} characters or has fewer than "
            f"{_FEWEST_KINDS} different ones; `ensconce pccs token` makes a good one"
        )
    if len(token) > _LONGEST or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"the token is longer than {_LONGEST} characters, or can't be in an HTTP header; use "
            "printable ASCII"
        )


def hash_token(token: str) -> str:
    """Return a strong token's hash as a setting has it: scrypt with its parameters and salt."""
    check_strength(token)
    salt = secrets.token_bytes(16)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${_scrypt(token, salt, _N, _R, _P).hex()}"


class TokenHash:
    """A token's hash: ours (scrypt), or the vendor's configuration's (SHA-512 in hex).

    The last tokens that matched are remembered under a key of this process, for scrypt takes time.
    """

    def __init__(self, text: str, what: str) -> None:
        self._scrypt = _SCRYPT.fullmatch(text)
        if self._scrypt is not None:
            n, r, p = map(int, self._scrypt.groups()[:3])
            if n < 2 or n & (n - 1) or n * r * 128 > _MOST_MEMORY or not (r and 0 < p <= 4):
                self._scrypt = None
        if self._scrypt is None and not _SHA512.fullmatch(text):
            raise ConfigError(
                f"the {what} token's hash is neither ours nor SHA-512 in hex; "
                "`ensconce pccs token` prints one"
            )
        if text.lower() in _COMMON_HASHES:
            raise ConfigError(
                f"the {what} token is a default or common one, which anybody tries first; "
                "`ensconce pccs token` makes a good one"
            )
        self._text = text.lower()
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def matches(self, token: str) -> bool:
        """Return whether this is the hashed token; a weak token never is. It may take 0.1 s."""
        if self.remembers(token):
            return True
        try:
            check_strength(token)
        except ConfigError:
            return False
        if not self._hash_matches(token):
            return False
        self._right[self._mark(token)] = None
        while len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return True

    def remembers(self, token: str) -> bool:
        """Return at once whether this token has matched before."""
        known = self._mark(token)
        return any(hmac.compare_digest(known, right) for right in tuple(self._right))

    def _mark(self, token: str) -> bytes:
        """Return what stands for a token in this process's memory."""
        return hmac.digest(self._key, token.encode(), "sha256")

    def _hash_matches(self, token: str) -> bool:
        """Return whether a token has the hash."""
        if self._scrypt is None:
            found = hashlib.sha512(token.encode()).hexdigest()
            return hmac.compare_digest(found, self._text)
        n, r, p = map(int, self._scrypt.groups()[:3])
        found = _scrypt(token, bytes.fromhex(self._scrypt[4]), n, r, p).hex()
        return hmac.compare_digest(found, self._scrypt[5])


def _scrypt(token: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    """Return scrypt of a token."""
    return hashlib.scrypt(
        token.encode(), salt=salt, n=n, r=r, p=p, dklen=_SIZE, maxmem=2 * _MOST_MEMORY
    )
