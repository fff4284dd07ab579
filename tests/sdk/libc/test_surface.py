# SPDX-License-Identifier: Apache-2.0
"""Every function of the vendor's trusted headers is declared here and links, or is listed as not.

surface.json has the names of the functions by header, of the SDK and of its C library.
"""

import json
from pathlib import Path

import pytest

from ensconce.errors import ToolchainError
from ensconce.sdk.build import build
from ensconce.sdk.toolchain import Toolchain
from ensconce.sdk.toolchain_cxx import cxx_headers

_SURFACE: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parent / "surface.json").read_text()
)

# Headers that have tests and a state of their own; each is there or LIMITATIONS.md says so.
_ELSEWHERE = {
    "pthread.h",
    "sgx_mm.h",
    "sgx_tkey_exchange.h",
    "sgx_tprotected_fs.h",
    "sgx_trts_aex.h",
    "sgx_ttls.h",
}

_OF_THE_HOST = {"sgx_ecall", "sgx_ecall_switchless"}
_FOR_TDX = {"sgx_verify_report2"}
# What assert, errno, isnan and their like are made of; those are here, on musl's own functions.
_KINDS = ("finite", "inf", "nan", "normal")
_INNER = {"__assert", "__errno"}
_INNER |= {f"__is{kind}{suffix}" for kind in _KINDS for suffix in ("", "f", "l")}
_BESSEL = {f"{kind}{order}l" for kind in "jy" for order in "01n"} | {"scalbl"}
_LEFT_OUT = _OF_THE_HOST | _FOR_TDX | _INNER | _BESSEL
_HEADERS_LEFT_OUT = {"sys/fpu.h", "sys/ieee.h"}

_CLAIMED = {
    header: [name for name in names if name not in _LEFT_OUT]
    for headers in _SURFACE.values()
    for header, names in headers.items()
    if header not in _ELSEWHERE | _HEADERS_LEFT_OUT
}
_MACROS = {"alloca"}  # whose address can't be taken


def _source(headers: list[str], names: list[str]) -> str:
    """Return C code that refers to functions, so that each has to be declared and to link."""
    includes = "".join(f"#include <{header}>\n" for header in headers)
    table = "".join(f"    (void (*)(void)){name},\n" for name in names if name not in _MACROS)
    used = "int has(int i) { char *at = alloca(1); *at = (char)(long)all[i]; return *at; }\n"
    return (
        f'#define _GNU_SOURCE\n#include "surface_t.h"\n#include <alloca.h>\n{includes}'
        f"void (*const all[])(void) = {{\n{table}}};\n{used}"
    )


def _build(toolchain: Toolchain, folder: Path, headers: list[str], names: list[str]) -> Path:
    source, edl = folder / "surface.c", folder / "surface.edl"
    source.write_text(_source(headers, names))
    edl.write_text(
        'enclave { from "sgx_tstdc.edl" import *;\n'
        'from "tee_libc.edl" import *;\n'
        "trusted { public int has(int i); }; };"
    )
    return build([source], edl, folder / "surface.so", toolchain=toolchain)


def test_every_function_is_declared_and_links(toolchain: Toolchain, tmp_path: Path) -> None:
    names = [name for each in _CLAIMED.values() for name in each]
    assert len(names) > 600
    assert _build(toolchain, tmp_path, list(_CLAIMED), names).exists()


@pytest.mark.parametrize("name", sorted(_LEFT_OUT - _INNER))
def test_what_is_left_out_is_not_there(toolchain: Toolchain, tmp_path: Path, name: str) -> None:
    headers = [header for each in _SURFACE.values() for header in each if name in each[header]]
    assert headers
    with pytest.raises(ToolchainError, match=name):
        _build(toolchain, tmp_path, headers, [name])


def test_headers_that_are_left_out_are_not_there(toolchain: Toolchain) -> None:
    folder = cxx_headers(toolchain) / "tlibc"
    assert (folder / "sys" / "types.h").exists()
    assert not any((folder / header).exists() for header in _HEADERS_LEFT_OUT)
