# SPDX-License-Identifier: Apache-2.0
"""ELF files that are damaged, hostile, of other toolchains, or no enclaves at all."""

import contextlib
import struct
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.image.building import EnclaveFile, Symbol, patched

from ensconce.errors import FormatError, UnsignedError
from ensconce.image import open_image, verify_image
from ensconce.image.elf import Elf
from ensconce.image.enclave_elf import EnclaveElf

SECTION_HEADERS = 40


def parse(content: bytes) -> EnclaveElf:
    file = EnclaveElf(memoryview(content), "e.so")
    assert not file.metadata
    return file


@pytest.fixture(scope="module")
def unsigned() -> bytes:
    return bytes(EnclaveFile())


@pytest.mark.parametrize(
    ("offset", "value", "fault"),
    [
        (4, ("B", 1), "64-bit x86-64 ELF"),
        (5, ("B", 2), "64-bit x86-64 ELF"),
        (18, ("H", 3), "64-bit x86-64 ELF"),
        (16, ("H", 2), "not a shared object"),
        (32, ("Q", 1 << 62), "cut short: the program headers"),
        (40, ("Q", 1 << 62), "cut short: the section headers"),
        (54, ("H", 55), "program headers of 55 bytes"),
        (56, ("H", 0), "no segment to load"),
        (56, ("H", 0xFFFF), "65535 segments"),
        (60, ("H", 0xFFFF), "65535 sections"),
        (58, ("H", 63), "section headers of 63 bytes"),
        (64 + 8, ("Q", 1 << 62), "cut short: a segment"),
        (64 + 40, ("Q", 1), "that nothing can load"),
        (64 + 4, ("I", 0), "that nothing can load"),
        (64 + 40, ("Q", 1 << 62), "more than an enclave can hold|two segments in one page"),
        (64 + 40, ("Q", 0x8001), "two segments in one page"),
    ],
)
def test_a_damaged_header_is_one_clear_error(
    unsigned: bytes, offset: int, value: tuple[str, int], fault: str
) -> None:
    with pytest.raises(FormatError, match=fault) as caught:
        parse(patched(unsigned, offset, value))
    assert caught.value.source == "e.so"


@pytest.mark.parametrize(
    ("name", "kind"),
    [(".oeinfo", "Open Enclave"), (".note.gramine", "Gramine"), (".text2", "has no section")],
)
def test_an_enclave_of_another_toolchain_is_called_by_its_name(name: str, kind: str) -> None:
    other = bytes(EnclaveFile(sections=[(name, 1, 2)])).replace(b".note.sgxmeta", b".note.sgxnone")
    with pytest.raises(FormatError, match=kind):
        parse(other)


def test_a_symbol_tells_other_toolchains_apart_too() -> None:
    file = EnclaveFile(symbols=[Symbol("pal_linux_main", 0x1000, 1)])
    other = bytes(file).replace(b".note.sgxmeta", b".note.sgxnone")
    with pytest.raises(FormatError, match="described by a manifest"):
        parse(other)


@pytest.mark.parametrize("name", [b"sgx_metadatb\0", b"sgx_metadata\0\0\0\0", b""])
def test_a_note_of_another_name_is_refused(name: bytes) -> None:
    with pytest.raises(FormatError, match="holds no metadata note"):
        parse(bytes(EnclaveFile(note_name=name)))


def test_a_note_that_claims_more_than_its_section_is_refused(unsigned: bytes) -> None:
    at = unsigned.index(b"sgx_metadata\0") - 12
    with pytest.raises(FormatError, match="holds no metadata note"):
        parse(patched(unsigned, at + 4, ("I", 0xFFFFFFFF)))


def test_symbol_names_that_overlap_do_not_fill_memory() -> None:
    count = 1 << 15
    strings = b"\0" + b"a" * count + b"\0"
    symbols = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", 1 + index, 16, 0, 1, 1, 1) for index in range(count)
    )
    headers = 64
    body = headers + 4 * 64
    rows = [
        struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        struct.pack("<IIQQQQIIQQ", 1, 2, 0, 0, body, len(symbols), 2, 0, 8, 24),
        struct.pack("<IIQQQQIIQQ", 9, 3, 0, 0, body + len(symbols), len(strings), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 0x180, 16, 0, 0, 1, 0),
    ]
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        *(3, 62, 1, 0, 0, headers, 0, 64, 56, 0, 64, 4, 3),
    )
    content = bytearray(header + b"".join(rows) + symbols + strings)
    content[0x180:0x190] = b"\0.symtab\0.strtab"
    with pytest.raises(FormatError, match="overlapping symbol names"):
        _ = Elf(memoryview(bytes(content)), "e.so").symbols


def test_symbols_are_found_with_their_addresses(unsigned: bytes) -> None:
    symbols = parse(unsigned).symbols
    assert (symbols["enclave_entry"], symbols["g_global_data"]) == (0x1000, 0x8F40)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 40000))
def test_a_file_cut_anywhere_is_one_clear_error(enclave: bytes, cut: int) -> None:
    if cut < len(enclave):
        with pytest.raises((FormatError, UnsignedError)):
            open_image(enclave[:cut])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 1 << 64), flips=st.integers(1, 8))
def test_a_file_with_flipped_bits_is_read_or_refused(enclave: bytes, seed: int, flips: int) -> None:
    random, content = Random(seed), bytearray(enclave)  # noqa: S311  # places to damage
    structured = [*range(64 + 5 * 56), *range(0x300, 0x400), *range(0x6000, len(enclave))]
    for _ in range(flips):
        content[random.choice(structured)] ^= 1 << random.randrange(8)
    with contextlib.suppress(FormatError, UnsignedError):
        image = open_image(bytes(content), source="e.so")
        if sum(run.count for run in image.operations() if run.extended) < 5000:
            verify_image(image)
