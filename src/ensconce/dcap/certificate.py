# SPDX-License-Identifier: Apache-2.0
"""Certificates and CRLs, read once and completely: nothing is parsed later, when it would hurt.

A FormatError names what can't be read; whether something readable is right is `chain`'s matter.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from ensconce.dcap.der import (
    INTEGER,
    OBJECT_IDENTIFIER,
    SEQUENCE,
    children,
    encode,
    encode_oid,
    first_element,
    only_child,
)
from ensconce.dcap.pck import SGX_EXTENSION
from ensconce.errors import FormatError

__all__ = [
    "MAX_CHAIN",
    "Certificate",
    "Crl",
    "Signed",
    "parse_chain",
    "public_key",
    "signature_holds",
]

MAX_CHAIN = 3
_MAX_SIZE = 1 << 20
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    # cryptography warns of what it will refuse one day; a program may turn that into errors
    UserWarning,
)
_SHA256 = ec.ECDSA(SHA256())
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_ECDSA_SHA256 = (SEQUENCE, encode(OBJECT_IDENTIFIER, encode_oid("1.2.840.10045.4.3.2")))
_COMMON_NAME = (OBJECT_IDENTIFIER, encode_oid("2.5.4.3"))
_NAME = "a certificate or CRL"
_SGX = x509.ObjectIdentifier(SGX_EXTENSION)
_KNOWN_CRITICAL = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
_T = TypeVar("_T")


def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key of 64 bytes x and y; ValueError if the point is not on the curve."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)


def signature_holds(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    """Return whether 64 bytes r and s are an ECDSA signature with SHA-256 over the bytes."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, _SHA256)
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Signed:
    """The bytes of a certificate or CRL that its signature covers, and the signature, DER."""

    covered: bytes
    signature: bytes

    def holds(self, key: bytes) -> bool:
        """Return whether the key, 64 bytes x and y, made the signature."""
        try:
            public_key(key).verify(self.signature, self.covered, _SHA256)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says.

    Names are their DER's contents; `key` is the P-256 point, x and y, 64 bytes.
    `critical` are the critical extensions that this verifier does not process, by OID.
    """

    fingerprint: bytes
    subject: bytes
    issuer: bytes
    common_name: str
    serial: int
    not_before: datetime
    not_after: datetime
    key: bytes
    ca: bool
    path_length: int | None
    signs_data: bool
    signs_certificates: bool
    signs_crls: bool
    critical: tuple[str, ...]
    sgx_extension: bytes | None
    signed: Signed

    @classmethod
    def parse(cls, der: bytes, source: str) -> Self:
        """Return the certificate in DER bytes."""
        if len(der) > _MAX_SIZE:
            raise _unreadable(source, "larger than 1 MiB")
        return _read(source, lambda: cls._of(der, x509.load_der_x509_certificate(der)))

    @classmethod
    def _of(cls, der: bytes, loaded: x509.Certificate) -> Self:
        """Return what a loaded certificate says."""
        signed, fields = _take_apart(der)
        if len(fields) < 7 or fields[2] != _ECDSA_SHA256:
            raise ValueError("it is not of version 3, signed by ECDSA with SHA-256")
        if loaded.serial_number <= 0:
            raise ValueError("its serial number is not positive")
        extensions = {entry.oid: entry for entry in loaded.extensions}
        constraints = extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
        basic = constraints.value if constraints is not None else None
        usage = extensions.get(ExtensionOID.KEY_USAGE)
        uses = usage.value if usage is not None else None
        uses = uses if isinstance(uses, x509.KeyUsage) else None
        basic = basic if isinstance(basic, x509.BasicConstraints) else None
        sgx = extensions.get(_SGX)
        issuer, subject = fields[3][1], fields[5][1]
        return cls(
            hashlib.sha256(der).digest(),
            subject,
            issuer,
            _common_name(subject),
            loaded.serial_number,
            loaded.not_valid_before_utc,
            loaded.not_valid_after_utc,
            _point(loaded),
            basic is not None and basic.ca,
            basic.path_length if basic is not None else None,
            uses is not None and uses.digital_signature,
            uses is not None and uses.key_cert_sign,
            uses is not None and uses.crl_sign,
            tuple(
                oid.dotted_string
                for oid, entry in extensions.items()
                if entry.critical and oid not in _KNOWN_CRITICAL
            ),
            sgx.value.value
            if sgx is not None and isinstance(sgx.value, x509.UnrecognizedExtension)
            else None,
            signed,
        )

    def issued_by(self, issuer: "Certificate") -> bool:
        """Return whether the issuer's name is this one's issuer and its key made the signature."""
        return self.issuer == issuer.subject and self.signed.holds(issuer.key)


@dataclass(frozen=True, slots=True)
class Crl:
    """A revocation list. `number` is its CRL number, None where it has none."""

    fingerprint: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime
    number: int | None
    revoked: frozenset[int]
    critical: tuple[str, ...]
    signed: Signed

    @classmethod
    def parse(cls, der: bytes, source: str) -> Self:
        """Return the CRL in DER bytes."""
        if len(der) > _MAX_SIZE:
            raise _unreadable(source, "larger than 1 MiB")
        return _read(source, lambda: cls._of(der, x509.load_der_x509_crl(der)))

    @classmethod
    def _of(cls, der: bytes, loaded: x509.CertificateRevocationList) -> Self:
        """Return what a loaded CRL says."""
        signed, fields = _take_apart(der)
        if len(fields) < 5 or fields[0][0] != INTEGER or fields[1] != _ECDSA_SHA256:
            raise ValueError("it is not of version 2, signed by ECDSA with SHA-256")
        if loaded.next_update_utc is None:
            raise ValueError("it has no nextUpdate")
        numbers = [
            entry.value.crl_number
            for entry in loaded.extensions
            if isinstance(entry.value, x509.CRLNumber)
        ]
        return cls(
            hashlib.sha256(der).digest(),
            fields[2][1],
            loaded.last_update_utc,
            loaded.next_update_utc,
            numbers[0] if numbers else None,
            frozenset(entry.serial_number for entry in loaded),
            tuple(entry.oid.dotted_string for entry in loaded.extensions if entry.critical),
            signed,
        )

    def signed_by(self, issuer: Certificate) -> bool:
        """Return whether the issuer's name is this one's issuer and its key made the signature."""
        return self.issuer == issuer.subject and self.signed.holds(issuer.key)


def parse_chain(
    pem: bytes, source: str, known: Iterable[Certificate] = ()
) -> tuple[Certificate, ...]:
    """Return the one to three certificates of a PEM text, leaf first.

    Between them only white space may stand, and NULs at the end, which vendors' chains have.
    Those that are `known` are not read again.
    """
    if len(pem) > _MAX_SIZE:
        raise _unreadable(source, "larger than 1 MiB")
    before, *blocks = pem.rstrip(b"\0").split(_BEGIN)
    if before.strip() or not 1 <= len(blocks) <= MAX_CHAIN:
        raise _unreadable(source, f"not a PEM text of 1 to {MAX_CHAIN} certificates")
    ders = _read(source, lambda: [_der(block) for block in blocks])
    read = {certificate.fingerprint: certificate for certificate in known}
    return tuple(
        read.get(hashlib.sha256(der).digest()) or Certificate.parse(der, source) for der in ders
    )


def _der(block: bytes) -> bytes:
    """Return what a PEM block encodes, from after its first line; ValueError if it is not PEM."""
    body, end, after = block.partition(_END)
    encoded = b"".join(body.split())
    der = base64.b64decode(encoded, validate=True)
    if not end or after.strip() or base64.b64encode(der) != encoded:
        raise ValueError("a block is not the one way to write its bytes")
    return der


def _take_apart(der: bytes) -> tuple[Signed, list[tuple[int, bytes]]]:
    """Return what a certificate's or CRL's signature covers, and the elements of that.

    The signature must be whole bytes: other readers let its count of unused bits pass.
    """
    body = only_child(der, SEQUENCE, _NAME)
    covered, algorithm, signature = children(body, _NAME)
    if algorithm != _ECDSA_SHA256:
        raise ValueError("it is not signed by ECDSA with SHA-256")
    if signature[1][:1] != b"\0":
        raise ValueError("its signature is not whole bytes")
    return Signed(first_element(body, _NAME), signature[1][1:]), children(covered[1], _NAME)


def _common_name(name: bytes) -> str:
    """Return the one common name in a name's contents, empty if it has none or several."""
    found = [
        value[1].decode()
        for _, attributes in children(name, _NAME)
        for _, attribute in children(attributes, _NAME)
        for oid, value in [children(attribute, _NAME)]
        if oid == _COMMON_NAME
    ]
    return found[0] if len(found) == 1 else ""


def _point(loaded: x509.Certificate) -> bytes:
    """Return a certificate's public key, which must be on P-256."""
    key = loaded.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("its key is not on P-256")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def _read(source: str, reader: Callable[[], _T]) -> _T:
    """Return what a reader returns; whatever it finds unreadable becomes a FormatError."""
    try:
        return reader()
    except _UNREADABLE as error:
        raise _unreadable(source, f"unreadable: {error}") from error


def _unreadable(source: str, what: str) -> FormatError:
    """Return the error of a certificate or CRL that can't be used."""
    return FormatError(f"{source} is {what}; give it as its issuer published it", source=source)
