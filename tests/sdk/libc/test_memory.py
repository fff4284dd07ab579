# SPDX-License-Identifier: Apache-2.0
"""Aligned memory for secrets, reserved memory, and what the runtime says that it lacks."""

import errno
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sdk.libc.conftest import Load

from ensconce.errors import EnclaveCrashed
from ensconce.sdk.toolchain_archives import INCLUDE

_EXPOSED = {0, 4, 5, 6, 7}  # of each line (INTEL-SA-00219)
_LINE = 64
_PAGE = 4096
_RESERVED = 16 * _PAGE
_INVALID = 2
_NONE, _READ, _WRITE, _EXEC = 0, 1, 2, 4

Secrets = list[tuple[int, int]]


@pytest.fixture(scope="module")
def memory(load: Load) -> Iterator[Any]:
    with load("memory") as enclave:
        yield enclave


def _lead(alignment: int, secrets: Secrets) -> int | None:
    """Return how far behind a line's start a structure has to lie, byte by byte."""
    for lead in range(0, _LINE, alignment):
        touched = {
            (lead + at) % _LINE for start, size in secrets for at in range(start, start + size)
        }
        if not touched & _EXPOSED:
            return lead
    return None


def _numbers(secrets: Secrets) -> bytes:
    return b"".join(struct.pack("<2Q", *each) for each in secrets)


@st.composite
def _structures(draw: st.DrawFn) -> tuple[int, Secrets]:
    """Draw a size, and secrets in it that do not overlap."""
    size = draw(st.integers(1, 200))
    edges = sorted(draw(st.sets(st.integers(0, size), max_size=6)))
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return size, [(start, min(end - start, 60)) for start, end in pairs]


@given(_structures(), st.integers(0, 9).map(lambda power: 1 << power))
def test_no_secret_lies_where_cache_lines_are_exposed(
    memory: Any, structure: tuple[int, Secrets], alignment: int
) -> None:
    size, secrets = structure
    given_secrets = secrets or [(0, size)]
    lead = _lead(alignment, given_secrets)
    numbers = _numbers(secrets) or None
    address = memory.aligned_malloc(size, alignment, numbers, 2 * len(secrets))
    assert (address != 0) == (lead is not None)
    if lead is None:
        return
    touched = {(address + start + at) % _LINE for start, end in given_secrets for at in range(end)}
    assert not touched & _EXPOSED
    assert (address - lead) % max(alignment, 8) == 0
    memory.aligned_free(address)


@given(_structures(), st.integers(0, 9).map(lambda power: 1 << power), st.integers(0, 63))
def test_as_much_room_as_is_documented_is_enough(
    memory: Any, structure: tuple[int, Secrets], alignment: int, offset: int
) -> None:
    size, secrets = structure
    need = size + (72 if alignment <= 8 else 64 + alignment)
    lead = _lead(alignment, secrets or [(0, size)])
    arguments = (size, alignment, _numbers(secrets) or None, 2 * len(secrets))
    start = 0x10000 + offset
    address = memory.aligned_within(start, need, *arguments)
    assert (address != 0) == (lead is not None)
    if lead is not None:
        assert start <= address <= start + need - size
        assert memory.aligned_within(start, address - start + size - 1, *arguments) == 0


@pytest.mark.parametrize(
    ("size", "alignment", "secrets"),
    [
        (0, 8, []),
        (8, 0, []),
        (8, 12, []),
        (8, 8, [(4, 5)]),
        (8, 8, [(9, 0)]),
        (8, 8, [(2**64 - 1, 2)]),
        (8, 8, [(0, 4), (3, 1)]),
        (64, 8, [(0, 57)]),
        (2**64 - 32, 8, [(1, 1)]),
    ],
)
def test_what_has_no_safe_place_is_refused(
    memory: Any, size: int, alignment: int, secrets: Secrets
) -> None:
    arguments = (size, alignment, _numbers(secrets) or None, 2 * len(secrets))
    assert memory.aligned_malloc(*arguments) == 0
    assert memory.aligned_within(0x10000, 4096, *arguments) == 0


def test_nothing_is_freed_for_nothing(memory: Any) -> None:
    memory.aligned_free(0)


def _layout(size: int, alignment: int, secrets: Secrets) -> str:
    """Return assertions on how C++ lays out an object of so many bytes."""
    pairs = ", ".join(f"{start}, {length}" for start, length in secrets)
    name = f"sgx::custom_alignment_aligned<bytes<{size}>, {alignment}, {pairs}>"
    lead = _lead(alignment, secrets)
    if lead is None:
        return ""
    boundary = 8
    while boundary < _LINE and boundary < size + lead:
        boundary *= 2
    boundary = max(boundary, alignment)
    return (
        f'static_assert(offsetof(SINGLE({name}), v) == {lead}, "");\n'
        f'static_assert(alignof(SINGLE({name})) == {boundary}, "");\n'
    )


def test_the_cxx_template_places_secrets_likewise(tmp_path: Path) -> None:
    cases = [
        (size, alignment, [(start, length)])
        for size in (1, 7, 8, 24, 56, 64, 100)
        for alignment in (1, 2, 8, 16, 64, 128)
        for start in (0, 3, size // 2)
        for length in (1, 5, size - size // 2)
        if start + length <= size
    ]
    source = tmp_path / "layout.cpp"
    source.write_text(
        '#include <sgx_secure_align.h>\n#include "sgx_random_buffers.h"\n'
        "#define SINGLE(...) __VA_ARGS__\n"
        "template <std::size_t Size> struct bytes { char b[Size]; };\n"
        + "".join(_layout(*case) for case in cases)
        + "struct key { int id; char secret[16]; key(int n) : id(n), secret() {} };\n"
        "int main() {\n"
        "  sgx::custom_alignment<key, __builtin_offsetof(key, secret), 16> safe(7);\n"
        "  return safe.v.id != 7;\n}\n"
    )
    program = tmp_path / "layout"
    command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "-Wno-invalid-offsetof"]
    subprocess.run([*command, f"-I{INCLUDE}", str(source), "-o", str(program)], check=True)
    subprocess.run([str(program)], check=True)
    impossible = tmp_path / "impossible.cpp"
    impossible.write_text(
        "#include <sgx_secure_align.h>\nsgx::custom_alignment_aligned<char, 64, 0, 1> object;\n"
    )
    refused = subprocess.run(
        ["g++", "-std=c++11", "-fsyntax-only", f"-I{INCLUDE}", str(impossible)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no place in a cache line is safe" in refused.stderr


@pytest.fixture(params=[0, 1], ids=["data", "executable"])
def reserved(load: Load, request: pytest.FixtureRequest) -> Iterator[Any]:
    sizes = {"reserved_mem_max_size": _RESERVED, "reserved_mem_min_size": 4 * _PAGE}
    with load("memory", sign=sizes | {"reserved_mem_executable": request.param}) as enclave:
        enclave.executable = request.param
        yield enclave


def _info(enclave: Any) -> tuple[int, int]:
    start, size = bytearray(8), bytearray(8)
    enclave.reserved_info(start, size)
    return int.from_bytes(start, "little"), int.from_bytes(size, "little")


def _reserve(enclave: Any, size: int) -> int:
    """Ask for what can't be had; return errno."""
    assert enclave.reserve(size) == 0
    error: int = enclave.last_errno()
    return error


def test_reserved_pages_have_one_owner_at_a_time(reserved: Any) -> None:
    start, size = _info(reserved)
    assert size >= _RESERVED
    assert reserved.reserve(size) == start
    assert reserved.is_zero(start, size)
    reserved.fill(start, size)
    assert _reserve(reserved, _PAGE) == errno.ENOMEM
    assert reserved.release(start + 2 * _PAGE, 3 * _PAGE) == 0
    assert reserved.reserve_at(start + 3 * _PAGE, _PAGE) == start + 3 * _PAGE
    assert reserved.is_zero(start + 3 * _PAGE, _PAGE)
    assert reserved.reserve_at(start + 3 * _PAGE, _PAGE) == 0
    assert _reserve(reserved, 2 * _PAGE) == errno.ENOMEM
    assert reserved.reserve(_PAGE) == start + 2 * _PAGE
    assert reserved.release(start, size) == -1
    assert reserved.last_errno() == errno.EINVAL
    assert reserved.release(start, 4 * _PAGE) == 0


def test_what_is_not_reserved_pages_is_refused(reserved: Any) -> None:
    start, size = _info(reserved)
    bad = [(start, 0), (start, 1), (start + 1, _PAGE), (start - _PAGE, _PAGE)]
    bad += [(start + size, _PAGE), (start, size + _PAGE), (start + _PAGE, 2**64 - _PAGE)]
    for address, length in bad:
        assert reserved.reserve_at(address, length) == 0
        assert reserved.last_errno() == errno.EINVAL
        assert reserved.release(address, length) == -1
        assert reserved.protect(address, length, _READ) == _INVALID
    assert reserved.release(start, _PAGE) == -1


def test_rights_are_those_that_the_enclave_was_signed_with(reserved: Any) -> None:
    start, _ = _info(reserved)
    assert reserved.protect(start, _PAGE, _READ) == _INVALID  # nobody's
    assert reserved.reserve_at(start, 2 * _PAGE) == start
    for rights in (_NONE, _READ, _READ | _WRITE):
        assert reserved.protect(start, _PAGE, rights) == 0
    for rights in (_WRITE, _EXEC, 8 | _READ):
        assert reserved.protect(start, _PAGE, rights) == _INVALID
    wanted = 0 if reserved.executable else _INVALID
    assert reserved.protect(start, _PAGE, _READ | _EXEC) == wanted


def test_code_runs_in_reserved_memory_that_was_signed_for_it(reserved: Any) -> None:
    start = reserved.reserve(_PAGE)
    if reserved.executable:
        assert reserved.run_there(start, 41) == 42
    else:
        with pytest.raises(EnclaveCrashed):
            reserved.run_there(start, 41)


def test_an_enclave_without_reserved_memory_says_so(memory: Any) -> None:
    assert _info(memory) == (0, 0)
    assert _reserve(memory, _PAGE) == errno.EPERM
    assert memory.release(0, _PAGE) == -1


def test_what_the_enclave_does_not_have_is_not_there(memory: Any) -> None:
    assert memory.has_protection_keys() == 0
    assert memory.has_fips() == 0
