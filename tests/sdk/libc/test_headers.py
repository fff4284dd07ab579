# SPDX-License-Identifier: Apache-2.0
"""Every header of the SDK alone: as C and as C++, by the toolchain's compiler and the system's."""

import subprocess
from pathlib import Path

import pytest

from ensconce.sdk.toolchain import CompileFlags, Toolchain
from ensconce.sdk.toolchain_archives import INCLUDE
from ensconce.sdk.toolchain_cxx import cxx_headers, for_c, for_cxx

_CXX_ONLY = {"sgx_random_buffers.h", "sgx_secure_align.h"}
_NEEDS_COMPILERS_OWN = {"sgx_intrin.h"}
_HEADERS = sorted(path.name for path in INCLUDE.glob("*.h"))
_HEADERS += ["complex.h", "fenv.h", "math.h", "string.h"]  # those of C with additions of ours
_FOR_C = [header for header in _HEADERS if header not in _CXX_ONLY]
_STRICT = ("-Wall", "-Wextra", "-Werror")

_BY_THE_SYSTEM = [("gcc -std=c11", header) for header in _FOR_C]
_BY_THE_SYSTEM += [("gcc", header) for header in _FOR_C]
_BY_THE_SYSTEM += [("g++ -std=gnu++17", header) for header in _HEADERS]


def _include_twice(folder: Path, header: str, suffix: str) -> Path:
    source = folder / f"alone{suffix}"
    source.write_text(f"#include <{header}>\n#include <{header}>\nint unused;\n")
    return source


@pytest.mark.parametrize(("compiler", "header"), _BY_THE_SYSTEM)
def test_the_systems_compiler_takes_every_header(
    toolchain: Toolchain, tmp_path: Path, compiler: str, header: str
) -> None:
    """With the folders that the vendor's Makefiles name, in their order."""
    command, headers = compiler.split(), cxx_headers(toolchain)
    is_cxx = command[0] == "g++"
    command += ["-nostdinc", f"-I{INCLUDE}", f"-I{headers / 'tlibc'}"]
    command += ["-nostdinc++", f"-I{headers / 'libcxx'}"] if is_cxx else []
    if header in _NEEDS_COMPILERS_OWN:
        found = subprocess.run(
            [command[0], "-print-file-name=include"], check=True, capture_output=True, text=True
        )
        command += ["-idirafter", found.stdout.strip()]
    source = _include_twice(tmp_path, header, ".cpp" if is_cxx else ".c")
    output = tmp_path / "alone.o"
    subprocess.run([*command, *_STRICT, "-c", str(source), "-o", str(output)], check=True)


_BY_THE_TOOLCHAIN = [(".c", header) for header in _FOR_C] + [(".cpp", each) for each in _HEADERS]


@pytest.mark.parametrize(("suffix", "header"), _BY_THE_TOOLCHAIN)
def test_the_toolchains_compiler_takes_every_header(
    toolchain: Toolchain, tmp_path: Path, suffix: str, header: str
) -> None:
    flags = CompileFlags(include=(INCLUDE,), extra=_STRICT)
    flags = for_c(toolchain, flags) if suffix == ".c" else for_cxx(toolchain, flags)
    toolchain.compile(_include_twice(tmp_path, header, suffix), tmp_path / "alone.o", flags)


def test_random_buffers_are_at_random_places(tmp_path: Path) -> None:
    program = tmp_path / "random"
    command = ["g++", "-std=c++11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}"]
    command += ["-fsanitize=undefined", "-fno-sanitize-recover"]
    source = Path(__file__).parent / "random.cpp"
    subprocess.run([*command, str(source), "-o", str(program)], check=True)
    assert subprocess.run([str(program)], check=False).returncode == 0


def test_structures_have_their_architectural_sizes(tmp_path: Path) -> None:
    sizes = {
        "sgx_report2_t": 1024,
        "sgx_report2_mac_struct_t": 256,
        "sgx_report_t": 432,
        "sgx_target_info_t": 512,
        "sgx_key_request_t": 512,
        "sgx_attributes_t": 16,
        "align_req_t": 16,
    }
    source = tmp_path / "sizes.c"
    source.write_text(
        '#include "sgx.h"\n#include "sgx_report2.h"\n#include "sgx_secure_align_api.h"\n'
        + "".join(
            f'_Static_assert(sizeof({name}) == {size}, "{name}");\n' for name, size in sizes.items()
        )
    )
    subprocess.run(["gcc", "-fsyntax-only", f"-I{INCLUDE}", str(source)], check=True)
