# SPDX-License-Identifier: Apache-2.0
"""`ensconce verify`: exit 0, 1 or 2, and an answer for programs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.dcap.certifying import Issuer
from tests.dcap.corpus import CASES, facts_of, needs_corpus

from ensconce.cli import cli, run

Answer = tuple[int, dict[str, Any]]
HARDENING = '[tcb]\nstatuses = ["SWHardeningNeeded"]\n'


@pytest.fixture
def case() -> Path:
    return next(case for case in CASES if case.name.startswith("sgx-v3-00606a000000-268c0681"))


@pytest.fixture
def verify(case: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run the command on a real quote as of its time, with more options."""

    def answer(*options: str | Path, at: int | None = None) -> Answer:
        when = facts_of(case)["check_time"] if at is None else at
        files = (case / "quote.bin", "--collateral", case / "collateral.json")
        code = run(cli, ["verify", *map(str, (*files, "--at", when, "--json", *options))])
        return code, json.loads(capsys.readouterr().out)

    return answer


def policy_in(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    return path


@needs_corpus
def test_a_quote_that_meets_its_policy_is_accepted(
    verify: Callable[..., Answer], tmp_path: Path
) -> None:
    code, answer = verify("--policy", policy_in(tmp_path, HARDENING))
    assert (code, answer["genuine"], answer["accepted"]) == (0, True, True)
    assert (answer["reason"], answer["tcb_status"]) == ("genuine", "SWHardeningNeeded")
    assert answer["platform_tcb_status"] == "SWHardeningNeeded"
    assert answer["qe_status"] == "UpToDate"
    assert answer["advisory_ids"] == ["INTEL-SA-00615"]
    assert answer["expires"] == "2025-09-14T04:36:46+00:00"
    assert answer["claims"]["fmspc"] == "00606a000000"
    assert len(answer["claims"]["mr_enclave"]) == 64
    assert not [name for name in answer["claims"] if name.startswith("reserved")]


@needs_corpus
def test_a_genuine_quote_that_does_not_meet_the_policy_is_refused(
    verify: Callable[..., Answer],
) -> None:
    code, answer = verify()
    assert (code, answer["genuine"], answer["accepted"]) == (1, True, False)
    assert answer["reason"] == "policy_mismatch"
    assert answer["mismatches"] == [
        "tcb.statuses: SWHardeningNeeded, where the policy wants UpToDate"
    ]


@needs_corpus
def test_a_quote_of_another_time_is_refused_with_the_step_and_what_to_do(
    verify: Callable[..., Answer],
) -> None:
    code, answer = verify(at=0)
    assert (code, answer["genuine"], answer["claims"]) == (1, False, None)
    assert (answer["reason"], answer["step"]) == ("certificate_validity", 2)
    assert "clock" in answer["advice"]


@needs_corpus
def test_a_quote_under_another_root_than_the_one_given_is_refused(
    verify: Callable[..., Answer], tmp_path: Path
) -> None:
    root_ca = tmp_path / "root.der"
    root_ca.write_bytes(Issuer.root().der)
    code, answer = verify("--root-ca", root_ca, "--policy", policy_in(tmp_path, HARDENING))
    assert (code, answer["reason"], answer["step"]) == (1, "root_not_trusted", 2)


@needs_corpus
def test_numbers_of_collateral_are_kept_and_may_not_fall(
    verify: Callable[..., Answer], tmp_path: Path
) -> None:
    marks = tmp_path / "watermarks.json"
    policy = policy_in(tmp_path, HARDENING)
    assert verify("--watermarks", marks, "--policy", policy)[0] == 0
    kept = json.loads(marks.read_text())
    (name,) = [name for name in kept if name.endswith("tcb_evaluation_data_number")]
    marks.write_text(json.dumps(kept | {name: 18}))
    code, answer = verify("--watermarks", marks, "--policy", policy)
    assert (code, answer["reason"]) == (1, "collateral_rolled_back")
    assert json.loads(marks.read_text())[name] == 18


@needs_corpus
def test_inputs_that_cannot_be_read_exit_2_with_a_sentence(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\3\0\2\0")
    quote, collateral = str(case / "quote.bin"), str(case / "collateral.json")
    assert run(cli, ["verify", str(broken), "--collateral", collateral]) == 2
    assert run(cli, ["verify", quote, "--collateral", str(broken)]) == 2
    options = ["--collateral", collateral, "--root-ca", str(broken)]
    assert run(cli, ["verify", quote, *options]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(error.startswith("error: ") for error in errors)


@needs_corpus
def test_a_policy_with_an_unknown_key_is_refused_by_name(
    case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = str(policy_in(tmp_path, "[sgx]\nmrenclave = []\n"))
    files = [str(case / "quote.bin"), "--collateral", str(case / "collateral.json")]
    assert run(cli, ["verify", *files, "--policy", policy]) == 3
    assert "unknown key sgx.mrenclave" in capsys.readouterr().err


def test_missing_files_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["verify", str(tmp_path / "no"), "--collateral", str(tmp_path / "no")]) == 2
    assert "does not exist" in capsys.readouterr().err
