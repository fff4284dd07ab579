# SPDX-License-Identifier: Apache-2.0
"""`ensconce attest`: the walk to the verifier, and the look ahead."""

import json
from pathlib import Path

import pytest
from tests.dcap.corpus import CORPUS, needs_corpus, time_of

from ensconce.cli import cli, run

_NOWHERE = "http://127.0.0.1:1/sgx/certification/v4"
_TODAY = CORPUS / "sgx-v3-00606a000000-268c0681-eval17-2025-08-15"
_TOMORROW = CORPUS / "sgx-v3-00606a000000-268c0681-eval21-2026-07-30"


def _call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    code = run(cli, ["attest", *map(str, args)])
    return code, capsys.readouterr().out


def test_the_walk_begins_with_a_quote_of_this_machines_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENSCONCE_PLATFORM", str(tmp_path / "platform"))
    monkeypatch.setenv("ENSCONCE_BACKEND", "emulated")
    code, out = _call(capsys, "doctor", "--pccs", _NOWHERE, "--json")
    said = json.loads(out)
    assert code == 1
    assert [check["name"] for check in said["checks"]] == ["quote", "pck", "pccs"]
    assert said["whole"] is False
    assert "start the PCCS" in said["checks"][-1]["mend"]


def test_a_file_that_is_no_quote_is_the_first_broken_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quote = tmp_path / "quote.bin"
    quote.write_bytes(b"no quote")
    code, out = _call(capsys, "doctor", "--quote", quote, "--pccs", _NOWHERE)
    assert code == 1
    assert out.startswith("MISSING  quote")


@needs_corpus
def test_the_look_ahead_names_the_change_with_its_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[tcb]\nstatuses = ["SWHardeningNeeded"]\n')
    arguments = ["forecast", _TODAY / "quote.bin", "--policy", policy]
    arguments += ["--today", _TODAY / "collateral.json"]
    arguments += ["--tomorrow", _TOMORROW / "collateral.json"]
    arguments += ["--at", int(time_of(_TODAY).timestamp())]
    code, out = _call(capsys, *arguments, "--json")
    assert code == 1
    outlooks = json.loads(out)[0]["outlooks"]
    assert [each["accepted"] for each in outlooks] == [True, False]
    assert outlooks[1]["begins"] == "2026-07-30T16:31:17+00:00"
    assert "REFUSED, OutOfDate" in _call(capsys, *arguments)[1]
