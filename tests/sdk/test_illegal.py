# SPDX-License-Identifier: Apache-2.0
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ensconce.errors import FormatError
from ensconce.image.elf import DynamicTag, Elf, SegmentType
from ensconce.sdk.illegal import check_image, findings

_PHDR = 56


def _elf(data: bytes) -> Elf:
    return Elf(memoryview(data), "image")


def _poke_code(data: bytearray) -> None:
    text = _elf(bytes(data)).section(".text")
    assert text is not None
    data[text.offset : text.offset + 2] = b"\x0f\xa2"


def _make_text_writable(data: bytearray) -> None:
    first = struct.unpack_from("<Q", data, 32)[0]
    for index, segment in enumerate(_elf(bytes(data)).segments):
        if segment.type == SegmentType.LOAD and segment.flags & 1:
            struct.pack_into("<I", data, first + index * _PHDR + 4, 7)


def _make_relocation_foreign(data: bytearray) -> None:
    relocation = next(iter(_elf(bytes(data)).dynamic_relocations()))
    struct.pack_into("<Q", data, relocation.file_offset + 8, 37)


def _want_text_relocations(data: bytearray) -> None:
    dynamic = next(each for each in _elf(bytes(data)).segments if each.type == SegmentType.DYNAMIC)
    struct.pack_into("<QQ", data, dynamic.offset, DynamicTag.TEXTREL, 0)


def _hide_entry(data: bytearray) -> None:
    at = data.index(b"\0enclave_entry\0")
    data[at + 1 : at + 3] = b"xx"


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_poke_code, "the instruction CPUID"),
        (_make_text_writable, "both writable and executable"),
        (_make_relocation_foreign, "a relocation of type 37"),
        (_want_text_relocations, "DT_TEXTREL"),
        (_hide_entry, "no exported symbol enclave_entry"),
    ],
)
def test_an_image_that_cannot_be_an_enclave_is_refused(
    hello_world: Path, damage: Callable[[bytearray], None], fault: str
) -> None:
    data = bytearray(hello_world.read_bytes())
    check_image(bytes(data), "image")
    damage(data)
    with pytest.raises(FormatError, match=f"image cannot be an enclave: .*{fault}"):
        check_image(bytes(data), "image")


def test_many_faults_are_counted_and_the_first_shown(hello_world: Path) -> None:
    data = bytearray(hello_world.read_bytes())
    text = _elf(bytes(data)).section(".text")
    assert text is not None
    data[text.offset : text.offset + 40] = b"\x0f\x05" * 20
    assert sum("SYSCALL" in str(each) for each in findings(bytes(data), "image")) >= 20
    with pytest.raises(FormatError, match=r"SYSCALL.*; and \d\d more"):
        check_image(bytes(data), "image")


def test_a_file_that_is_cut_short_is_refused_at_any_length(hello_world: Path) -> None:
    data = hello_world.read_bytes()
    for length in range(0, len(data), 1013):
        with pytest.raises(FormatError):
            check_image(data[:length], "image")
