# SPDX-License-Identifier: Apache-2.0
"""`ensconce platform target|quote|collateral|pcs` as a user calls it."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.platform.reporting import report_of

from ensconce.cli import cli, run
from ensconce.dcap.quote import Quote
from ensconce.isa.report import Report, ReportBody, TargetInfo
from ensconce.platform.quoting import EmulatedPlatform


@pytest.fixture
def path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setenv("ENSCONCE_BACKEND", "emulated")
    path = tmp_path / "state" / "platform"
    call(capsys, "init", "--path", path)
    return path


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = run(cli, ["platform", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def answer(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, object]:
    code, out, err = call(capsys, *args, "--json")
    assert code == 0, err
    said: dict[str, object] = json.loads(out)
    return said


def test_a_quote_and_its_collateral_are_files_that_belong_together(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = str(answer(capsys, "target", "--path", path)["target_info"])
    target = TargetInfo.parse(bytes.fromhex(info))
    platform = EmulatedPlatform.load(path)
    made = report_of(platform.identity, target)
    (tmp_path / "report").write_bytes(bytes(made))
    said = answer(capsys, "quote", "--path", path, tmp_path / "report", tmp_path / "quote")
    quote = Quote.parse((tmp_path / "quote").read_bytes())
    assert said["mr_enclave"] == made.body.mr_enclave.hex()
    assert quote.body == made.body
    files = [tmp_path / "collateral", "--root-ca", tmp_path / "root"]
    said = answer(capsys, "collateral", "--path", path, *files, "--at", 1800000000)
    root = (tmp_path / "root").read_bytes()
    assert said["root_ca_sha256"] == hashlib.sha256(root).hexdigest()
    assert (said["issued"], said["expires"]) == (1800000000, 1800000000 + 30 * 86400)
    collateral = json.loads((tmp_path / "collateral").read_text())
    assert collateral == platform.pcs.collateral(datetime.fromtimestamp(1800000000, UTC))


def test_a_report_that_is_not_for_the_quoting_enclave_is_refused(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").write_bytes(bytes(Report(ReportBody())))
    code, out, err = call(capsys, "quote", "--path", path, tmp_path / "report", tmp_path / "quote")
    assert (code, out) == (1, "")
    assert "ensconce platform target" in err
    assert not (tmp_path / "quote").exists()


@pytest.mark.parametrize("size", [0, 431, 433])
def test_a_file_that_is_no_report_is_refused(
    size: int, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").write_bytes(bytes(size))
    code, _, err = call(capsys, "quote", "--path", path, tmp_path / "report", tmp_path / "quote")
    assert code == 2
    assert "Report takes 432" in err


def test_a_tcb_recovery_and_a_revocation_can_be_played_through(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = answer(capsys, "pcs", "show", "--path", path)
    told = answer(capsys, "pcs", "advance", "--path", path, "--advisory", "EXAMPLE-SA-1")
    assert told["tcb_up_to_date"] != first["cpu_svn"]
    assert told["tcb_evaluation_data_number"] == 2
    answer(capsys, "recover", "--path", path)
    recovered = answer(capsys, "pcs", "show", "--path", path)
    assert recovered["cpu_svn"] == recovered["tcb_up_to_date"]
    assert recovered["pck_serial"] != first["pck_serial"]
    assert recovered["root_ca_sha256"] == first["root_ca_sha256"]
    assert answer(capsys, "pcs", "revoke", "--path", path)["pck_revoked"] is True
    answer(capsys, "recover", "--path", path)
    assert answer(capsys, "pcs", "show", "--path", path)["pck_revoked"] is False


@pytest.mark.parametrize(
    "words",
    [["target", "--backend", "emulated"], ["pcs", "show"], ["pcs", "revoke"], ["pcs", "advance"]],
)
def test_without_a_platform_the_mend_is_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, *words, "--path", tmp_path / "none")
    assert code == 3
    assert "ensconce platform init" in err
