# SPDX-License-Identifier: Apache-2.0
"""A self-signed TLS certificate as peers really make it, read without a general X.509 parser.

Gramine writes NULL parameters behind an ECDSA algorithm, which strict parsers refuse. This walk
follows the fixed structure of RFC 5280, 4.1, so its depth is bounded, and takes what it needs:
key, signature, dates and extensions. Signatures cover the original bytes.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ensconce.dcap import der
from ensconce.errors import FormatError

__all__ = ["MAX_CERTIFICATE_SIZE", "TlsCertificate"]

MAX_CERTIFICATE_SIZE = 1 << 19
"""Two quotes and a full set of endorsements have about 40 KB."""

_SOURCE = "the TLS certificate"
_MAX_EXTENSIONS = 32
_MIN_RSA_BITS = 2048
_BIT_STRING, _UTC_TIME, _GENERALIZED_TIME = 3, 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_V3 = bytes.fromhex("020102")
_NULL = bytes.fromhex("0500")

_ECDSA: dict[bytes, hashes.HashAlgorithm] = {
    der.encode_oid("1.2.840.10045.4.3.2"): hashes.SHA256(),
    der.encode_oid("1.2.840.10045.4.3.3"): hashes.SHA384(),
    der.encode_oid("1.2.840.10045.4.3.4"): hashes.SHA512(),
}
_RSA: dict[bytes, hashes.HashAlgorithm] = {
    der.encode_oid("1.2.840.113549.1.1.11"): hashes.SHA256(),
    der.encode_oid("1.2.840.113549.1.1.12"): hashes.SHA384(),
    der.encode_oid("1.2.840.113549.1.1.13"): hashes.SHA512(),
}
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


@dataclass(frozen=True, slots=True)
class TlsCertificate:
    """What a certificate says. `spki`, `subject` and `issuer` are DER; `algorithm` is an OID.

    `extensions` has values by the bytes of their OIDs; `critical` those OIDs that are critical.
    """

    signed: bytes
    algorithm: bytes
    signature: bytes
    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    spki: bytes
    extensions: dict[bytes, bytes]
    critical: frozenset[bytes]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the certificate in exactly these DER bytes; FormatError says what is wrong."""
        if len(data) > MAX_CERTIFICATE_SIZE:
            raise _fault(f"{len(data)} bytes, more than the {MAX_CERTIFICATE_SIZE} it may have")
        outer = _sequence(der.only_child(data, der.SEQUENCE, _SOURCE), 3)
        tbs, algorithm, signature = outer
        if (tbs.tag, algorithm.tag, signature.tag) != (der.SEQUENCE, der.SEQUENCE, _BIT_STRING):
            raise _fault("no signed part, algorithm and signature")
        fields = der.elements(tbs.contents, _SOURCE)
        tags = [field.tag for field in fields]
        sequence = der.SEQUENCE
        wanted = [_VERSION, der.INTEGER, *[sequence] * 5, _EXTENSIONS]
        if tags != wanted or fields[0].contents != _V3:
            raise _fault("other fields than an X.509 version 3 certificate with extensions")
        inner, issuer, validity, subject, spki, extensions = fields[2:]
        if inner.whole != algorithm.whole:
            raise _fault("two different signature algorithms")
        begins, ends = _sequence(validity.contents, 2)
        found, critical = _extensions(extensions.contents)
        return cls(
            tbs.whole,
            _algorithm(algorithm.contents),
            _bits(signature.contents),
            issuer.whole,
            subject.whole,
            _time(begins),
            _time(ends),
            spki.whole,
            found,
            critical,
        )

    def signs_itself(self) -> bool:
        """Return whether issuer is subject and the certificate's own key made its signature.

        FormatError if the key is of no kind that is taken: P-256, P-384, P-521 or RSA from 2048
        bits on.
        """
        key = self.public_key()
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                hashed = _ECDSA.get(self.algorithm)
                if hashed is None:
                    return False
                key.verify(self.signature, self.signed, ec.ECDSA(hashed))
            else:
                hashed = _RSA.get(self.algorithm)
                if hashed is None:
                    return False
                key.verify(self.signature, self.signed, padding.PKCS1v15(), hashed)
        except InvalidSignature:
            return False
        return self.issuer == self.subject

    def public_key(self) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
        """Return the certificate's key."""
        try:
            key = load_der_public_key(self.spki)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _fault(f"an unreadable key: {error}") from error
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
            return key
        if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
            return key
        raise _fault("a key that is neither ECDSA (P-256, P-384, P-521) nor RSA of 2048 bits")


def _fault(what: str) -> FormatError:
    """Return the error of a certificate that can't be used."""
    return FormatError(f"{_SOURCE} has {what}", source=_SOURCE)


def _sequence(contents: bytes, count: int) -> list[der.Element]:
    """Return the elements in contents, of which there must be so many."""
    found = der.elements(contents, _SOURCE)
    if len(found) != count:
        raise _fault(f"{len(found)} elements where {count} belong")
    return found


def _algorithm(contents: bytes) -> bytes:
    """Return the OID of an AlgorithmIdentifier; its parameters may be absent or NULL."""
    parts = der.elements(contents, _SOURCE)
    if not parts or parts[0].tag != der.OBJECT_IDENTIFIER:
        raise _fault("a signature algorithm without an OID")
    if [part.whole for part in parts[1:]] not in ([], [_NULL]):
        raise _fault("a signature algorithm with parameters")
    return parts[0].contents


def _bits(contents: bytes) -> bytes:
    """Return the bytes of a BIT STRING that has whole bytes."""
    if contents[:1] != b"\0":
        raise _fault("a signature that is no whole number of bytes")
    return contents[1:]


def _time(element: der.Element) -> datetime:
    """Return a UTCTime or GeneralizedTime as RFC 5280, 4.1.2.5, has them."""
    formats = {_UTC_TIME: (13, "%y%m%d%H%M%SZ"), _GENERALIZED_TIME: (15, "%Y%m%d%H%M%SZ")}
    size, form = formats.get(element.tag, (0, ""))
    text = element.contents.decode("ascii", "replace")
    try:
        if len(text) != size or not text[:-1].isdecimal():
            raise ValueError(text)
        time = datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError as error:
        raise _fault(f"a date that can't be read: {text!r}") from error
    if element.tag == _UTC_TIME and time.year >= 2050:  # two digits stand for 1950 to 2049
        time = time.replace(year=time.year - 100)
    return time


def _extensions(contents: bytes) -> tuple[dict[bytes, bytes], frozenset[bytes]]:
    """Return the extensions' values by OID, and which are critical."""
    found: dict[bytes, bytes] = {}
    critical = set()
    for entry in der.elements(der.only_child(contents, der.SEQUENCE, _SOURCE), _SOURCE):
        parts = der.elements(entry.contents, _SOURCE)
        tags = [part.tag for part in parts]
        if len(tags) == 3 and tags[1] == der.BOOLEAN and der.boolean(parts[1].contents, _SOURCE):
            critical.add(parts[0].contents)
        if tags not in (
            [der.OBJECT_IDENTIFIER, der.OCTET_STRING],
            [der.OBJECT_IDENTIFIER, der.BOOLEAN, der.OCTET_STRING],
        ):
            raise _fault("an extension that is no OID with a value")
        if parts[0].contents in found or len(found) == _MAX_EXTENSIONS:
            raise _fault(f"an extension twice, or more than {_MAX_EXTENSIONS}")
        found[parts[0].contents] = parts[-1].contents
    return found, frozenset(critical)
