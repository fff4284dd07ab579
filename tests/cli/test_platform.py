# SPDX-License-Identifier: Apache-2.0
"""`ensconce platform` as a user calls it."""

import json
from pathlib import Path

import pytest

from ensconce.cli import cli, run


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = run(cli, [str(arg) for arg in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_init_makes_one_identity_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state" / "platform"
    first = json.loads(call(capsys, "platform", "init", "--path", path, "--json")[1])
    second = json.loads(call(capsys, "platform", "init", "--path", path, "--json")[1])
    assert (first["created"], second["created"]) == (True, False)
    assert first["platform_id"] == second["platform_id"]


def test_show_never_shows_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "platform"
    call(capsys, "platform", "init", "--path", path)
    stored = json.loads(path.read_text())
    _, out, _ = call(capsys, "platform", "show", "--path", path)
    assert stored["platform_id"] in out
    for name in ("owner_epoch", "provisioning_fuses", "seal_fuses"):
        assert stored[name] not in out


def test_show_without_a_platform_names_the_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(capsys, "platform", "show", "--path", tmp_path / "none")
    assert (code, out) == (3, "")
    assert "ensconce platform init" in err


def test_recover_raises_cpu_svn_and_refuses_to_lower_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "platform"
    before = json.loads(call(capsys, "platform", "init", "--path", path, "--json")[1])
    after = json.loads(call(capsys, "platform", "recover", "--path", path, "--json")[1])
    assert after["cpu_svn"] > before["cpu_svn"]
    code, _, err = call(capsys, "platform", "recover", "--path", path, "--cpu-svn", "00" * 16)
    assert code == 3
    assert "none falls" in err


def test_an_exported_platform_is_the_same_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there, file = tmp_path / "a", tmp_path / "b", tmp_path / "export"
    call(capsys, "platform", "init", "--path", here)
    assert call(capsys, "platform", "export", "--path", here, file)[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert call(capsys, "platform", "import", "--path", there, file)[0] == 0
    assert here.read_bytes() == there.read_bytes()
    assert call(capsys, "platform", "import", "--path", there, file)[0] == 3
    assert call(capsys, "platform", "import", "--path", there, file, "--overwrite")[0] == 0


@pytest.mark.parametrize("svn", ["xyz", "00"])
def test_a_cpu_svn_that_is_none_is_refused(
    svn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "platform"
    call(capsys, "platform", "init", "--path", path)
    code, _, err = call(capsys, "platform", "recover", "--path", path, "--cpu-svn", svn)
    assert code == 3
    assert "Traceback" not in err
