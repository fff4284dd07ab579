# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_hello_world_builds_signs_loads_calls_out_reports_and_seals(tmp_path: Path) -> None:
    shutil.copytree(_EXAMPLE, tmp_path / "hello", ignore=shutil.ignore_patterns("build"))
    said = _run(tmp_path / "hello")
    for line in (
        "  the enclave says: Hello from inside the enclave, Python!",
        "A string came back: Pleased to meet you, Python.",
        "40 + 2 = 42",
        "Different words: 4",
        "Sealed 16 bytes to 576, and unsealed: the cake is real",
        "The enclave has answered 8 calls.",
    ):
        assert f"{line}\n" in said
    assert "unsealing says: SGX_ERROR_MAC_MISMATCH" in said


def test_a_second_run_signs_with_the_same_key_and_measures_the_same(tmp_path: Path) -> None:
    folder = shutil.copytree(_EXAMPLE, tmp_path / "hello", ignore=shutil.ignore_patterns("build"))
    first = [line for line in _run(folder).splitlines() if "MRENCLAVE" in line]
    key = (folder / "build" / "signing-key.pem").read_bytes()
    assert [line for line in _run(folder).splitlines() if "MRENCLAVE" in line] == first
    assert (folder / "build" / "signing-key.pem").read_bytes() == key
    assert (folder / "build" / "signing-key.pem").stat().st_mode & 0o777 == 0o600
