# SPDX-License-Identifier: Apache-2.0
"""The quoting role: real REPORTs in, quotes out, and nothing else."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from tests.machine.building import DATA, PAGE, Registers, running

from ensconce.crypto import aes_cmac, generate_signing_key
from ensconce.dcap.pck import SGX_EXTENSION, PckExtension
from ensconce.dcap.quote import CertificationKind, Quote
from ensconce.errors import ConfigError, VerificationError
from ensconce.isa.keyrequest import KeyName
from ensconce.isa.report import Report, TargetInfo
from ensconce.machine.identity import Identity
from ensconce.machine.keys import KeyHierarchy
from ensconce.machine.processor import Processor
from ensconce.machine.secs_page import SecsPage
from ensconce.platform.quoting import EmulatedPlatform


@pytest.fixture(scope="module")
def platform() -> EmulatedPlatform:
    return EmulatedPlatform.of(Identity.generate())


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return generate_signing_key()


@pytest.fixture
def enclave(
    platform: EmulatedPlatform, key: rsa.RSAPrivateKey
) -> Iterator[tuple[Processor, SecsPage]]:
    cpu = Processor(platform.identity, epc_size=4 << 20)
    with running(cpu, key) as secs:
        yield cpu, secs


def ereport(enclave: tuple[Processor, SecsPage], target: TargetInfo, data: bytes) -> Report:
    """Run EREPORT."""
    cpu, secs = enclave
    at = DATA * PAGE
    secs.alias[at : at + 512] = bytes(target)
    secs.alias[at + PAGE : at + PAGE + 64] = data
    registers = Registers(
        rbx=secs.base + at, rcx=secs.base + at + PAGE, rdx=secs.base + at + 2 * PAGE
    )
    assert cpu.user_leaf(secs, registers) is None  # type: ignore[arg-type]  # stands in for Frame
    return Report.parse(secs.alias[at + 2 * PAGE : at + 2 * PAGE + 432])


@pytest.fixture
def report(enclave: tuple[Processor, SecsPage], platform: EmulatedPlatform) -> Report:
    return ereport(enclave, platform.quoter.target_info, b"\x44" * 64)


def check(point: bytes, signature: bytes, signed: bytes) -> None:
    """Check a signature as `cryptography` does; an exception fails the test."""
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    halves = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    key.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("version", [3, 4])
def test_a_quote_holds_the_report_and_is_signed_from_root_to_body(
    platform: EmulatedPlatform, report: Report, version: int
) -> None:
    data = platform.quoter.quote(report, version=version)
    quote = Quote.parse(data)
    assert quote.body == report.body
    assert (quote.header.version, bytes(quote), len(data)) == (
        version,
        data,
        platform.quoter.size(version),
    )
    check(quote.attestation_key, quote.signature, quote.signed)
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    assert quote.qe_report_body.report_data == bound + bytes(32)
    assert quote.certification.kind is CertificationKind.PCK_CHAIN
    leaf, authority, root = x509.load_pem_x509_certificates(quote.certification.data)
    leaf.verify_directly_issued_by(authority)
    authority.verify_directly_issued_by(root)
    assert root == platform.pcs.root.certificate()
    numbers = leaf.public_key().public_numbers()  # type: ignore[union-attr]  # it is P-256
    point = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")  # type: ignore[union-attr]
    check(point, quote.qe_report_signature, quote.qe_report)


def test_a_pck_certificate_says_which_platform_at_which_tcb(platform: EmulatedPlatform) -> None:
    certificate = platform.pck.certificate()
    entry = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(SGX_EXTENSION))
    assert isinstance(entry.value, x509.UnrecognizedExtension)
    extension = PckExtension.parse(entry.value.value)
    assert extension.ppid == platform.identity.platform_id
    assert bytes(extension.components) == extension.cpu_svn == platform.identity.cpu_svn
    assert extension.fmspc == platform.pcs.fmspc


def test_a_report_for_another_enclave_gets_no_quote(
    enclave: tuple[Processor, SecsPage], platform: EmulatedPlatform
) -> None:
    _, secs = enclave
    other = replace(platform.quoter.target_info, measurement=secs.secs.mr_enclave)
    with pytest.raises(VerificationError, match="ensconce platform target"):
        platform.quoter.quote(ereport(enclave, other, bytes(64)))


@pytest.mark.parametrize("offset", [0, 64, 383, 400, 431])
def test_an_altered_report_gets_no_quote(
    platform: EmulatedPlatform, report: Report, offset: int
) -> None:
    altered = bytearray(bytes(report))
    altered[offset] ^= 1
    with pytest.raises(VerificationError):
        platform.quoter.quote(Report.parse(altered))


def test_a_report_of_another_platform_gets_no_quote(report: Report) -> None:
    with pytest.raises(VerificationError):
        EmulatedPlatform.of(Identity.generate()).quoter.quote(report)


def test_a_report_from_before_a_tcb_recovery_gets_no_quote(
    platform: EmulatedPlatform, report: Report
) -> None:
    with pytest.raises(VerificationError, match="TCB recovery"):
        EmulatedPlatform.of(platform.identity.recovered()).quoter.quote(report)


def test_only_versions_3_and_4_are_made(platform: EmulatedPlatform, report: Report) -> None:
    with pytest.raises(ConfigError, match="3 or 4, not 5"):
        platform.quoter.quote(report, version=5)


def test_the_same_platform_makes_the_same_quote_after_a_restart(
    platform: EmulatedPlatform, report: Report
) -> None:
    again = EmulatedPlatform.of(Identity.parse(bytes(platform.identity)))
    assert again.quoter.quote(report) == platform.quoter.quote(report)
    assert again.quoter.key_id == platform.quoter.key_id


def test_a_tcb_recovery_changes_the_keys_and_keeps_the_root(platform: EmulatedPlatform) -> None:
    after = EmulatedPlatform.of(platform.identity.recovered())
    assert after.quoter.key_id != platform.quoter.key_id
    assert after.pck.key_id != platform.pck.key_id
    assert after.pcs.root.certificate() == platform.pcs.root.certificate()


def test_the_target_can_check_who_made_a_quote(platform: EmulatedPlatform, report: Report) -> None:
    target = TargetInfo(measurement=b"\5" * 32)
    quote, proof = platform.quoter.quote_and_prove(report, b"n" * 16, target)
    assert quote == platform.quoter.quote(report)
    assert proof.body.report_data == hashlib.sha256(b"n" * 16 + quote).digest() + bytes(32)
    keys = KeyHierarchy(platform.identity)
    report_key = keys.key(
        KeyName.REPORT,
        keys.cpu_svn,
        attributes=bytes(16),
        mr_enclave=b"\5" * 32,
        key_id=proof.key_id,
    )
    assert aes_cmac(report_key, bytes(proof.body)) == proof.mac
    with pytest.raises(ConfigError, match="16 bytes, not 1"):
        platform.quoter.quote_and_prove(report, b"n", target)
    with pytest.raises(VerificationError):
        platform.quoter.quote_and_prove(replace(report, mac=bytes(16)), b"n" * 16, target)
