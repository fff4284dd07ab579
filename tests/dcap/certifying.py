# SPDX-License-Identifier: Apache-2.0
"""Certificates and CRLs to order, for what is said of chains alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ensconce.dcap.certificate import Certificate, Crl
from ensconce.dcap.roots import Root

__all__ = ["NOW", "Issuer", "name_of", "usage"]

NOW = datetime(2026, 11, 24, tzinfo=UTC)
_DAY = timedelta(days=1)


def name_of(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass
class Issuer:
    """A certificate with its key."""

    der: bytes
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def root(cls, name: str = "Test SGX Root CA", path_length: int | None = 1) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls._made(name, name, key, key, ca=True, path_length=path_length)

    @classmethod
    def _made(
        cls,
        subject: str,
        issuer: str,
        key: ec.EllipticCurvePrivateKey,
        signer: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        path_length: int | None = None,
        begins: datetime = NOW - _DAY,
        ends: datetime = NOW + _DAY,
        key_usage: x509.KeyUsage | None = None,
        critical: x509.ExtensionType | None = None,
        hash_algorithm: HashAlgorithm | None = None,
    ) -> Self:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(subject))
            .issuer_name(name_of(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
            .add_extension(key_usage or usage(ca=ca), critical=True)
        )
        if critical is not None:
            builder = builder.add_extension(critical, critical=True)
        made = builder.sign(signer, hash_algorithm or SHA256())  # type: ignore[arg-type]
        return cls(made.public_bytes(Encoding.DER), key)

    def certify(self, subject: str, *, issuer: str | None = None, **changes: object) -> "Issuer":
        """Return a certificate that this one issues."""
        key = ec.generate_private_key(ec.SECP256R1())
        own = issuer or self.certificate.common_name
        return Issuer._made(subject, own, key, self.key, **changes)  # type: ignore[arg-type]

    def revoke(
        self,
        serials: Iterable[int] = (),
        *,
        begins: datetime = NOW - _DAY,
        ends: datetime = NOW + _DAY,
        critical: x509.ExtensionType | None = None,
    ) -> Crl:
        """Return a CRL that this one issues."""
        return Crl.parse(self.crl(serials, begins=begins, ends=ends, critical=critical), "a CRL")

    def crl(
        self,
        serials: Iterable[int] = (),
        *,
        begins: datetime = NOW - _DAY,
        ends: datetime = NOW + _DAY,
        critical: x509.ExtensionType | None = None,
    ) -> bytes:
        """Return the DER of a CRL that this one issues."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(name_of(self.certificate.common_name))
            .last_update(begins)
            .next_update(ends)
            .add_extension(x509.CRLNumber(7), critical=False)
        )
        if critical is not None:
            builder = builder.add_extension(critical, critical=True)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begins)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return x509.load_der_x509_certificate(self.der).public_bytes(Encoding.PEM)

    @property
    def certificate(self) -> Certificate:
        return Certificate.parse(self.der, "a certificate")

    @property
    def trusted(self) -> Root:
        return Root.parse(self.der)
