# SPDX-License-Identifier: Apache-2.0
"""`ensconce sdk` and `sgx_edger8r` as a user calls them."""

from pathlib import Path

import pytest

from ensconce.cli import cli, run
from ensconce.cli.sdk import edger8r

EDL = "enclave { trusted { public int add(int a, int b); }; untrusted { void note(int n); }; };"


@pytest.fixture
def edl(tmp_path: Path) -> Path:
    path = tmp_path / "small.edl"
    path.write_text(EDL)
    return path


def test_edger8r_writes_the_four_files_of_an_interface(edl: Path) -> None:
    folder = str(edl.parent)
    assert run(edger8r, ["--trusted-dir", folder, "--untrusted-dir", folder, str(edl)]) == 0
    names = {path.name for path in edl.parent.glob("small_*")}
    assert names == {"small_t.c", "small_t.h", "small_u.c", "small_u.h"}


def test_edger8r_names_the_place_of_a_fault_and_writes_nothing(
    edl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edl.write_text(EDL.replace("int a", "int* a"))
    assert run(edger8r, ["--trusted-dir", str(edl.parent), "--trusted", str(edl)]) == 17
    assert f"{edl}:1:" in capsys.readouterr().err
    assert not list(edl.parent.glob("small_*"))


def test_stub_prints_python_types_of_a_file_here_with_its_imports(
    edl: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (edl.parent / "outer.edl").write_text('enclave { from "small.edl" import *; };')
    monkeypatch.chdir(edl.parent)
    assert run(cli, ["sdk", "stub", "outer.edl"]) == 0
    assert "def add(self, a: int, b: int, /) -> int:" in capsys.readouterr().out


def test_building_from_a_file_that_is_not_there_says_so(
    edl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(cli, ["sdk", "build", "no.c", "--edl", str(edl), "--out", str(edl.parent / "x.so")])
    assert code == 3
    assert "no.c" in capsys.readouterr().err
