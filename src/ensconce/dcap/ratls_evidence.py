# SPDX-License-Identifier: Apache-2.0
"""Evidence in TLS certificates: what peers write, read into one shape, and what we write.

| extension | whose | value |
|---|---|---|
| 2.23.133.5.4.9 | CCC interoperable RA-TLS; Gramine, Intel's SDK, rats-tls | CBOR, below |
| 2.23.133.5.4.2 | the same: endorsements, optional | CBOR, below |
| 0.6.9.42.840.113741.1337.6 | Gramine, before that | the quote |
| 1.2.840.113741.1.13.1 | Intel's SDK, before that; in PCK certificates something else | the quote |

The CBOR of evidence is 60000([quote, claims]); `claims` is a byte string that holds a map with
"pubkey-hash", itself the bytes of [algorithm, hash of the SubjectPublicKeyInfo], perhaps "nonce",
and whatever else the enclave wants to say. The quote's report data begin with the hash of
`claims`. In the older forms they begin with the SHA-256 of the SubjectPublicKeyInfo.

Source: "Interoperable RA-TLS SGX / TDX Evidence Formats" of the Confidential Computing Consortium.
"""

import hashlib
import hmac
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Self

from ensconce.dcap import der
from ensconce.dcap.cbor import Tagged, Value, decode, encode
from ensconce.dcap.quote import Quote, TdReport, TdReport15
from ensconce.dcap.ratls_certificate import TlsCertificate
from ensconce.errors import FormatError

__all__ = [
    "ENDORSEMENTS",
    "EVIDENCE",
    "GRAMINE_QUOTE",
    "INTEL_QUOTE",
    "MAX_NONCE",
    "NONCE",
    "PUBKEY_HASH",
    "Evidence",
    "Form",
    "encode_evidence",
    "make_claims",
    "report_data_of",
]

EVIDENCE = "2.23.133.5.4.9"
ENDORSEMENTS = "2.23.133.5.4.2"
GRAMINE_QUOTE = "0.6.9.42.840.113741.1337.6"
INTEL_QUOTE = "1.2.840.113741.1.13.1"
QUOTE_TAG = 60000
PUBKEY_HASH, NONCE = "pubkey-hash", "nonce"
MAX_NONCE = 64

_LOCAL_TAGS = {60001: "a REPORT of type 2", 60002: "a REPORT"}
_HASHES = {1: "sha256", 7: "sha384", 8: "sha512"}  # IANA, Named Information Hash Algorithms
_SHA256 = 1
_REPORT_DATA = 64
_MAX_CLAIMS = 1 << 16
_SOURCE = "the evidence"


class Form(Enum):
    """How a certificate carries evidence."""

    INTEROPERABLE = "interoperable"
    GRAMINE = "gramine"
    INTEL_SDK = "intel-sdk"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A quote from a certificate, with the claims that it vouches for.

    `claims_buffer` is None in the older forms, which bind the key alone. `claims` are its byte
    strings by name; they are the peer's words until `ratls.verify_certificate` accepts them.
    """

    form: Form
    quote: bytes
    claims_buffer: bytes | None
    claims: MappingProxyType[str, bytes]

    @classmethod
    def read(cls, certificate: TlsCertificate) -> Self:
        """Return a certificate's evidence, the interoperable one where there are several.

        FormatError if it has none, or one that can't be read.
        """
        found = certificate.extensions
        for oid, form in (
            (EVIDENCE, Form.INTEROPERABLE),
            (GRAMINE_QUOTE, Form.GRAMINE),
            (INTEL_QUOTE, Form.INTEL_SDK),
        ):
            value = found.get(der.encode_oid(oid))
            if value is not None and form is Form.INTEROPERABLE:
                return cls.decode(value)
            if value is not None:
                return cls(form, value, None, MappingProxyType({}))
        raise FormatError(
            "the TLS certificate carries no evidence: it has none of the extensions "
            f"{EVIDENCE}, {GRAMINE_QUOTE}, {INTEL_QUOTE}; the peer is no RA-TLS peer",
            source=_SOURCE,
        )

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Return the evidence in the interoperable extension's value."""
        tagged = decode(value, _SOURCE)
        if not isinstance(tagged, Tagged):
            raise _fault("no CBOR tag that says what it is")
        if tagged.tag != QUOTE_TAG:
            local = _LOCAL_TAGS.get(tagged.tag, "something unknown")
            raise _fault(f"tag {tagged.tag}, {local}, not {QUOTE_TAG}, a quote")
        match tagged.value:
            case (bytes(quote), bytes(buffer)) if len(buffer) <= _MAX_CLAIMS:
                return cls(Form.INTEROPERABLE, quote, buffer, _claims(buffer))
        raise _fault("other items than a quote and claims")

    @property
    def nonce(self) -> bytes | None:
        """The nonce in the claims, None where there is none."""
        return self.claims.get(NONCE)

    def vouches_for(self, certificate: TlsCertificate) -> bool:
        """Return whether the claims name the certificate's own key; true in the older forms."""
        if self.claims_buffer is None:
            return True
        match decode(self.claims[PUBKEY_HASH], _SOURCE):
            case (int(algorithm), bytes(digest)) if algorithm in _HASHES:
                wanted = hashlib.new(_HASHES[algorithm], certificate.spki).digest()
                return hmac.compare_digest(wanted, digest)
        raise _fault(f"a {PUBKEY_HASH} that is not [1, 7 or 8, a hash]")

    def bound(self, quote: Quote, certificate: TlsCertificate) -> bool:
        """Return whether the quote's report data bind claims, or in older forms the key.

        They begin with SHA-256. Intel's SDK takes SHA-384 in trust domains, so that is taken of
        those too.
        """
        body = quote.body
        if isinstance(body, TdReport15):
            body = body.td
        bound = certificate.spki if self.claims_buffer is None else self.claims_buffer
        names = ["sha256"]
        if isinstance(body, TdReport):
            names.append("sha384")
        digests = [hashlib.new(name, bound).digest() for name in names]
        return any(
            hmac.compare_digest(digest, body.report_data[: len(digest)]) for digest in digests
        )


def encode_evidence(quote: bytes, claims_buffer: bytes) -> bytes:
    """Return the interoperable extension's value."""
    return encode(Tagged(QUOTE_TAG, (quote, claims_buffer)))


def make_claims(spki: bytes, nonce: bytes | None = None, **others: bytes) -> bytes:
    """Return a claims buffer for a key (a DER SubjectPublicKeyInfo), and a nonce if there is one.

    What `others` say (with underscores for hyphens) is bound too; peers ignore what they don't
    know.
    """
    digest = hashlib.sha256(spki).digest()
    claims: dict[str, Value] = {PUBKEY_HASH: encode((_SHA256, digest))}
    if nonce is not None:
        claims[NONCE] = nonce
    return encode(claims | {name.replace("_", "-"): value for name, value in others.items()})


def report_data_of(bound: bytes) -> bytes:
    """Return the 64 bytes of report data that bind a claims buffer or a SubjectPublicKeyInfo."""
    return hashlib.sha256(bound).digest().ljust(_REPORT_DATA, b"\0")


def _claims(buffer: bytes) -> MappingProxyType[str, bytes]:
    """Return the byte strings in a claims buffer, one of which is the key's hash."""
    claims = decode(buffer, "the claims buffer")
    if not isinstance(claims, dict):
        raise _fault("claims that are no map")
    for name in (PUBKEY_HASH, NONCE):
        if not isinstance(claims.get(name, b""), bytes):
            raise _fault(f"a {name} that is no byte string")
    if PUBKEY_HASH not in claims:
        raise _fault(f"no {PUBKEY_HASH} in its claims")
    return MappingProxyType({k: v for k, v in claims.items() if isinstance(v, bytes)})


def _fault(what: str) -> FormatError:
    """Return the error of evidence that can't be used."""
    return FormatError(f"{_SOURCE} has {what}", source=_SOURCE)
