# SPDX-License-Identifier: Apache-2.0
"""The test PCS and what it has announced."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from ensconce.dcap.chain import PckCa
from ensconce.dcap.verdict import TcbStatus
from ensconce.errors import FormatError
from ensconce.machine import identity
from ensconce.machine.identity import Identity
from ensconce.platform.ledger import Ledger, changing_ledger, ledger_path, load_ledger
from ensconce.platform.pcs import Pcs
from ensconce.platform.quoting import EmulatedPlatform

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def platform() -> EmulatedPlatform:
    return EmulatedPlatform.of(Identity.generate())


def crl(collateral: dict[str, str], name: str) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(bytes.fromhex(collateral[name]))


def test_a_platforms_root_is_its_own_and_stays_the_same(platform: EmulatedPlatform) -> None:
    root = platform.pcs.root.certificate()
    assert EmulatedPlatform.of(platform.identity).pcs.root.certificate() == root
    assert EmulatedPlatform.of(Identity.generate()).pcs.root.certificate() != root


def test_every_certificate_says_that_it_is_emulated(platform: EmulatedPlatform) -> None:
    pcs = platform.pcs
    for entity in (pcs.root, *pcs.authorities.values(), pcs.tcb_signing, platform.pck):
        certificate = entity.certificate()
        for name in (certificate.subject, certificate.issuer):
            text = name.rfc4514_string()
            assert "emulated" in text
            assert "Intel" not in text


def test_signed_texts_are_signed_as_they_stand(platform: EmulatedPlatform) -> None:
    collateral = platform.pcs.collateral(NOW)
    signer, root = x509.load_pem_x509_certificates(collateral["tcb_info_issuer_chain"].encode())
    signer.verify_directly_issued_by(root)
    key = signer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    for name in ("tcb_info", "qe_identity"):
        raw = bytes.fromhex(collateral[f"{name}_signature"])
        halves = (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        signed = collateral[name].encode()
        key.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashes.SHA256()))


def test_collateral_is_valid_for_thirty_days_from_the_time_given(
    platform: EmulatedPlatform,
) -> None:
    collateral = platform.pcs.collateral(NOW)
    for name in ("tcb_info", "qe_identity"):
        fields = json.loads(collateral[name])
        assert fields["issueDate"] == "2026-11-24T12:00:00Z"
        assert fields["nextUpdate"] == "2026-12-24T12:00:00Z"
    assert crl(collateral, "pck_crl").next_update_utc == NOW + timedelta(days=30)


def test_a_crl_lists_what_its_issuer_revoked_and_its_number_rises(
    platform: EmulatedPlatform,
) -> None:
    pcs = platform.pcs
    authority = pcs.authorities[PckCa.PLATFORM]
    before = crl(pcs.collateral(NOW), "pck_crl")
    assert not list(before)
    pcs.ledger.revoked = {platform.pck.serial_number: NOW, authority.serial_number: NOW}
    after = pcs.collateral(NOW)
    assert [entry.serial_number for entry in crl(after, "pck_crl")] == [platform.pck.serial_number]
    assert [entry.serial_number for entry in crl(after, "root_ca_crl")] == [authority.serial_number]
    numbers = [
        each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        for each in (before, crl(after, "pck_crl"))
    ]
    assert numbers == [1, 3]


def test_an_advance_puts_the_platform_out_of_date_until_it_recovers(
    platform: EmulatedPlatform,
) -> None:
    ledger = platform.pcs.ledger
    ledger.advance(platform.identity, NOW, ("EXAMPLE-SA-1",))
    assert ledger.levels[0].cpu_svn == platform.identity.recovered().cpu_svn
    assert ledger.levels[1].cpu_svn == platform.identity.cpu_svn
    assert (ledger.levels[1].status, ledger.evaluation) == (TcbStatus.OUT_OF_DATE, 2)
    assert ledger.levels[1].advisories == ("EXAMPLE-SA-1",)


def test_a_platform_that_recovered_first_is_up_to_date_after_the_advance(
    platform: EmulatedPlatform,
) -> None:
    recovered = platform.identity.recovered()
    platform.pcs.ledger.advance(recovered, NOW, ())
    assert platform.pcs.ledger.levels[0].cpu_svn == recovered.cpu_svn


def test_a_ledger_is_kept_beside_the_identity_and_changed_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "platform"
    found = identity.load_or_create(path)
    assert load_ledger(path, found) == Ledger.initial(found)
    with changing_ledger(path, found) as ledger:
        ledger.revoked[7] = NOW
    assert load_ledger(path, found).revoked == {7: NOW}
    assert ledger_path(path).stat().st_mode & 0o777 == 0o600


def test_another_identity_starts_a_ledger_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "platform"
    found = identity.load_or_create(path)
    with changing_ledger(path, found) as ledger:
        ledger.revoked[7] = NOW
    other = Identity.generate()
    assert load_ledger(path, other) == Ledger.initial(other)


LEVEL = b'{"cpu_svn": "00", "pce_svn": 1, "status": "UpToDate", "date": "x", "advisories": []}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 70000,
        b"\xff",
        b'{"ensconce_pcs": 2}',
        b'{"ensconce_pcs": 1, "platform_id": "", "levels": [], "evaluation": 1, "revoked": {}}',
        b'{"ensconce_pcs": 1, "platform_id": "", "levels": [], "evaluation": 1e999}',
        b'{"ensconce_pcs": 1, "platform_id": "", "levels": [' + LEVEL + b"]}",
    ],
)
def test_a_file_that_is_no_ledger_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(FormatError, match="remove it to start anew"):
        Ledger.parse(data, source="x.pcs")


@given(
    st.integers(1, 99),
    st.dictionaries(st.integers(1, (1 << 159) - 1), st.datetimes(datetime(2020, 1, 1))),
    st.lists(st.text(max_size=9), max_size=3),
)
def test_a_ledger_survives_its_file(
    evaluation: int, revoked: dict[int, datetime], advisories: list[str]
) -> None:
    found = Identity(bytes(16), bytes(16), bytes(16), bytes(32), bytes(16))
    ledger = Ledger.initial(found)
    ledger.advance(found, NOW, tuple(advisories))
    ledger.evaluation = evaluation
    ledger.revoked = {
        serial: since.replace(microsecond=0, tzinfo=UTC) for serial, since in revoked.items()
    }
    assert Ledger.parse(bytes(ledger)) == ledger


def test_the_processor_authority_can_be_used_instead(platform: EmulatedPlatform) -> None:
    pcs: Pcs = platform.pcs
    pcs.ca = PckCa.PROCESSOR
    issuer = crl(pcs.collateral(NOW), "pck_crl").issuer
    assert issuer == pcs.authorities[PckCa.PROCESSOR].name
