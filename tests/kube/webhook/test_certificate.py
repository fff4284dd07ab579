# SPDX-License-Identifier: Apache-2.0
"""The webhook's CA and what it signs."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.verification import PolicyBuilder, Store

from ensconce.errors import ConfigError
from ensconce.kube.webhook import Authority

NOW = datetime(2026, 11, 24, tzinfo=UTC)
NAME = "ensconce-webhook.ensconce-system.svc"


def test_what_a_ca_signs_is_trusted_for_its_names() -> None:
    authority = Authority.make(NOW)
    leaf, issuer = x509.load_pem_x509_certificates(authority.issue([NAME, "127.0.0.1"], NOW).chain)
    assert issuer == authority.certificate
    store = Store([authority.certificate])
    verifier = PolicyBuilder().store(store).time(NOW).build_server_verifier(x509.DNSName(NAME))
    assert len(verifier.verify(leaf, [])) == 2


def test_certificates_are_renewed_with_ten_days_left() -> None:
    issued = Authority.make(NOW).issue([NAME], NOW)
    assert not issued.is_due(NOW + timedelta(days=19))
    assert issued.is_due(NOW + timedelta(days=21))


def test_a_ca_that_has_ended_signs_nothing() -> None:
    authority = Authority.make(NOW)
    late = NOW + timedelta(days=3649, hours=1)
    assert authority.issue([NAME], late).ends == authority.certificate.not_valid_after_utc
    with pytest.raises(ConfigError, match="the webhook's CA ended at 2036"):
        authority.issue([NAME], NOW + timedelta(days=3651))


def test_a_ca_is_read_back_and_its_key_is_its_owners(tmp_path: Path) -> None:
    authority = Authority.make(NOW)
    authority.save(tmp_path)
    assert Authority.load(tmp_path).pem == authority.pem
    assert stat.S_IMODE((tmp_path / "tls.key").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        authority.save(tmp_path)


def test_a_ca_of_rsa_as_helm_makes_it_will_do(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "helm")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=400))
    certificate = builder.sign(key, hashes.SHA256())
    form = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (tmp_path / "tls.key").write_bytes(key.private_bytes(*form))
    (tmp_path / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    leaf, _ = x509.load_pem_x509_certificates(Authority.load(tmp_path).issue([NAME], NOW).chain)
    leaf.verify_directly_issued_by(certificate)


def test_a_key_of_another_ca_is_refused(tmp_path: Path) -> None:
    Authority.make(NOW).save(tmp_path)
    (tmp_path / "tls.key").write_bytes(Authority.make(NOW).key_pem)
    with pytest.raises(ConfigError, match="is not the key"):
        Authority.load(tmp_path)
