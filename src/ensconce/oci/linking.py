# SPDX-License-Identifier: Apache-2.0
"""Which shared libraries the programs of an image need, and which of them it lacks."""

import struct
from collections.abc import Container, Mapping

from ensconce.errors import FormatError
from ensconce.image.elf import Elf, SegmentType

__all__ = ["missing_libraries", "needed_libraries"]

_DYNAMIC = struct.Struct("<qQ")
_NULL, _NEEDED, _STRINGS = 0, 1, 5  # DT_NULL, DT_NEEDED, DT_STRTAB
_TYPE_AT, _EXECUTABLE, _SHARED_OBJECT = 16, b"\x02\0", b"\x03\0"  # e_type
_MAX_ENTRIES = 1 << 12
_MAX_NAME = 256


def missing_libraries(programs: Mapping[str, bytes], present: Container[str]) -> dict[str, str]:
    """Return the libraries that no program brings, each with the first program that needs it.

    `programs` are files by path; what is no x86-64 shared object or program needs nothing.
    """
    missing: dict[str, str] = {}
    for path, content in programs.items():
        for name in needed_libraries(content, path):
            if name not in present:
                missing.setdefault(name, path)
    return missing


def needed_libraries(content: bytes, source: str) -> list[str]:
    """Return the names of the libraries that a program or library is linked against."""
    head = content[:_TYPE_AT]
    if content[_TYPE_AT : _TYPE_AT + 2] == _EXECUTABLE:  # whose tables are the same otherwise
        content = head + _SHARED_OBJECT + content[_TYPE_AT + 2 :]
    try:
        return _needed(Elf(memoryview(content), source))
    except FormatError:
        return []  # no program of this machine: the loader would have nothing to do with it


def _needed(elf: Elf) -> list[str]:
    """Return the names in a dynamic table, whose strings are where it says."""
    table = next((each for each in elf.segments if each.type == SegmentType.DYNAMIC), None)
    if table is None:
        return []
    size = min(table.file_size // _DYNAMIC.size, _MAX_ENTRIES) * _DYNAMIC.size
    wanted, strings = [], 0
    for tag, value in _DYNAMIC.iter_unpack(elf.content(table.offset, size, "the dynamic table")):
        if tag == _NULL:
            break
        if tag == _NEEDED:
            wanted.append(value)
        elif tag == _STRINGS:
            strings = value
    return [_name(elf, strings + each) for each in wanted]


def _name(elf: Elf, address: int) -> str:
    """Return the text at an address."""
    offset, _ = elf.at_address(address, 1, "a library's name")
    text = bytes(elf.data[offset : offset + _MAX_NAME])
    return text.split(b"\0")[0].decode(errors="replace")
