# SPDX-License-Identifier: Apache-2.0
"""From EREPORT in an enclave to a quote that a relying party accepts, through the service."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.aesm.serving import Serving, eventually, serving

from ensconce.aesm.codes import Code, Refusal
from ensconce.aesm.emulated import EmulatedBackend
from ensconce.aesm.health import check_health
from ensconce.aesm.responder import BackendResponder
from ensconce.dcap import Collateral, Quote, Root, verify
from ensconce.dcap.keyid import KeyBase, KeyId
from ensconce.errors import ConfigError
from ensconce.isa.report import TargetInfo
from ensconce.machine import identity
from ensconce.machine.driver import DriverModel
from ensconce.machine.processor import Processor
from ensconce.platform.quoting import EmulatedPlatform
from ensconce.platform.witness import Witness

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A platform of the test's own."""
    path = tmp_path / "platform"
    identity.load_or_create(path)
    return path


@pytest.fixture
def running(own: Path, tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "s", BackendResponder(EmulatedBackend(own))) as service:
        yield service


def device(path: Path) -> DriverModel:
    return DriverModel(Processor(identity.load(path), epc_size=1 << 20))


def test_an_enclaves_quote_is_genuine_to_a_relying_party(
    service: Serving, platform: Path, witness: Witness
) -> None:
    client = service.client()
    target, _ = client.init_quote()
    data = hashlib.sha512(b"what the enclave says").digest()
    quote = client.quote(witness.report(target, data)).quote
    found = EmulatedPlatform.load(platform)
    collateral = Collateral.parse(json.dumps(found.pcs.collateral(NOW)).encode())
    root = Root.parse(found.pcs.root.certificate().public_bytes(Encoding.DER))
    verdict = verify(quote, collateral, NOW, roots=[root])
    assert verdict.genuine
    body = Quote.parse(quote).body
    assert (body.report_data, body.mr_enclave) == (data, witness.mr_enclave)  # type: ignore[union-attr]


def test_the_service_offers_one_key_and_selects_it(service: Serving) -> None:
    client = service.client()
    (key,) = client.key_ids()
    assert client.select() == client.select([KeyId(KeyBase()), key]) == key


def test_a_nonce_comes_with_the_quoting_enclaves_word(service: Serving, witness: Witness) -> None:
    client = service.client()
    target, _ = client.init_quote()
    report = witness.report(target, bytes(64))
    made = client.quote(report, nonce=b"n" * 16, target=TargetInfo(measurement=witness.mr_enclave))
    assert made.qe_report is not None
    bound = hashlib.sha256(b"n" * 16 + made.quote).digest()
    assert made.qe_report.body.report_data == bound + bytes(32)
    with pytest.raises(ConfigError, match="16 bytes, not 1"):
        client.quote(report, nonce=b"n", target=target)


def test_another_platforms_report_is_refused_and_the_client_told_why(
    service: Serving, own: Path
) -> None:
    stranger = Witness(device(own))
    client = service.client()
    target, _ = client.init_quote()
    with pytest.raises(Refusal, match="share its identity") as caught:
        client.quote(stranger.report(target, bytes(64)))
    assert caught.value.code == Code.INVALID_REPORT
    stranger.close()


def test_a_tcb_recovery_takes_effect_without_a_restart(running: Serving, own: Path) -> None:
    client = running.client()
    before = client.init_quote()[1]
    identity.recover(own)
    assert client.init_quote()[1] != before
    assert check_health(client, device(own)).quote_version == 3


def test_a_platform_that_is_gone_is_an_answer(running: Serving, own: Path) -> None:
    own.rename(own.with_name("away"))
    with pytest.raises(Refusal) as caught:
        running.client().init_quote()
    assert caught.value.code == Code.SERVICE_UNAVAILABLE
    own.with_name("away").rename(own)
    assert running.client().init_quote()


def test_a_health_check_makes_a_real_quote(running: Serving, own: Path) -> None:
    health = check_health(running.client(), device(own))
    assert health.certification == "pck_chain"
    assert health.quote_size > 4000
    name = "ensconce_aesm_requests_total"
    asked = {"request": "get_quote_ex", "code": "SUCCESS"}
    assert eventually(lambda: running.count(name, **asked) == 1)


def test_a_health_check_of_the_wrong_platform_fails(service: Serving, own: Path) -> None:
    with pytest.raises(Refusal, match="INVALID_REPORT"):
        check_health(service.client(), device(own))
