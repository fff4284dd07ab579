# SPDX-License-Identifier: Apache-2.0
"""A nonce for each connection, which a client puts into the name that it asks the server for.

Python's TLS lets a server choose its certificate by the server name (SNI, RFC 6066) and by nothing
else, so that is where the nonce travels: 32 bytes in base32, under a domain that can't exist. It
is no secret. The server's certificate then answers with a quote that was made after the client
asked.
"""

import base64
import binascii
import secrets

__all__ = ["name_with", "new_name", "nonce_in"]

_DOMAIN = ".ra-tls.invalid"
_BYTES = 32
_LETTERS = 52  # 32 bytes in base32, without padding
_PADDING = "===="


def new_name() -> str:
    """Return a server name with a new nonce in it."""
    return name_with(secrets.token_bytes(_BYTES))


def name_with(nonce: bytes) -> str:
    """Return the server name with a nonce of 32 bytes in it."""
    return base64.b32encode(nonce).decode().rstrip("=").lower() + _DOMAIN


def nonce_in(name: str | None) -> bytes | None:
    """Return the nonce in a server name, None where it has none."""
    letters = (name or "").removesuffix(_DOMAIN)
    if letters == name or len(letters) != _LETTERS:
        return None
    try:
        return base64.b32decode(letters.upper() + _PADDING)
    except (binascii.Error, ValueError):
        return None
