# SPDX-License-Identifier: Apache-2.0
"""The core without Python: its own test programs, plain and under ASan and UBSan."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.core.rig import CSRC, HERE

FLAGS = [
    *("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"),
    f"-I{CSRC}",
]
VARIANTS = {
    "plain": ["-O2"],
    "sanitized": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
# the core has these signals and the alternate stack; a sanitizer that took them would see ENCLU
ASAN = "use_sigaltstack=0:handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0"


@pytest.fixture(scope="module", params=VARIANTS)
def core_objects(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], list[Path]]:
    """Compile the files of the core that are not Python's; return flags and objects."""
    flags = [*FLAGS, *VARIANTS[request.param]]
    folder = tmp_path_factory.mktemp(request.param)
    sources = [path for path in sorted(CSRC.glob("*.c")) if "<Python.h>" not in includes(path)]
    if request.param == "sanitized":
        probe = folder / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        if subprocess.run(["gcc", *flags, probe, "-o", folder / "probe"], check=False).returncode:
            pytest.skip("this compiler has no address sanitizer library")
    subprocess.run(["gcc", *flags, "-c", *sources], cwd=folder, check=True)
    return flags, sorted(folder.glob("*.o"))


def includes(path: Path) -> str:
    text = path.read_text()
    return text + (CSRC / "python.h").read_text() if '"python.h"' in text else text


def run(core_objects: tuple[list[str], list[Path]], name: str, *arguments: str) -> str:
    flags, objects = core_objects
    program = objects[0].parent / name
    if not program.exists():
        source = HERE / f"{name}.c"
        subprocess.run(["gcc", *flags, source, *objects, "-o", program], check=True)
    done = subprocess.run(
        [program, *arguments],
        env={**os.environ, "ASAN_OPTIONS": ASAN},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["decode", "thunk", "vdso_abi"])
def test_a_program_of_the_core_succeeds(
    core_objects: tuple[list[str], list[Path]], name: str
) -> None:
    assert run(core_objects, name) == "ok\n"


def test_no_enclave_of_random_bytes_stops_its_host(
    core_objects: tuple[list[str], list[Path]],
) -> None:
    assert run(core_objects, "stress", "7", "8000").startswith("ok ")


def test_a_barrage_of_signals_spoils_nothing(
    core_objects: tuple[list[str], list[Path]],
) -> None:
    assert run(core_objects, "barrage", "60") == "ok\n"


@pytest.mark.slow
def test_a_long_barrage_of_signals_spoils_nothing(
    core_objects: tuple[list[str], list[Path]],
) -> None:
    assert run(core_objects, "barrage", "1000") == "ok\n"


@pytest.mark.slow
def test_no_enclave_of_many_random_bytes_stops_its_host(
    core_objects: tuple[list[str], list[Path]],
) -> None:
    for seed in range(1000, 1040):
        assert run(core_objects, "stress", str(seed), "20000").startswith("ok ")
