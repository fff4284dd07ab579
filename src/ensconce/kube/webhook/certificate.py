# SPDX-License-Identifier: Apache-2.0
"""The webhook's certificates: a CA that the installation makes, and short ones that it signs.

Every replica makes a key of its own and has it signed by the CA, whose certificate API servers
know as `caBundle`. So nothing has to be shared or written, and certificates are renewed long before
they end without anybody's help.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ensconce.errors import ConfigError

__all__ = ["Authority", "Issued"]

_CA_LIFE = timedelta(days=3650)
_LIFE = timedelta(days=30)
_EARLIER = timedelta(hours=1)  # clocks differ
_CERTIFICATE, _KEY = "tls.crt", "tls.key"  # as in a Secret of type kubernetes.io/tls


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its issuer's, and its key, in PEM."""

    chain: bytes
    key: bytes
    ends: datetime

    def is_due(self, now: datetime) -> bool:
        """Return whether a third of its life is all that is left."""
        return self.ends - now < _LIFE / 3


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that signs webhooks' certificates."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @classmethod
    def make(cls, now: datetime) -> "Authority":
        """Make a CA that is good for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("ensconce webhook CA")
        usage = _usage(signs_certificates=True)
        builder = (
            _builder(name, name, key.public_key(), now, now + _CA_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """Read a CA from a folder with tls.crt and tls.key; ConfigError."""
        try:
            certificate = x509.load_pem_x509_certificate((folder / _CERTIFICATE).read_bytes())
            key = load_pem_private_key((folder / _KEY).read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{folder} has no usable CA: {error}; it needs {_CERTIFICATE} and {_KEY} in PEM, "
                "which `ensconce webhook authority` makes"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ConfigError(f"{folder / _KEY} is neither an elliptic-curve nor an RSA key")
        if key.public_key() != certificate.public_key():
            raise ConfigError(f"{folder / _KEY} is not the key of {_CERTIFICATE}")
        return cls(certificate, key)

    def save(self, folder: Path) -> None:
        """Write the CA to a folder that has none yet, its key for the owner's eyes alone."""
        folder.mkdir(parents=True, exist_ok=True)
        key = folder / _KEY
        key.touch(mode=0o600, exist_ok=False)
        key.write_bytes(_key_pem(self.key))
        (folder / _CERTIFICATE).write_bytes(self.pem)

    @property
    def pem(self) -> bytes:
        """The CA's certificate, for `caBundle`."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The CA's key."""
        return _key_pem(self.key)

    def issue(self, names: Sequence[str], now: datetime) -> Issued:
        """Return a server's certificate for names and addresses; ConfigError at the CA's end."""
        ends = min(now + _LIFE, self.certificate.not_valid_after_utc)
        if ends <= now:
            raise ConfigError(
                f"the webhook's CA ended at {self.certificate.not_valid_after_utc.isoformat()}; "
                "install anew with another one"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(_name(names[0][:64]), self.certificate.subject, key.public_key(), now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        )
        signed = builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return Issued(signed + self.pem, _key_pem(key), ends)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    """Return a certificate that is not signed yet."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before((now - _EARLIER).astimezone(UTC))
        .not_valid_after(ends.astimezone(UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return what a key is for."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    """Return a name with a common name only."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    """Return an address or a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Return a key in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
