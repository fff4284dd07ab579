# SPDX-License-Identifier: Apache-2.0
"""X.509 paths: each certificate and CRL is what its place asks for, or is refused for it."""

import contextlib
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tests.dcap.certifying import NOW, Issuer, name_of, usage

from ensconce.dcap import INTEL_ROOT, Reason
from ensconce.dcap.certificate import Certificate, Crl, parse_chain
from ensconce.dcap.chain import PckCa, check_crl, check_leaf, find_root, pck_ca_of
from ensconce.dcap.roots import Root, check_roots
from ensconce.dcap.verdict import Refusal
from ensconce.errors import ConfigError, FormatError

ROOT = Issuer.root()
PLATFORM_CA = "Test SGX PCK Platform CA"
CA = ROOT.certify(PLATFORM_CA, ca=True, path_length=0)
NAME = "SGX PCK Certificate"
LEAF = CA.certify(f"Test {NAME}")
SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(days=3)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\5\0")


def ca_reason(ca: Issuer, root: Issuer = ROOT) -> Reason:
    with pytest.raises(Refusal) as refused:
        pck_ca_of(4, ca.certificate, root.trusted, root.revoke(), NOW)
    return refused.value.reason


def leaf_reason(leaf: Issuer) -> Reason:
    with pytest.raises(Refusal) as refused:
        check_leaf(11, leaf.certificate, CA.certificate, NOW, NAME)
    return refused.value.reason


def crl_reason(crl: Crl, issuer: Issuer = CA) -> Reason:
    with pytest.raises(Refusal) as refused:
        check_crl(5, crl, issuer.certificate, NOW, "the CRL")
    return refused.value.reason


@pytest.mark.parametrize("kind", PckCa)
def test_both_kinds_of_pck_ca_are_taken(kind: PckCa) -> None:
    ca = ROOT.certify(f"Test {kind.value}", ca=True, path_length=0)
    root_crl = ROOT.revoke()
    check_crl(3, root_crl, ROOT.certificate, NOW, "the CRL")
    assert pck_ca_of(4, ca.certificate, ROOT.trusted, root_crl, NOW) is kind


def test_a_leaf_is_taken_to_the_second_of_its_validity() -> None:
    own = LEAF.certificate
    for now in (own.not_before, NOW, own.not_after):
        check_leaf(11, own, CA.certificate, now, NAME)
    for now in (own.not_before - SECOND, own.not_after + SECOND):
        with pytest.raises(Refusal) as refused:
            check_leaf(11, own, CA.certificate, now, NAME)
        assert refused.value.reason is Reason.CERTIFICATE_VALIDITY


def test_an_intermediate_that_is_no_ca_or_may_not_sign_is_refused() -> None:
    role = Reason.CERTIFICATE_ROLE
    assert ca_reason(ROOT.certify(PLATFORM_CA)) is role
    assert ca_reason(ROOT.certify(PLATFORM_CA, ca=True, key_usage=usage(ca=False))) is role
    assert ca_reason(ROOT.certify("Test CA", ca=True)) is role
    assert ca_reason(ROOT.certify(PLATFORM_CA, ca=True, critical=UNKNOWN)) is role


def test_a_root_whose_path_may_not_be_longer_certifies_no_ca() -> None:
    root = Issuer.root(path_length=0)
    assert ca_reason(root.certify(PLATFORM_CA, ca=True), root) is Reason.CERTIFICATE_ROLE


def test_a_ca_that_another_root_signed_or_that_names_another_is_refused() -> None:
    assert ca_reason(Issuer.root().certify(PLATFORM_CA, ca=True)) is Reason.CERTIFICATE_SIGNATURE
    renamed = ROOT.certify(PLATFORM_CA, ca=True, issuer="Another")
    assert ca_reason(renamed) is Reason.CERTIFICATE_SIGNATURE


def test_a_ca_of_another_time_or_revoked_by_the_root_is_refused() -> None:
    late = ROOT.certify(PLATFORM_CA, ca=True, begins=NOW + SECOND, ends=LATER)
    assert ca_reason(late) is Reason.CERTIFICATE_VALIDITY
    crl = ROOT.revoke([CA.certificate.serial])
    with pytest.raises(Refusal) as refused:
        pck_ca_of(4, CA.certificate, ROOT.trusted, crl, NOW)
    assert refused.value.reason is Reason.CERTIFICATE_REVOKED


def test_a_leaf_that_is_a_ca_or_may_not_sign_or_has_another_name_is_refused() -> None:
    role = Reason.CERTIFICATE_ROLE
    assert leaf_reason(CA.certify(NAME, ca=True)) is role
    assert leaf_reason(CA.certify(NAME, key_usage=usage(ca=True))) is role
    assert leaf_reason(CA.certify("Somebody")) is role
    assert leaf_reason(CA.certify(NAME, critical=UNKNOWN)) is role


def test_a_leaf_that_another_ca_signed_is_refused() -> None:
    other = ROOT.certify(PLATFORM_CA, ca=True, path_length=0)
    assert leaf_reason(other.certify(NAME)) is Reason.CERTIFICATE_SIGNATURE


def test_a_crl_of_another_issuer_or_time_or_incomplete_is_refused() -> None:
    check_crl(5, CA.revoke(), CA.certificate, NOW, "the CRL")
    namesake = ROOT.certify(PLATFORM_CA, ca=True, path_length=0)
    assert crl_reason(namesake.revoke()) is Reason.CRL_ISSUER
    assert crl_reason(ROOT.revoke()) is Reason.CRL_ISSUER
    past = CA.revoke(begins=NOW - timedelta(days=9), ends=NOW - SECOND)
    assert crl_reason(past) is Reason.CRL_VALIDITY
    assert crl_reason(CA.revoke(begins=NOW + SECOND, ends=LATER)) is Reason.CRL_VALIDITY
    delta = CA.revoke(critical=x509.DeltaCRLIndicator(1))
    assert crl_reason(delta) is Reason.CRL_UNKNOWN_EXTENSION


def test_the_root_is_known_by_name_and_key_and_its_chain_is_complete() -> None:
    chain = (CA.certificate, ROOT.certificate)
    assert find_root(2, chain, [ROOT.trusted], NOW, "chain") == ROOT.trusted
    cases = [
        ((CA.certificate,), Reason.CHAIN_INCOMPLETE),
        ((*chain, ROOT.certificate), Reason.CHAIN_INCOMPLETE),
        ((CA.certificate, Issuer.root().certificate), Reason.ROOT_NOT_TRUSTED),
    ]
    for wrong, reason in cases:
        with pytest.raises(Refusal) as refused:
            find_root(2, wrong, [ROOT.trusted], NOW, "chain")
        assert refused.value.reason is reason


def test_a_root_of_intels_name_with_another_key_is_not_intels() -> None:
    name = "Intel SGX Root CA"
    impostor = Issuer.root(name).trusted
    assert INTEL_ROOT.certificate.common_name == name
    assert INTEL_ROOT.production
    assert not impostor.production
    assert not INTEL_ROOT.matches(impostor.certificate)


def test_production_and_other_roots_are_never_trusted_together() -> None:
    with pytest.raises(ConfigError, match="one kind at a time"):
        check_roots([INTEL_ROOT, ROOT.trusted])
    with pytest.raises(ConfigError):
        check_roots([])
    assert len(check_roots([ROOT.trusted, Issuer.root().trusted])) == 2


def test_a_certificate_that_does_not_sign_itself_is_no_root() -> None:
    with pytest.raises(FormatError, match="signs itself"):
        Root.parse(CA.der)


def test_keys_and_signatures_of_other_kinds_are_unreadable() -> None:
    key = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateBuilder(name_of("x"), name_of("x"), key.public_key(), 7, NOW, LATER)
    rsa_made = builder.sign(key, SHA256()).public_bytes(Encoding.DER)
    wide = ec.generate_private_key(ec.SECP384R1())
    builder = x509.CertificateBuilder(name_of("x"), name_of("x"), wide.public_key(), 7, NOW, LATER)
    wide_made = builder.sign(wide, SHA256()).public_bytes(Encoding.DER)
    other_hash = CA.certify(NAME, hash_algorithm=SHA384()).der
    for der in (rsa_made, wide_made, other_hash):
        with pytest.raises(FormatError, match="unreadable"):
            Certificate.parse(der, "a certificate")


def test_a_chain_is_one_to_three_certificates() -> None:
    pem = LEAF.pem
    assert parse_chain(pem + b"\0", "chain") == (LEAF.certificate,)
    assert len(parse_chain(pem * 3, "chain")) == 3
    for wrong in (b"", pem * 4, pem[:-30], b"-----BEGIN CERTIFICATE-----\nAAAA\n"):
        with pytest.raises(FormatError):
            parse_chain(wrong, "chain")


@given(st.binary(max_size=200), st.integers(0, 600))
def test_other_bytes_are_no_certificate_or_crl(raw: bytes, at: int) -> None:
    changed = LEAF.der[:at] + raw + LEAF.der[at + len(raw) :]
    for der in (raw, changed):
        for kind in (Certificate, Crl):
            with contextlib.suppress(FormatError):  # and no other exception
                assert kind.parse(der, "input").fingerprint
