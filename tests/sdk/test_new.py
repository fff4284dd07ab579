# SPDX-License-Identifier: Apache-2.0
"""`ensconce sdk new`: what it writes builds, runs, and passes the tests that it comes with."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensconce import edl
from ensconce.cli import cli, run
from ensconce.errors import ConfigError
from ensconce.image.config import parse_config
from ensconce.sdk.new import Host, Language, new_project
from ensconce.sdk.sdk_tree import sdk_tree
from ensconce.sdk.toolchain import cache_folder

_ENSCONCE = f"{sys.executable} -c 'from ensconce.cli import main; main()'"
_EVERY = pytest.mark.parametrize(
    ("language", "host"), [(language, host) for language in Language for host in Host]
)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A user's own platform; its service, where a C host started it, is ended afterwards."""
    chosen = {
        "ENSCONCE_BACKEND": "emulated",
        "ENSCONCE_CACHE": str(cache_folder()),
        "ENSCONCE_PLATFORM": str(tmp_path / "private" / "platform"),
        "ENSCONCE_SERVICE": str(tmp_path / "run" / "service.sock"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    yield os.environ | chosen
    lock = Path(chosen["ENSCONCE_SERVICE"] + ".lock")
    if lock.exists():
        os.kill(int(lock.read_text()), signal.SIGKILL)


def _make(project: Path, environment: dict[str, str], *goals: str) -> str:
    command = ["make", f"ENSCONCE={_ENSCONCE}", f"PYTHON={sys.executable}", *goals]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@_EVERY
def test_every_project_is_whole(tmp_path: Path, language: Language, host: Host) -> None:
    project = tmp_path / "my-project"
    files = new_project(project, language=language, host=host)
    found = {path.relative_to(project) for path in project.rglob("*") if path.is_file()}
    assert set(files) == found
    assert Path(".gitignore") in found
    texts = [(project / name).read_text() for name in files]
    assert not any("@@" in text for text in texts)
    assert "# my-project\n" in (project / "README.md").read_text()
    interface = edl.loads((project / "enclave/enclave.edl").read_text())
    assert [each.name for each in interface.ecalls] == ["greet", "total"]
    assert parse_config((project / "enclave/enclave.config.xml").read_bytes()).tcs_num == 4
    assert (project / f"enclave/enclave.{language}").is_file()
    assert list(tmp_path.iterdir()) == [project]


@_EVERY
def test_a_new_project_builds_runs_and_passes_its_checks(
    tmp_path: Path, environment: dict[str, str], language: Language, host: Host
) -> None:
    pytest.importorskip("ziglang", reason="the toolchain's wheel is not installed")
    environment.pop("SGX_SDK", None)
    if language is Language.CPP:  # else the Makefile asks for it
        environment["SGX_SDK"] = str(sdk_tree())
    project = tmp_path / "vault"
    new_project(project, language=language, host=host)
    said = _make(project, environment, "run")
    assert "the enclave reports: Hello, vault, from inside the enclave.\n" in said
    assert "the host got: Hello, vault, from inside the enclave.\n" in said
    assert "20 + 21 + 1 = 42\n" in said
    passed = "4 passed" if host is Host.PYTHON else "ok      a null pointer does no harm"
    assert passed in _make(project, environment, "check")
    key = project / "signing-key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    assert _make(project, environment, "all").count("sign") == 0  # nothing is left to do
    _make(project, environment, "clean")
    assert not (project / "build").exists()
    assert key.exists()


def test_a_check_that_fails_fails_make(tmp_path: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("ziglang", reason="the toolchain's wheel is not installed")
    project = tmp_path / "vault"
    new_project(project)
    code = project / "enclave/enclave.c"
    code.write_text(code.read_text().replace("sum += numbers[i]", "sum += (uint16_t)numbers[i]"))
    with pytest.raises(AssertionError, match="1 failed, 3 passed"):
        _make(project, environment, "check")


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    taken, link = tmp_path / "taken", tmp_path / "link"
    taken.mkdir()
    link.symlink_to("nowhere")
    for path in (taken, link):
        with pytest.raises(ConfigError, match="is there already"):
            new_project(path)
    assert not list(taken.iterdir())
    assert sorted(tmp_path.iterdir()) == [link, taken]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "1st", "two words", "a/../b c", "-x", "x" * 65, "ü"]
)
def test_a_bad_name_is_one_sentence_and_writes_nothing(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(cli, ["sdk", "new", "--", name]) == 3
    said = capsys.readouterr().err
    assert "can't name a project" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*missing"):
        new_project(tmp_path / "missing" / "project")


def test_the_command_tells_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "vault"
    assert run(cli, ["sdk", "new", str(project), "--language", "cpp", "--host", "c", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["project"], made["language"], made["host"]) == (str(project), "cpp", "c")
    assert "host/main.c" in made["files"]
    assert run(cli, ["sdk", "new", str(tmp_path / "other")]) == 0
    assert f"make -C {tmp_path / 'other'} run" in capsys.readouterr().out
