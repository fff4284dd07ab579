# SPDX-License-Identifier: Apache-2.0
"""The drop-in SDK: a project with a Makefile of its own builds with the system's compilers."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from ensconce.crypto import generate_signing_key
from ensconce.sdk.lint import lint
from ensconce.sdk.sdk_tree import sdk_tree
from ensconce.sdk.toolchain import CompileFlags, Mitigation, Toolchain
from ensconce.sdk.toolchain_cxx import for_cxx

_PROJECT = Path(__file__).parent / "project"
_TIMEOUT = 120
_VERBS = ("wait", "set")
_SAID = ["said: sorted 3", "sort: 0x0 0: 1 2 3", "fail: 0x0 1: no reason", "seal: 0x0 0"]

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

_HEADERS = tuple((Path(__file__).parent / "cxx" / "headers.txt").read_text().split())


@pytest.fixture(scope="module")
def sdk(toolchain: Toolchain) -> Path:
    return sdk_tree(toolchain)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    private = generate_signing_key().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path_factory.mktemp("key") / "key.pem"
    path.write_bytes(private)
    return path


@pytest.fixture
def environment(sdk: Path, tmp_path: Path) -> Mapping[str, str]:
    """The environment script's, with a platform and a service of the test's own."""
    command = ["sh", "-c", f". '{sdk}/environment' && env"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return os.environ | {
        "SGX_SDK": told["SGX_SDK"],
        "LD_LIBRARY_PATH": f"{sdk}/lib64",
        "ENSCONCE_SERVICE": str(tmp_path / "service.sock"),
        "ENSCONCE_PLATFORM": str(tmp_path / "platform"),
    }


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("standard", ["c++11", "c++17", "c++20"])
def test_a_project_builds_and_runs_without_a_change(
    tmp_path: Path, environment: Mapping[str, str], key_file: Path, standard: str
) -> None:
    project = tmp_path / "project"
    shutil.copytree(_PROJECT, project)
    _run(["make", f"KEY={key_file}", f"STD={standard}"], project, environment)
    assert _run(["./app", "enclave.signed.so"], project, environment).splitlines() == _SAID


@pytest.mark.slow
@pytest.mark.parametrize("level", [Mitigation.CF, Mitigation.LOAD])
def test_a_project_builds_and_runs_with_mitigations(
    tmp_path: Path,
    toolchain: Toolchain,
    environment: Mapping[str, str],
    key_file: Path,
    level: Mitigation,
) -> None:
    project = tmp_path / "project"
    shutil.copytree(_PROJECT, project)
    tree = sdk_tree(toolchain, [Mitigation.CF, Mitigation.LOAD])
    chosen = [f"SGX_SDK={tree}", f"MITIGATION-CVE-2020-0551={level.name}"]
    _run(["make", f"KEY={key_file}", "STD=c++17", *chosen], project, environment)
    image = (project / "enclave.signed.so").read_bytes()
    assert lint(image, "project").fences.level is level
    assert _run(["./app", "enclave.signed.so"], project, environment).splitlines() == _SAID


def test_mitigations_without_their_libraries_are_refused(environment: Mapping[str, str]) -> None:
    command = ["make", "-C", str(_PROJECT), "-n", "MITIGATION-CVE-2020-0551=LOAD"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ensconce sdk path --mitigation" in done.stderr


@pytest.mark.parametrize("first", ["libcxx", "tlibc"])
@pytest.mark.parametrize("standard", ["11", "14", "17", "20"])
def test_every_header_is_read_by_gxx_in_either_order_of_folders(
    sdk: Path, tmp_path: Path, standard: str, first: str
) -> None:
    second = {"libcxx": "tlibc", "tlibc": "libcxx"}[first]
    source = tmp_path / "all.cpp"
    source.write_text("".join(f"#include <{name}>\n" for name in _HEADERS))
    command = ["g++", f"-std=c++{standard}", "-fsyntax-only", "-Wall", "-Wundef", "-Werror"]
    command += ["-nostdinc", "-nostdinc++", f"-I{sdk}/include"]
    command += [f"-I{sdk}/include/{name}" for name in (first, second)]
    _run([*command, str(source)], tmp_path, os.environ)


def test_the_traits_that_gxx_lacks_say_what_the_standard_says(sdk: Path) -> None:
    """The same assertions hold for g++, which needs our traits, and for clang, which does not."""
    source = Path(__file__).parent / "cxx" / "traits.cpp"
    command = ["g++", "-std=c++17", "-fsyntax-only", "-nostdinc", "-nostdinc++"]
    command += [f"-I{sdk}/include/libcxx", f"-I{sdk}/include/tlibc", str(source)]
    _run(command, sdk, os.environ)


def test_the_traits_test_is_right_by_the_toolchains_own_compiler(
    tmp_path: Path, toolchain: Toolchain
) -> None:
    source = Path(__file__).parent / "cxx" / "traits.cpp"
    how = for_cxx(toolchain, CompileFlags())
    toolchain.compile(source, tmp_path / "traits.o", how)


def test_every_library_name_of_the_samples_is_there(sdk: Path) -> None:
    trusted = {"trts", "trts_sim", "tservice", "tservice_sim", "tcrypto", "tcxx", "tstdc"}
    trusted |= {"tkey_exchange"}
    host = {"urts", "uae_service", "epid", "launch", "quote_ex", "capable", "dcap_ql"}
    names = {f"libsgx_{name}.a" for name in trusted} | {f"libsgx_{name}.so" for name in host}
    names |= {f"libsgx_{name}_sim.so" for name in host - {"capable", "dcap_ql"}}
    assert names <= {path.name for path in (sdk / "lib64").iterdir()}
    assert all(path.exists() for path in (sdk / "lib64").iterdir())


def test_a_library_needs_nothing_but_what_an_enclave_has(sdk: Path) -> None:
    """GNU ld reports what is not defined even in code that nobody calls."""
    defined: set[str] = set()
    needed: dict[str, str] = {}
    for library in sorted((sdk / "lib64").glob("libsgx_*.a")):
        listing = _run(["nm", "-g", str(library)], sdk, os.environ)
        for kind, name in re.findall(r"^[0-9a-f ]{16} (\w) (\S+)$", listing, re.MULTILINE):
            if kind == "U":
                needed.setdefault(name, library.name)
            elif kind not in "vw":
                defined.add(name)
    of_the_linker = {"__ehdr_start"} | {
        f"__{table}_array_{end}" for table in ("init", "fini") for end in ("start", "end")
    }
    of_the_enclave = {"g_ecall_table", "g_dyn_entry_table"}
    # Importing sgx_tstdc.edl defines them; who uses its functions has to.
    of_the_edl = {
        "sgx_oc_cpuidex",
        *(f"sgx_thread_{verb}_untrusted_event_ocall" for verb in _VERBS),
    }
    # There are no other processes: whoever asks for one has a link error that says so.
    of_nobody = {"fork"}
    known = of_the_linker | of_the_enclave | of_the_edl | of_nobody
    assert {name for name in needed if name not in defined} <= known
