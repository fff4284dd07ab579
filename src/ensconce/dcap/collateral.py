# SPDX-License-Identifier: Apache-2.0
"""Collateral: what PCS publishes and a quote is checked with, in one JSON file.

The file is only a container that nothing vouches for; the signed texts in it are strings, so
that the bytes the signatures cover come through unchanged.
"""

import json
from dataclasses import dataclass
from typing import Self

from ensconce.dcap.signed_json import parse_object
from ensconce.errors import FormatError

__all__ = ["Collateral", "crl_in", "signed_in"]

_MAX_SIZE = 8 << 20
_SIGNATURE = 64


@dataclass(frozen=True, slots=True)
class Collateral:
    """Unchecked collateral: PEM chains, DER CRLs, signed JSON verbatim, 64-byte signatures.

    `pck_certificate_chain` is for quotes that don't carry their own, empty otherwise.
    """

    pck_crl_issuer_chain: bytes
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: bytes
    tcb_info: bytes
    tcb_info_signature: bytes
    qe_identity_issuer_chain: bytes
    qe_identity: bytes
    qe_identity_signature: bytes
    pck_certificate_chain: bytes = b""

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Return the collateral in a JSON text."""
        fields = parse_object(text, "collateral", _MAX_SIZE)

        def raw(key: str, size: int | None = None) -> bytes:
            """Return the bytes that a string has in hex, of a size if one is given."""
            value = fields.text(key)
            try:
                found = bytes.fromhex(value) if value.isalnum() else b""
            except ValueError:
                found = b""
            if not found or (size is not None and len(found) != size):
                fields.refuse(key, f"{size} bytes in hex" if size else "bytes in hex")
            return found

        try:
            return cls(
                fields.text("pck_crl_issuer_chain").encode(),
                raw("root_ca_crl"),
                raw("pck_crl"),
                fields.text("tcb_info_issuer_chain").encode(),
                fields.text("tcb_info").encode(),
                raw("tcb_info_signature", _SIGNATURE),
                fields.text("qe_identity_issuer_chain").encode(),
                fields.text("qe_identity").encode(),
                raw("qe_identity_signature", _SIGNATURE),
                fields.text_if_any("pck_certificate_chain").encode(),
            )
        except UnicodeEncodeError as error:
            raise FormatError(
                "the collateral holds half a character; it was not written as UTF-8",
                source="collateral",
            ) from error


def signed_in(answer: bytes, name: str, source: str) -> tuple[bytes, bytes]:
    """Return a signed object's bytes as they came, and the signature, out of an answer of PCS."""
    prefix, between = f'{{"{name}":', ',"signature":"'
    try:
        text = answer.decode()
        if not text.startswith(prefix):
            raise ValueError(f"it does not begin with {prefix}")
        _, end = json.JSONDecoder().raw_decode(text, len(prefix))
        rest = text[end:].rstrip()
        if not rest.startswith(between) or not rest.endswith('"}'):
            raise ValueError("no signature follows")
        signature = bytes.fromhex(rest[len(between) : -2])
        if len(signature) != _SIGNATURE:
            raise ValueError(f"the signature has {len(signature)} bytes")
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{source}'s {name} can't be read: {error}", source=source) from error
    return text[len(prefix) : end].encode(), signature


def crl_in(answer: bytes, source: str) -> bytes:
    """Return a CRL in DER, which an answer may have in hex."""
    if answer[:1] == b"\x30" and answer[1:2] >= b"\x80":
        return answer
    try:
        return bytes.fromhex(answer.decode("ascii").strip())
    except ValueError as error:
        raise FormatError(f"{source}'s CRL is neither DER nor hex", source=source) from error
