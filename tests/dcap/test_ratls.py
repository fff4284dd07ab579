# SPDX-License-Identifier: Apache-2.0
"""Certificates with evidence: made, read, and refused for each thing that can be wrong."""

import dataclasses
import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dcap.certifying import Issuer
from tests.dcap.corpus import CORPUS
from tests.dcap.enclaves import MR_ENCLAVE, NOW, QuotedEnclave, with_null_parameters

from ensconce.dcap import INTEL_ROOT, Collateral, Policy, Reason, Watermarks, der
from ensconce.dcap.cbor import Tagged, Value, decode, encode
from ensconce.dcap.quote import Quote, QuoteHeader, TdReport, TeeType, signed_part
from ensconce.dcap.ratls import (
    Appraisal,
    CertificateFault,
    Form,
    certificate_for,
    make_certificate,
    verify_certificate,
)
from ensconce.dcap.ratls_certificate import MAX_CERTIFICATE_SIZE, TlsCertificate
from ensconce.dcap.ratls_endorsements import read_endorsements, write_endorsements
from ensconce.dcap.ratls_evidence import (
    EVIDENCE,
    GRAMINE_QUOTE,
    INTEL_QUOTE,
    Evidence,
    encode_evidence,
    make_claims,
    report_data_of,
)
from ensconce.errors import ConfigError, FormatError, PolicyError, VerificationError
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.report import ReportBody

_REAL = sorted(CORPUS.glob("ratls-*/cert.pem"))
needs_certificates = pytest.mark.skipif(
    not _REAL, reason="ENSCONCE_CORPUS names no folder with real certificates"
)
every_real_certificate = pytest.mark.parametrize("path", _REAL, ids=lambda path: path.parent.name)


@pytest.fixture(scope="module")
def enclave() -> QuotedEnclave:
    return QuotedEnclave()


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def spki_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def appraise(
    enclave: QuotedEnclave, certificate: bytes, *, now: datetime = NOW, nonce: bytes | None = None
) -> Appraisal:
    return verify_certificate(
        certificate,
        enclave.collateral(),
        now,
        enclave.policy,
        nonce=nonce,
        roots=[enclave.root],
    )


def carrying(
    key: ec.EllipticCurvePrivateKey, oid: str, value: bytes, *, critical: bool = False
) -> bytes:
    """Return a self-signed certificate with one extension, as other peers would make it."""
    name = x509.Name([])
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1))
    made = builder.add_extension(extension, critical).sign(key, SHA256())
    return made.public_bytes(Encoding.DER)


@needs_certificates
@every_real_certificate
def test_a_real_certificate_is_read_and_binds_its_key(path: Path) -> None:
    certificate = TlsCertificate.parse(ssl.PEM_cert_to_DER_cert(path.read_text().strip()))
    evidence = Evidence.read(certificate)
    assert certificate.signs_itself()
    assert evidence.form is Form.INTEROPERABLE
    assert evidence.vouches_for(certificate)
    assert evidence.bound(Quote.parse(evidence.quote), certificate)


@needs_certificates
@every_real_certificate
def test_a_real_certificates_other_forms_are_read_too(path: Path) -> None:
    certificate = TlsCertificate.parse(ssl.PEM_cert_to_DER_cert(path.read_text().strip()))
    older = dict(certificate.extensions)
    wanted = older.pop(der.encode_oid(EVIDENCE))
    certificate = dataclasses.replace(certificate, extensions=older)
    if der.encode_oid(GRAMINE_QUOTE) in older:  # a quote of its own, which binds the key
        evidence = Evidence.read(certificate)
        assert evidence.form is Form.GRAMINE
        assert evidence.bound(Quote.parse(evidence.quote), certificate)
    elif der.encode_oid(INTEL_QUOTE) in older:  # the same quote, which binds claims not in it
        evidence = Evidence.read(certificate)
        assert evidence.form is Form.INTEL_SDK
        assert evidence.quote == Evidence.decode(wanted).quote
        assert not evidence.bound(Quote.parse(evidence.quote), certificate)
    else:
        with pytest.raises(FormatError, match="carries no evidence"):
            Evidence.read(certificate)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["P-256", "P-384"])
def test_a_certificate_of_ours_proves_the_enclave(
    enclave: QuotedEnclave, curve: ec.EllipticCurve
) -> None:
    made = make_certificate(ec.generate_private_key(curve), enclave, NOW)
    appraisal = appraise(enclave, made)
    assert appraisal.accepted, appraisal.reasons
    body = appraisal.require().quote.body
    assert isinstance(body, ReportBody)
    assert body.mr_enclave == MR_ENCLAVE
    x509.load_der_x509_certificate(made)


def test_gramines_older_form_is_written_beside_and_read_alone(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    both = TlsCertificate.parse(make_certificate(key, enclave, NOW, gramine=True))
    older = both.extensions[der.encode_oid(GRAMINE_QUOTE)]
    appraisal = appraise(enclave, carrying(key, GRAMINE_QUOTE, older))
    assert appraisal.accepted, appraisal.reasons
    assert appraisal.evidence.form is Form.GRAMINE


def test_null_parameters_behind_an_algorithm_are_let_pass(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    made = with_null_parameters(make_certificate(key, enclave, NOW), key)
    assert appraise(enclave, made).accepted
    with pytest.raises(ValueError, match="ExtraData"):
        x509.load_der_x509_certificate(made)


def test_a_key_of_rsa_is_taken(enclave: QuotedEnclave) -> None:
    key = rsa.generate_private_key(65537, 2048)
    quote = enclave(
        report_data_of(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
    )
    assert appraise(enclave, carrying(key, INTEL_QUOTE, quote)).accepted  # type: ignore[arg-type]


def test_endorsements_that_come_along_serve_as_collateral(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    made = make_certificate(key, enclave, NOW, endorsements=enclave.collateral())
    appraisal = verify_certificate(made, None, NOW, enclave.policy, roots=[enclave.root])
    assert appraisal.accepted, appraisal.reasons


def test_endorsements_may_have_crls_in_hex_and_nuls_behind_texts(enclave: QuotedEnclave) -> None:
    collateral = enclave.collateral()
    items = _items(collateral)
    items[2] += b"\0"
    items[3], items[4] = items[3].hex().encode() + b"\0", items[4].hex().encode()
    written = encode(Tagged(60000, (1, *items[1:], b"2026-11-24T00:00:00Z")))
    assert read_endorsements(written) == collateral


def _items(collateral: Collateral) -> list[bytes]:
    match decode(write_endorsements(collateral), "endorsements"):
        case Tagged(60000, tuple(items)):
            return [item if isinstance(item, bytes) else b"" for item in items]
    raise AssertionError


@pytest.mark.parametrize(
    ("position", "value", "fault"),
    [
        (1, b"{}", "certificate's tcbInfo can't be read"),
        (3, b"no CRL", "neither DER"),
        (
            6,
            b'{"tcbInfo":{},"signature":"' + b"0" * 128 + b'"}',
            "certificate's enclaveIdentity can't be read",
        ),
        (7, 7, "other types"),
        (0, b"1", "other types"),
    ],
)
def test_endorsements_of_another_shape_are_refused(
    enclave: QuotedEnclave, position: int, value: int | bytes, fault: str
) -> None:
    items: list[int | bytes] = [1, *_items(enclave.collateral())[1:]]
    items[position] = value
    with pytest.raises(FormatError, match=fault):
        read_endorsements(encode(Tagged(60000, tuple(items))))


@pytest.mark.parametrize("value", [(), Tagged(60001, ()), Tagged(60000, (1, b"", b""))])
def test_other_cbor_is_no_endorsements(value: Value) -> None:
    with pytest.raises(FormatError, match=r"no tag|no list"):
        read_endorsements(encode(value))


def test_old_endorsements_are_refused_by_watermarks(
    key: ec.EllipticCurvePrivateKey,
) -> None:
    enclave = QuotedEnclave()
    made = make_certificate(key, enclave, NOW, endorsements=enclave.collateral())
    marks = Watermarks()
    enclave.platform.pcs.ledger.evaluation += 1
    verify_certificate(
        made, enclave.collateral(), NOW, enclave.policy, roots=[enclave.root], watermarks=marks
    )
    refused = verify_certificate(
        made, None, NOW, enclave.policy, roots=[enclave.root], watermarks=marks
    )
    assert refused.verdict.reason is Reason.COLLATERAL_ROLLED_BACK


def test_without_endorsements_collateral_must_be_given(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    with pytest.raises(FormatError, match="fetch it from a PCCS"):
        verify_certificate(make_certificate(key, enclave, NOW), None, NOW, enclave.policy)


def test_stolen_evidence_in_a_certificate_of_ones_own_is_refused(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    genuine = TlsCertificate.parse(make_certificate(key, enclave, NOW))
    stolen = genuine.extensions[der.encode_oid(EVIDENCE)]
    thief = ec.generate_private_key(ec.SECP256R1())
    appraisal = appraise(enclave, carrying(thief, EVIDENCE, stolen))
    assert appraisal.faults == (CertificateFault.KEY_NOT_BOUND,)
    with pytest.raises(VerificationError, match="another TLS key"):
        appraisal.require()


def test_a_stolen_quote_with_claims_of_ones_own_is_refused(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    quote = enclave(report_data_of(make_claims(spki_of(key))))
    thief = ec.generate_private_key(ec.SECP256R1())
    forged = certificate_for(thief, quote, make_claims(spki_of(thief)), NOW)
    assert appraise(enclave, forged).faults == (CertificateFault.REPORT_DATA,)


@pytest.mark.parametrize("oid", [GRAMINE_QUOTE, INTEL_QUOTE])
def test_a_quote_in_an_older_form_is_refused_for_another_key(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey, oid: str
) -> None:
    quote = enclave(report_data_of(spki_of(key)))
    thief = ec.generate_private_key(ec.SECP256R1())
    assert appraise(enclave, carrying(thief, oid, quote)).faults == (CertificateFault.REPORT_DATA,)


def test_a_key_hash_of_another_size_or_kind_is_refused(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    spki = spki_of(key)
    for entry, faults in (
        (encode((7, hashlib.sha384(spki).digest())), ()),
        (encode((8, hashlib.sha512(spki).digest())), ()),
        (encode((1, b"")), (CertificateFault.KEY_NOT_BOUND,)),
        (encode((1, hashlib.sha256(spki).digest()[:16])), (CertificateFault.KEY_NOT_BOUND,)),
    ):
        buffer = encode({"pubkey-hash": entry})
        made = certificate_for(key, enclave(report_data_of(buffer)), buffer, NOW)
        assert appraise(enclave, made).faults == faults
    buffer = encode({"pubkey-hash": encode((2, b"a shorter hash"))})
    made = certificate_for(key, enclave(report_data_of(buffer)), buffer, NOW)
    with pytest.raises(FormatError, match="pubkey-hash that is not"):
        appraise(enclave, made)


def test_a_nonce_tells_a_fresh_quote_from_an_old_one(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    nonce, other = b"n" * 32, b"o" * 32
    old, fresh = (
        make_certificate(key, enclave, NOW),
        make_certificate(key, enclave, NOW, nonce=nonce),
    )
    assert appraise(enclave, fresh, nonce=nonce).accepted
    assert appraise(enclave, fresh).accepted
    assert appraise(enclave, fresh, nonce=other).faults == (CertificateFault.NONCE_DIFFERS,)
    assert appraise(enclave, old, nonce=nonce).faults == (CertificateFault.NONCE_MISSING,)


@pytest.mark.parametrize("nonce", [b"", b"n" * 65])
def test_a_nonce_has_a_size(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey, nonce: bytes
) -> None:
    with pytest.raises(ConfigError, match="1 to 64 bytes"):
        make_certificate(key, enclave, NOW, nonce=nonce)


@pytest.mark.parametrize("days", [-1, 2])
def test_a_certificate_of_another_time_is_refused(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey, days: int
) -> None:
    made = make_certificate(key, enclave, NOW)
    appraisal = appraise(enclave, made, now=NOW + timedelta(days=days))
    assert CertificateFault.VALIDITY in appraisal.faults


def test_an_unknown_critical_extension_is_refused(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    value = enclave(report_data_of(spki_of(key)))
    appraisal = appraise(enclave, carrying(key, GRAMINE_QUOTE, value, critical=True))
    assert appraisal.faults == (CertificateFault.CRITICAL_EXTENSION,)


def test_a_certificate_that_another_key_signed_is_refused(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    made = with_null_parameters(make_certificate(key, enclave, NOW), other)
    assert appraise(enclave, made).faults == (CertificateFault.SIGNATURE,)


def test_a_certificate_without_evidence_is_refused(enclave: QuotedEnclave) -> None:
    with pytest.raises(FormatError, match="carries no evidence"):
        appraise(enclave, Issuer.root().der)


def test_evidence_that_proves_nothing_far_away_is_refused(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    report = encode(Tagged(60002, (b"a REPORT", make_claims(spki_of(key)))))
    with pytest.raises(FormatError, match="tag 60002, a REPORT, not 60000"):
        appraise(enclave, carrying(key, EVIDENCE, report))


@pytest.mark.parametrize("name", ["sha256", "sha384"])
def test_a_trust_domain_binds_its_claims_by_either_hash(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey, name: str
) -> None:
    buffer = make_claims(spki_of(key))
    certificate = TlsCertificate.parse(make_certificate(key, enclave, NOW))
    evidence = Evidence.decode(encode_evidence(b"", buffer))
    quote = Quote.parse(enclave(bytes(64)))
    for data, right in ((hashlib.new(name, buffer).digest(), True), (bytes(64), False)):
        body = TdReport(report_data=data.ljust(64, b"\0"))
        signed = signed_part(QuoteHeader(4, tee_type=TeeType.TDX), body)
        assert evidence.bound(dataclasses.replace(quote, signed=signed), certificate) is right


def test_what_an_enclave_says_besides_is_bound_too(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    buffer = make_claims(spki_of(key), enclave_key=b"k" * 64)
    quote = enclave(report_data_of(buffer))
    appraisal = appraise(enclave, certificate_for(key, quote, buffer, NOW))
    assert appraisal.accepted
    assert appraisal.evidence.claims["enclave-key"] == b"k" * 64
    changed = buffer.replace(b"k" * 64, b"j" * 64)
    assert appraise(enclave, certificate_for(key, quote, changed, NOW)).faults == (
        CertificateFault.REPORT_DATA,
    )


def test_another_enclave_and_a_debug_enclave_are_refused_by_policy(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    other = QuotedEnclave(mr_enclave=bytes(32), platform=enclave.platform)
    debug = QuotedEnclave(
        flags=AttributeFlags.INIT | AttributeFlags.MODE64BIT | AttributeFlags.DEBUG,
        platform=enclave.platform,
    )
    for quoter, fault in ((other, "sgx.mr_enclave"), (debug, "sgx.allow_debug")):
        appraisal = appraise(enclave, make_certificate(key, quoter, NOW))
        assert [mismatch.key for mismatch in appraisal.mismatches] == [fault]
        with pytest.raises(PolicyError, match=fault):
            appraisal.require()


def test_an_emulated_platform_is_refused_unless_its_root_is_trusted_and_named(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    made = make_certificate(key, enclave, NOW)
    collateral = enclave.collateral()
    production = verify_certificate(made, collateral, NOW, Policy())
    assert production.verdict.reason is Reason.ROOT_NOT_TRUSTED
    unnamed = verify_certificate(made, collateral, NOW, Policy(), roots=[enclave.root])
    assert [mismatch.key for mismatch in unnamed.mismatches] == ["accept_emulated_root"]
    with pytest.raises(ConfigError, match="one kind at a time"):
        verify_certificate(made, collateral, NOW, enclave.policy, roots=[enclave.root, INTEL_ROOT])


def test_an_appraisal_is_no_truth_value(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey
) -> None:
    with pytest.raises(TypeError, match="accepted"):
        bool(appraise(enclave, make_certificate(key, enclave, NOW)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_certificate_with_a_changed_byte_is_accepted(data: st.DataObject) -> None:
    enclave, original = _certified()
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        appraisal = appraise(enclave, bytes(changed))
    except FormatError:
        return
    assert not appraisal.accepted


@cache
def _certified() -> tuple[QuotedEnclave, bytes]:
    enclave = QuotedEnclave()
    return enclave, make_certificate(ec.generate_private_key(ec.SECP256R1()), enclave, NOW)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "not exactly one element"),
        (b"\x30\x80", "indefinite"),
        (bytes(MAX_CERTIFICATE_SIZE + 1), "more than the"),
        (der.encode(der.SEQUENCE, b""), "0 elements where 3 belong"),
        (b"\x30" * 5000, "cut short|valid DER"),
    ],
)
def test_bytes_that_are_no_certificate_are_refused(data: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        TlsCertificate.parse(data)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (encode(Tagged(60000, b"a quote")), "other items than"),
        (encode((b"a quote", b"claims")), "no CBOR tag"),
        (encode_evidence(b"a quote", encode(1)), "no map"),
        (encode_evidence(b"a quote", encode({"nonce": b"n"})), "no pubkey-hash"),
        (encode_evidence(b"a quote", encode({"pubkey-hash": "x"})), "no byte string"),
        (encode_evidence(b"q", encode({"pubkey-hash": b"x", "nonce": 1})), "no byte string"),
    ],
)
def test_evidence_of_another_shape_is_refused(value: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        Evidence.decode(value)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        (b"491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_two_digits_of_a_year_stand_for_1950_to_2049(
    enclave: QuotedEnclave, key: ec.EllipticCurvePrivateKey, text: bytes, time: datetime
) -> None:
    made = make_certificate(key, enclave, NOW)
    old = (NOW - timedelta(minutes=5)).strftime("%y%m%d%H%M%SZ").encode()
    assert TlsCertificate.parse(made.replace(old, text)).not_before == time
