# SPDX-License-Identifier: Apache-2.0
"""What a certificate of the test PCS says, as attributes; certificates and CRLs are made from it.

Certificates and CRLs follow the profile of Intel's (SGX PCK Certificate and CRL Profile, 1.5), so
that verifiers written for those read them. Signatures are deterministic: whoever derives the same
keys makes the same certificates, byte for byte, and nothing needs to be kept.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ensconce.crypto import p256_point
from ensconce.dcap.pck import SGX_EXTENSION

__all__ = ["CA_USAGE", "LEAF_USAGE", "ORGANIZATION", "Certified", "pem", "revocation_list"]

ORGANIZATION = "ensconce emulated SGX (for tests; protects nothing)"
"""What every certificate of the test PCS names as its organization, issuer's and subject's."""

_URL = "https://pcs.ensconce.invalid/sgx/certification/v4/"
_VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_VALID_TO = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
_SERIAL_BYTES = 20


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the key usage of an authority or of a leaf."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=not signs_certificates,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


CA_USAGE = _usage(signs_certificates=True)
LEAF_USAGE = _usage(signs_certificates=False)


@dataclass
class Certified:
    """A public key and what its certificate says of it.

    Change any attribute, then call `certificate`. `key` signs what this entity issues, and is
    None where the PCS does not have it (PCKs). `issuer` None is self-signed. `path_length` None
    is none for a leaf and no limit for an authority. `serial` None follows from the contents.
    """

    common_name: str
    public_key: ec.EllipticCurvePublicKey
    key: ec.EllipticCurvePrivateKey | None = None
    issuer: "Certified | None" = None
    organization: str = ORGANIZATION
    ca: bool = False
    path_length: int | None = None
    usage: x509.KeyUsage = LEAF_USAGE
    not_before: datetime = _VALID_FROM
    not_after: datetime = _VALID_TO
    serial: int | None = None
    crl: str = "rootcacrl"
    sgx_extension: bytes | None = None

    @property
    def name(self) -> x509.Name:
        """The distinguished name."""
        return x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, self.common_name),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.organization),
            ]
        )

    @property
    def serial_number(self) -> int:
        """The serial number: as set, or a hash of what is certified."""
        if self.serial is not None:
            return self.serial
        contents = self.common_name.encode() + b"\0" + p256_point(self.public_key)
        digest = hashlib.sha256(contents + (self.sgx_extension or b"")).digest()[:_SERIAL_BYTES]
        return int.from_bytes(digest, "big") >> 1 | 1 << (8 * _SERIAL_BYTES - 2)

    @property
    def key_id(self) -> bytes:
        """The subject key identifier."""
        return x509.SubjectKeyIdentifier.from_public_key(self.public_key).digest

    @property
    def signing_key(self) -> ec.EllipticCurvePrivateKey:
        """The private key, where the PCS has it."""
        if self.key is None:
            raise ValueError(f"{self.common_name} can't sign: its key is not here")
        return self.key

    def certificate(self) -> x509.Certificate:
        """Return the certificate, made anew from the attributes as they are now."""
        issuer = self.issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.public_key)
            .serial_number(self.serial_number)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .add_extension(x509.AuthorityKeyIdentifier(issuer.key_id, None, None), critical=False)
            .add_extension(_distribution_points(self.crl), critical=False)
            .add_extension(x509.SubjectKeyIdentifier(self.key_id), critical=False)
            .add_extension(self.usage, critical=True)
            .add_extension(x509.BasicConstraints(self.ca, self.path_length), critical=True)
        )
        if self.sgx_extension is not None:
            sgx = x509.UnrecognizedExtension(
                x509.ObjectIdentifier(SGX_EXTENSION), self.sgx_extension
            )
            builder = builder.add_extension(sgx, critical=False)
        return builder.sign(issuer.signing_key, hashes.SHA256(), ecdsa_deterministic=True)

    def chain(self) -> list[x509.Certificate]:
        """Return the certificates from this one to the root."""
        return [self.certificate(), *(self.issuer.chain() if self.issuer else [])]


def pem(certificates: list[x509.Certificate]) -> str:
    """Return certificates as PEM text, in the order given."""
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)


def revocation_list(
    issuer: Certified,
    revoked: Mapping[int, datetime],
    *,
    number: int,
    issued: datetime,
    valid: timedelta,
) -> bytes:
    """Return a CRL in DER; `revoked` maps serial numbers to the times of their revocation."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.name)
        .last_update(issued)
        .next_update(issued + valid)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(issuer.key_id, None, None), critical=False)
    )
    for serial, since in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since)
        reason = x509.CRLReason(x509.ReasonFlags.unspecified)
        builder = builder.add_revoked_certificate(
            entry.add_extension(reason, critical=False).build()
        )
    made = builder.sign(issuer.signing_key, hashes.SHA256(), ecdsa_deterministic=True)
    return made.public_bytes(serialization.Encoding.DER)


def _distribution_points(crl: str) -> x509.CRLDistributionPoints:
    """Return where a certificate says that its CRL is; the host does not exist (RFC 2606)."""
    where = x509.UniformResourceIdentifier(_URL + crl)
    return x509.CRLDistributionPoints([x509.DistributionPoint([where], None, None, None)])
