# SPDX-License-Identifier: Apache-2.0
"""Metadata that is damaged, hostile or of another version."""

from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.image.building import SMALL, EnclaveFile, patched, signed

from ensconce.errors import FormatError
from ensconce.image import SdkImage
from ensconce.image.metadata import (
    DataDirectory,
    Elrange,
    ExtendEntry,
    LayoutEntry,
    LayoutGroup,
    Metadata,
    MetadataHeader,
    PatchEntry,
    SharedObject,
)
from ensconce.isa.record import Record

SIZES: dict[type[Record], int] = {
    MetadataHeader: 1872,
    DataDirectory: 8,
    LayoutEntry: 32,
    LayoutGroup: 32,
    PatchEntry: 32,
    Elrange: 24,
    ExtendEntry: 16,
    SharedObject: 32,
}


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.__name__)
@given(seed=st.integers(0, 1 << 64))
def test_any_bytes_round_trip_exactly(kind: type[Record], seed: int) -> None:
    raw = Random(seed).randbytes(SIZES[kind])  # noqa: S311  # bytes for a test
    assert bytes(kind.parse(raw)) == raw


@pytest.fixture(scope="module")
def copy(key: rsa.RSAPrivateKey) -> bytes:
    """The one metadata copy of a signed enclave whose layout ends in a thread group."""
    content = signed(key, SMALL)
    metadata = SdkImage.parse(memoryview(content), source="e.so").metadata
    return bytes(metadata.data)


def parse(data: bytes) -> Metadata:
    return Metadata.parse(memoryview(data), source="e.so")


def layout_at(copy: bytes) -> int:
    return int.from_bytes(copy[1880:1884], "little")


@pytest.mark.parametrize(
    ("offset", "value", "fault"),
    [
        (0, ("Q", 1), "does not start with its magic"),
        (12, ("I", 4), "unknown version 4"),
        (12, ("I", 30), "unknown version 30"),
        (16, ("I", 0), "claims 0x0 bytes"),
        (16, ("I", 0xFFFFFFFF), "claims 0xffffffff bytes"),
        (20, ("I", 2), "unknown TCS policy 2"),
        (24, ("I", 0), "an SSA frame 0 pages"),
        (24, ("I", 0xFFFFFFFF), "an SSA frame 4294967295 pages"),
        (40, ("Q", 0x3000), "no power of two"),
        (40, ("Q", 1 << 63), "no power of two"),
        (40, ("Q", 0x10000), "outside the enclave"),
        (1872, ("I", 0xFFFFFFF0), "its PATCH table at 0xfffffff0"),
        (1876, ("I", 33), "a PATCH table of 33 bytes"),
        (1880, ("I", 0xFFFFFFF0), "its LAYOUT table"),
        (1884, ("I", 1), "a LAYOUT table of 1 bytes"),
        (1896, ("I", 0xFFFFFFF0), "its EXTEND table|a EXTEND table"),
    ],
)
def test_a_damaged_header_is_one_clear_error(
    copy: bytes, offset: int, value: tuple[str, int], fault: str
) -> None:
    with pytest.raises(FormatError, match=fault) as caught:
        parse(patched(copy, offset, value))
    assert "e.so has metadata that" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "offset", "value", "fault"),
    [
        (0, 8, ("Q", 0xC001), "no page's start"),
        (0, 8, ("Q", (1 << 64) - 0x1000), "outside the enclave"),
        (0, 4, ("I", 0xFFFFFFFF), "puts two things at|outside the enclave"),
        (1, 8, ("Q", 0xC000), "puts two things at"),
        (0, 24, ("Q", 0x300), "SECINFO flags 0x300"),
        (0, 24, ("Q", 0x10203), "SECINFO flags 0x10203"),
        (0, 24, ("Q", 0x101), "SECINFO flags 0x101"),
        (6, 20, ("I", 0xFFFFFF00), "the contents of pages at"),
        (6, 16, ("I", 4097), "contents of pages at|puts 4097 bytes"),
    ],
)
def test_a_damaged_layout_entry_is_one_clear_error(
    copy: bytes, row: int, offset: int, value: tuple[str, int], fault: str
) -> None:
    with pytest.raises(FormatError, match=fault):
        parse(patched(copy, layout_at(copy) + 32 * row + offset, value))


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ((("H", 0x1009), ("H", 99), ("I", 1), ("Q", 0x1000)), "reaches outside"),
        ((("H", 0x1009), ("H", 1), ("I", 0xFFFFFFFF), ("Q", 0)), "repeats a thread 4294967295"),
        ((("H", 0x1009), ("H", 0), ("I", 0xFFFFFFFF), ("Q", 0x1000)), "repeats|puts|outside"),
        ((("H", 0x1009), ("H", 2), ("I", 3), ("Q", 0x1001)), "0x1001 bytes apart"),
        ((("H", 0x1009), ("H", 2), ("I", 3), ("Q", 0)), "puts two things at"),
        ((("H", 0x1009), ("H", 2), ("I", 3), ("Q", 1 << 63)), "outside the enclave"),
    ],
)
def test_a_group_that_loops_or_reaches_outside_is_refused_at_once(
    copy: bytes, values: tuple[tuple[str, int], ...], fault: str
) -> None:
    last = len(copy) - 32
    with pytest.raises(FormatError, match=fault):
        parse(patched(copy, last, *values))


def test_a_group_of_groups_is_refused(copy: bytes) -> None:
    group = (("H", 0x1009), ("H", 1), ("I", 2), ("Q", 0x100000))
    nested = patched(patched(copy, len(copy) - 32, *group), len(copy) - 64, *group)
    with pytest.raises(FormatError, match="reaches outside its entries"):
        parse(nested)


def test_more_than_a_signing_tool_patches_is_refused(copy: bytes) -> None:
    at = int.from_bytes(copy[1872:1876], "little")
    with pytest.raises(FormatError, match="patches more of the file"):
        parse(patched(copy, at + 12, ("I", 1 << 21)))


def test_a_patch_from_outside_the_metadata_is_refused(copy: bytes) -> None:
    at = int.from_bytes(copy[1872:1876], "little")
    with pytest.raises(FormatError, match="a patch at"):
        parse(patched(copy, at + 8, ("I", len(copy))))


def test_endless_copies_are_refused(key: rsa.RSAPrivateKey) -> None:
    one = bytes(SdkImage.parse(memoryview(signed(key)), source="e.so").metadata.data)
    with pytest.raises(FormatError, match="more than 16 copies"):
        Metadata.parse_all(memoryview(one * 17), source="e.so", offset=0)


def test_a_note_full_of_something_else_is_not_called_unsigned() -> None:
    content = bytearray(bytes(EnclaveFile()))
    at = content.index(b"sgx_metadata\0") + 13
    content[at : at + 4] = b"what"
    with pytest.raises(FormatError, match="a metadata note full of something else"):
        SdkImage.parse(memoryview(bytes(content)), source="e.so")


@given(cut=st.integers(0, 4400))
def test_metadata_cut_anywhere_is_one_clear_error(copy: bytes, cut: int) -> None:
    if cut < len(copy):
        with pytest.raises(FormatError):
            parse(copy[:cut])
