# SPDX-License-Identifier: Apache-2.0
"""The conformance suite: every case gets its own reason; and the runner for other verifiers."""

import json
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.dcap.conformance.cases import Case
from tests.dcap.conformance.ours import judge
from tests.dcap.conformance.run import main
from tests.dcap.conformance.suite import CASES, KNOWN
from tests.dcap.issuing import NOW, Evidence

from ensconce.dcap import Watermarks

OURS = Path(__file__).with_name("ours.py")


def verdict_on(evidence: Evidence, watermarks: Watermarks | None = None) -> tuple[str, str]:
    """Return ensconce's code and TCB status for evidence."""
    collateral = json.dumps(evidence.collateral()).encode()
    return judge(evidence.quote(), collateral, evidence.root, evidence.now, watermarks)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_gets_its_own_reason(case: Case) -> None:
    watermarks = Watermarks()
    before = case.evidence_before(NOW)
    if before is not None:
        assert verdict_on(before, watermarks)[0] in ("genuine", "pck_revoked")
    reason, status = verdict_on(case.evidence(NOW), watermarks)
    assert reason == case.reason
    assert not case.genuine or status == case.status


def test_all_54_names_are_there_and_no_name_is_there_twice() -> None:
    assert len(KNOWN) == 54
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("make", [Evidence.sgx, Evidence.tdx])
def test_unchanged_evidence_is_genuine_until_its_collateral_expires(
    make: Callable[[datetime], Evidence],
) -> None:
    evidence = make(NOW)
    assert verdict_on(evidence) == ("genuine", "UpToDate")
    evidence.now += timedelta(days=28)
    collateral = json.dumps(make(NOW).collateral()).encode()
    assert judge(evidence.quote(), collateral, evidence.root, evidence.now)[0] == "genuine"
    late = evidence.now + timedelta(days=2)
    assert judge(evidence.quote(), collateral, evidence.root, late)[0] == "crl_validity"


def test_the_same_seed_and_time_make_the_same_evidence() -> None:
    once, again, other = Evidence.sgx(), Evidence.sgx(), Evidence.sgx(seed=b"other")
    assert once.quote() == again.quote() != other.quote()
    assert once.collateral() == again.collateral()


def test_the_runner_finds_ensconce_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--keep", str(tmp_path), "--only", "pck_ca", "--", sys.executable, str(OURS)]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "refuse: certificate_revoked" in table
    assert '"reason": "certificate_revoked"' in table
    assert ", 0 wrong" in table
    expected = json.loads((tmp_path / "revoked_pck_ca" / "expected.json").read_text())
    assert expected["should_succeed"] is False


def test_the_runner_gives_a_verifier_with_a_memory_what_it_has_seen_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = ["env", "ENSCONCE_WATERMARKS={}/seen", sys.executable, str(OURS)]
    arguments = ["--all", "--keep", str(tmp_path), "--only", "rolled_back", "--"]
    assert main([*arguments, *memory]) == 0
    assert "2 cases, 0 wrong" in capsys.readouterr().out
    assert main([*arguments, *memory[2:]]) == 1
    assert "2 accepted and not genuine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("exit 0", "4 cases, 1 wrong, of which 1 accepted"),
        ("exit 1", "4 cases, 3 wrong, of which 0 accepted"),
        ("exit 2", "4 cases, 4 wrong, of which 0 accepted"),
        ("kill -9 $$", "4 cases, 4 wrong, of which 0 accepted"),
    ],
)
def test_the_runner_finds_verifiers_wrong_that_do_not_look(
    program: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "pck_chain", "--", "sh", "-c", program]) == 1
    assert found in capsys.readouterr().out
