# SPDX-License-Identifier: Apache-2.0
"""The first example, built and run: the SDK's runtime and this package understand each other."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ensconce.dcap import Collateral, Policy, Root, validate, verify
from ensconce.dcap.policy import SgxPolicy
from ensconce.enclave import Device, Enclave, Status, load
from ensconce.image import key_signer
from ensconce.isa.report import Report
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor
from ensconce.platform.quoting import EmulatedPlatform
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, read_config, sign

EXAMPLE = Path(__file__).parents[2] / "examples" / "01-hello-world"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, key: rsa.RSAPrivateKey) -> Path:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the toolchain (ziglang) is not installed")
    folder = tmp_path_factory.mktemp("hello")
    image = build([EXAMPLE / "enclave.c"], EXAMPLE / "enclave.edl", folder / "enclave.so")
    signed = folder / "enclave.signed.so"
    sign(
        image,
        signed,
        SigningKey(key.public_key(), key_signer(key)),
        config=read_config(EXAMPLE / "enclave.config.xml"),
    )
    return signed


@pytest.fixture
def hello(signed: Path, device: Callable[[], Device]) -> Iterator[Enclave]:
    said: list[str] = []
    with load(
        signed, edl=EXAMPLE / "enclave.edl", ocalls={"print": said.append}, device=device()
    ) as enclave:
        yield enclave


def test_it_greets_and_prints(signed: Path, device: Callable[[], Device]) -> None:
    said: list[str] = []
    edl = EXAMPLE / "enclave.edl"
    with load(signed, edl=edl, ocalls={"print": said.append}, device=device()) as hello:
        greeting = bytearray(64)
        hello.greet("Ada", greeting, len(greeting))
    assert b"Ada" in greeting
    assert "Ada" in said[0]


def test_it_adds_and_counts(hello: Enclave) -> None:
    assert hello.add(40, 2) == 42
    assert hello.count_words("to be or not to be") == 4


def test_its_report_is_its_own(hello: Enclave) -> None:
    report = bytearray(Report.SIZE)
    assert hello.report(bytes(512), b"data".ljust(64, b"\0"), report) == 0
    assert Report.parse(report).body.mr_enclave == hello.image.measure()


def test_what_it_seals_it_unseals_and_a_changed_byte_is_told(hello: Enclave) -> None:
    sealed = bytearray(hello.sealed_size(6))
    assert hello.seal(b"secret", 6, sealed, len(sealed)) == 0
    opened, length = bytearray(6), bytearray(4)
    assert hello.unseal(sealed, len(sealed), opened, 6, length) == 0
    assert opened == b"secret"
    sealed[-1] ^= 1
    assert hello.unseal(sealed, len(sealed), opened, 6, length) == Status.MAC_MISMATCH


def test_its_report_becomes_a_quote_that_a_relying_party_accepts(signed: Path) -> None:
    platform = EmulatedPlatform.of(Identity.generate())
    device = DriverModel(Processor(platform.identity, epc_size=64 << 20))
    report = bytearray(Report.SIZE)
    data = b"a key's hash".ljust(64, b"\0")
    with load(signed, edl=EXAMPLE / "enclave.edl", ocalls={"print": str}, device=device) as hello:
        assert hello.report(bytes(platform.quoter.target_info), data, report) == 0
        measured = hello.image.measure()
    quote = platform.quoter.quote(Report.parse(report))

    now = datetime(2026, 11, 24, tzinfo=UTC)
    root = Root.parse(platform.pcs.root.certificate().public_bytes(Encoding.DER))
    collateral = Collateral.parse(json.dumps(platform.pcs.collateral(now)).encode())
    claims = verify(quote, collateral, now, roots=(root,)).claims
    assert claims is not None
    policy = Policy(
        sgx=SgxPolicy(mr_enclave=(measured,)),
        report_data=data,
        accept_emulated_root=root.fingerprint,
    )
    assert validate(claims, policy) == []
