# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ensconce.sdk.toolchain import cache_folder

_EXAMPLE = Path(__file__).parents[2] / "examples" / "01-hello-world"


def _run(folder: Path) -> str:
    environment = os.environ | {
        "ENSCONCE_CACHE": str(cache_folder()),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, str(folder / "host.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("example") / "hello"
    return shutil.copytree(_EXAMPLE, target, ignore=shutil.ignore_patterns("build"))


@pytest.fixture(scope="module")
def first_run(folder: Path) -> str:
    return _run(folder)


def test_hello_world_builds_signs_loads_calls_out_reports_and_seals(first_run: str) -> None:
    for line in (
        "  the enclave says: Hello from inside the enclave, Python!",
        "A string came back: Pleased to meet you, Python.",
        "40 + 2 = 42",
        "Different words: 4",
        "Sealed 16 bytes to 576, and unsealed: the cake is real",
        "The enclave has answered 8 calls.",
    ):
        assert f"{line}\n" in first_run
    assert "unsealing says: SGX_ERROR_MAC_MISMATCH" in first_run


def test_a_second_run_uses_the_same_key_and_says_the_same(first_run: str, folder: Path) -> None:
    key = folder / "build" / "signing-key.pem"
    before = key.read_bytes()
    assert _run(folder) == first_run
    assert key.read_bytes() == before
    assert key.stat().st_mode & 0o777 == 0o600
