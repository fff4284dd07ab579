# SPDX-License-Identifier: Apache-2.0
"""`ensconce enclave` as a user calls it, on an enclave that is built for the test."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from ensconce.cli import cli, run
from ensconce.cli.sign import sgx_sign
from ensconce.crypto import generate_signing_key
from ensconce.sdk.build import build

pytest.importorskip("ziglang", reason="the toolchain's wheel is not installed")

EDL = """enclave {
    trusted { public int add(int a, int b); public void fill([out, size=n] char *to, size_t n); };
    untrusted { void note([in, string] const char *text); };
};"""
CODE = """#include "small_t.h"
#include <string.h>
int add(int a, int b) { note("adding"); return a + b; }
void fill(char *to, size_t n) { memset(to, 'x', n); }
"""


class Workshop:
    """A folder with an enclave, signed and not, its key and its interface."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.edl = folder / "small.edl"
        self.key = folder / "key.pem"
        self.public = folder / "public.pem"
        self.unsigned = folder / "small.so"
        self.signed = folder / "small.signed.so"
        self.edl.write_text(EDL)
        (folder / "small.c").write_text(CODE)
        key = generate_signing_key()
        pem = serialization.Encoding.PEM
        plain = serialization.NoEncryption()
        self.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        self.public.write_bytes(
            key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        build([folder / "small.c"], self.edl, self.unsigned)


@pytest.fixture(scope="module", autouse=True)
def _own_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ENSCONCE_PLATFORM", str(tmp_path_factory.mktemp("state") / "platform"))
        environment.setenv("ENSCONCE_BACKEND", "emulated")
        environment.setenv("SOURCE_DATE_EPOCH", "1700000000")
        yield


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, _own_platform: None) -> Workshop:
    shop = Workshop(tmp_path_factory.mktemp("enclave"))
    assert run(cli, ["enclave", "sign", *options(shop, shop.signed)]) == 0
    return shop


def options(shop: Workshop, out: Path) -> list[str]:
    return ["--enclave", str(shop.unsigned), "--key", str(shop.key), "--out", str(out)]


def answer(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, object]:
    capsys.readouterr()
    assert run(cli, ["enclave", *map(str, args), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_inspect_tells_what_was_signed(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "inspect", shop.signed)
    assert found["mode"] == "hw"
    assert found["signature_valid"] is found["measurement_matches"] is True
    assert answer(capsys, "measure", shop.signed)["mr_enclave"] == found["mr_enclave"]
    names = {"mr_enclave", "mr_signer", "isv_prod_id", "isv_svn", "attributes", "debug", "mode"}
    assert names <= found.keys()


def test_verify_answers_yes_or_no(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    signer = answer(capsys, "verify", shop.signed)["mr_signer"]
    assert answer(capsys, "verify", shop.signed, "--mr-signer", signer)["verified"] is True
    assert run(cli, ["enclave", "verify", str(shop.signed), "--mr-signer", "00" * 32]) == 1
    assert run(cli, ["enclave", "verify", str(shop.signed), "--mr-enclave", "xy"]) == 3


def test_a_changed_file_and_an_unsigned_one_have_exit_codes_of_their_own(
    shop: Workshop, tmp_path: Path
) -> None:
    changed = bytearray(shop.signed.read_bytes())
    changed[changed.index(b"adding")] ^= 1
    (tmp_path / "changed.so").write_bytes(changed)
    for command in ("verify", "run"):
        assert run(cli, ["enclave", command, str(tmp_path / "changed.so")]) == 16
        assert run(cli, ["enclave", command, str(shop.unsigned)]) == 15
        assert run(cli, ["enclave", command, str(shop.edl)]) == 2


def test_run_loads_and_unloads(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "run", shop.signed)
    assert found["loaded"] is True
    assert found["backend"] == "emulated"


def test_call_passes_numbers_and_buffers(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    edl = ("--edl", shop.edl)
    assert answer(capsys, "call", shop.signed, *edl, "add", "40", "0x2") == {"returned": 42}
    filled = answer(capsys, "call", shop.signed, *edl, "fill", "out:3", "3")
    assert filled["to"] == b"xxx".hex()


def test_call_prints_ocalls_or_takes_them_from_a_file(
    shop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["enclave", "call", str(shop.signed), "--edl", str(shop.edl), "add", "1", "2"]
    assert run(cli, command) == 0
    assert "note(adding)" in capsys.readouterr().err
    (tmp_path / "mine.py").write_text("def note(text):\n    print('mine', text)\n")
    assert run(cli, [*command, "--ocalls", str(tmp_path / "mine.py")]) == 0
    assert "mine adding" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "there is no ECALL none"),
        (["add", "1"], "add takes a b"),
        (["add", "one", "2"], "a is int"),
        (["fill", "out:x", "3"], "to is char*"),
    ],
)
def test_call_explains_what_it_can_not_pass(
    arguments: list[str], said: str, shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(cli, ["enclave", "call", str(shop.signed), "--edl", str(shop.edl), *arguments])
    assert code == 3
    assert said in capsys.readouterr().err


def test_a_signature_made_elsewhere_gives_the_same_file(shop: Workshop, tmp_path: Path) -> None:
    data, sig, out = tmp_path / "data", tmp_path / "sig", tmp_path / "out.so"
    enclave = ["--enclave", str(shop.unsigned)]
    assert run(cli, ["enclave", "gendata", *enclave, "--out", str(data)]) == 0
    subprocess.run(["openssl", "dgst", "-sha256", "-sign", shop.key, "-out", sig, data], check=True)
    pieces = ["--key", str(shop.public), "--sig", str(sig), "--unsigned", str(data)]
    assert run(cli, ["enclave", "catsig", *enclave, *pieces, "--out", str(out)]) == 0
    assert out.read_bytes() == shop.signed.read_bytes()


def test_sgx_sign_takes_the_vendors_command_line(shop: Workshop, tmp_path: Path) -> None:
    out, text, css = tmp_path / "out.so", tmp_path / "dump", tmp_path / "css"
    line = ["sign", "-enclave", shop.unsigned, "-key", shop.key, "-out", out, "-cssfile", css]
    assert run(sgx_sign, [str(word) for word in line]) == 0
    assert out.read_bytes() == shop.signed.read_bytes()
    assert len(css.read_bytes()) == 1808
    assert run(sgx_sign, ["dump", "-enclave", str(out), "-dumpfile", str(text)]) == 0
    assert "0x86a80294635d0e4c" in text.read_text()
    assert run(sgx_sign, ["sign", "-enclave", str(out)]) == 3


def test_a_key_that_is_none_leaves_nothing_behind(shop: Workshop, tmp_path: Path) -> None:
    out = tmp_path / "out.so"
    line = ["--enclave", str(shop.unsigned), "--key", str(shop.edl), "--out", str(out)]
    assert run(cli, ["enclave", "sign", *line]) == 3
    assert list(tmp_path.glob("out*")) == []


@pytest.mark.parametrize("epoch", ["x", "99999999999999999999"])
def test_a_source_date_that_is_none_is_refused(
    epoch: str, shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert run(cli, ["enclave", "sign", *options(shop, tmp_path / "out.so")]) == 3


def test_dump_prints_the_metadata(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "dump", "--enclave", shop.signed)
    assert len(str(found["sigstruct"])) == 2 * 1808


def test_a_made_key_is_its_owners_alone_and_signs(
    shop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    key, out = shop.folder / "made.pem", shop.folder / "made.so"
    assert run(cli, ["enclave", "key", str(key), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert key.stat().st_mode & 0o777 == 0o600
    enclave = ["--enclave", str(shop.unsigned), "--key", str(key), "--out", str(out)]
    assert run(cli, ["enclave", "sign", *enclave, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mr_signer"] == made["mr_signer"]


def test_a_key_is_never_overwritten(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    before = shop.key.read_bytes()
    assert run(cli, ["enclave", "key", str(shop.key)]) == 3
    assert "is there already" in capsys.readouterr().err
    assert shop.key.read_bytes() == before
