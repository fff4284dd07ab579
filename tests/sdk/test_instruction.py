# SPDX-License-Identifier: Apache-2.0
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.sdk.instruction import decode, forbidden


@pytest.mark.parametrize(
    ("code", "length"),
    [
        ("90", 1),
        ("c3", 1),
        ("0fa2", 2),
        ("0f01d7", 3),
        ("488b0425 78563412", 8),
        ("48b8 0102030405060708", 10),
        ("66b8 0102", 4),
        ("488d0d 00000000", 7),
        ("f6c1 01", 3),
        ("f6d9", 2),
        ("48f7c0 01000000", 7),
        ("c8 1000 00", 4),
        ("a1 0102030405060708", 9),
        ("67a1 01020304", 6),
        ("e8 00000000", 5),
        ("660f3a0fc108", 6),
        ("f30f1efa", 4),
        ("c5f877", 3),
        ("c5fd6f4c2420", 6),
        ("c4e37d18c801", 6),
        ("62f1fd486f4801", 7),
        ("62f37d4825c0ff", 7),
        ("66662e0f1f840000000000", 11),
    ],
)
def test_an_instruction_has_the_length_that_the_manual_gives_it(code: str, length: int) -> None:
    found = decode(bytes.fromhex(code) + bytes(8))
    assert found is not None
    assert found.length == length


@pytest.mark.parametrize("code", ["06", "62", "40c5f877", "0f04", "c5", "", "48", "66" * 15 + "90"])
def test_bytes_that_are_no_instruction_are_said_to_be_none(code: str) -> None:
    assert decode(bytes.fromhex(code)) is None


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("0f05", "SYSCALL"),
        ("0f34", "SYSENTER"),
        ("0fa2", "CPUID"),
        ("cd80", "INT"),
        ("ec", "IN"),
        ("e780", "OUT"),
        ("6d", "INS"),
        ("0f31", "RDTSC"),
        ("0f01f9", "RDTSCP"),
        ("0f01c1", "VMCALL"),
        ("0f0100", "SGDT"),
        ("0f01e0", "SMSW"),
        ("8ed8", "MOV to a segment register"),
        ("ff28", "far JMP"),
        ("48cf", "IRET"),
    ],
)
def test_an_instruction_that_faults_in_an_enclave_is_named(code: str, name: str) -> None:
    found = decode(bytes.fromhex(code) + bytes(8))
    assert found is not None
    assert forbidden(found) == name


@pytest.mark.parametrize("code", ["0f01d7", "0f01d0", "0f00e8", "cc", "0f0b", "ff20", "8cd8"])
def test_what_an_enclave_may_execute_is_not_forbidden(code: str) -> None:
    found = decode(bytes.fromhex(code) + bytes(8))
    assert found is not None
    assert forbidden(found) is None


@given(st.binary(max_size=20))
def test_any_bytes_decode_to_a_length_inside_them_or_to_nothing(code: bytes) -> None:
    found = decode(code)
    assert found is None or 0 < found.length <= min(15, len(code))


def _disassembled(path: Path) -> list[tuple[bytes, str]]:
    text = subprocess.run(
        ["objdump", "-d", "-w", path], capture_output=True, text=True, check=True
    ).stdout
    lines = re.finditer(r"^\s*[0-9a-f]+:\t((?:[0-9a-f]{2} )+)\s*\t(.*)$", text, re.MULTILINE)
    return [(bytes.fromhex(line[1]), line[2]) for line in lines]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump (binutils)")
def test_lengths_agree_with_another_disassembler_over_a_whole_image(hello_world: Path) -> None:
    listed = _disassembled(hello_world)
    assert len(listed) > 5000
    for code, text in listed:
        found = decode(code)
        assert found is not None, text
        assert found.length == len(code), text
