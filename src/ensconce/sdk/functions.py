# SPDX-License-Identifier: Apache-2.0
"""Where the functions of an image are, and the instructions in them.

Code is decoded from one known start to the next: a file's symbols, and the table of unwind
entries (.eh_frame_hdr), which a stripped file keeps. Bytes that belong to no function may be data
among code: what they look like is no proof.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ensconce.errors import FormatError
from ensconce.image.elf import Elf, SectionFlags, SegmentFlags, SegmentType
from ensconce.sdk.instruction import Instruction, decode

__all__ = ["Functions", "Place"]

_OBJECT, _FUNCTION = 1, 2  # STT_…
_CODE = (0, _FUNCTION)  # assembly often leaves the type out
_HEADER = struct.Struct("<BBBBiI")
_ROW = struct.Struct("<ii")
_ENTRY = struct.Struct("<IIiI")
# The encodings that every linker uses: relative to the table itself, counted in 32 bits.
_ENCODINGS = (1, 0x1B, 0x03, 0x3B)
_MAX_ENTRIES = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """An instruction, or None for bytes that are none.

    `known` if it is part of a function, and `certain` if the file says that it is one, and not
    only that something is called by a name there: hand-written assembly often says no more.
    """

    address: int
    code: bytes
    instruction: Instruction | None
    known: bool
    certain: bool


class Functions:
    """The functions of an image by address, and its code, decoded."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self.regions = list(_regions(elf))
        symbols = sorted((each.value, each.name) for each in elf.defined_symbols if each.name)
        self._addresses = [value for value, _ in symbols]
        self._names = [name for _, name in symbols]
        self._unwound = dict(_unwind_entries(elf))
        self._ends = {
            each.value: each.value + each.size for each in elf.defined_symbols if each.size
        }
        spans = list(self._certain_spans())
        self._starts = sorted({*self._addresses, *(each for span in spans for each in span)})
        self._certain = _merged(spans)
        self._covered = _merged([*spans, *self._named_spans()])

    def _certain_spans(self) -> Iterator[tuple[int, int]]:
        """Yield first and last address of what is a function for certain."""
        yield from ((start, start + size) for start, size in self._unwound.items())
        for symbol in self._elf.defined_symbols:
            if symbol.size and symbol.kind == _FUNCTION:
                yield symbol.value, symbol.value + symbol.size

    def _named_spans(self) -> Iterator[tuple[int, int]]:
        """Yield what may be a function: from a name without a size to what follows."""
        data = {each.value for each in self._elf.defined_symbols if each.kind == _OBJECT}
        for symbol in self._elf.defined_symbols:
            if symbol.size or symbol.value in data or symbol.kind not in _CODE:
                continue
            following = bisect_right(self._starts, symbol.value)
            if following < len(self._starts):
                yield symbol.value, self._starts[following]

    def name(self, address: int) -> str:
        """Return the symbol that an address belongs to, else its function's address; or ""."""
        index = bisect_right(self._addresses, address) - 1
        symbol = self._addresses[index] if index >= 0 else -1
        start = self._starts[bisect_right(self._starts, address) - 1] if self._starts else -1
        if symbol < start <= address and start in self._unwound:
            return f"{start:#x}"
        if symbol < 0 or address >= self._ends.get(symbol, address + 1):
            return ""
        return self._names[index]

    def known(self, address: int) -> bool:
        """Say whether an address is part of a function; in a file without any, all code is."""
        return not self._covered or _within(self._covered, address)

    def places(self) -> Iterator[Place]:
        """Yield the instructions of all code in order; after bytes that are none comes the next
        function."""
        for address, code in self.regions:
            end = address + len(code)
            inside = {value for value in self._starts if address <= value < end}
            for first, last in pairwise(sorted({address, end} | inside)):
                yield from self._decoded(code, address, first, last)

    def _decoded(self, code: bytes, base: int, first: int, last: int) -> Iterator[Place]:
        at, end, known = first - base, last - base, self.known(first)
        certain = not self._covered or _within(self._certain, first)
        while at < end:
            found = decode(code, at)
            length = found.length if found else 1
            yield Place(base + at, code[at : at + length], found, known, certain)
            if found is None:
                return
            at += length


def _regions(elf: Elf) -> Iterator[tuple[int, bytes]]:
    """Yield address and content of the executable sections, or segments where there are none."""
    sections = [each for each in elf.sections if each.flags & SectionFlags.EXECINSTR]
    if sum(section.size for section in sections) > len(elf.data):
        raise elf.error("has executable sections that overlap; it is damaged")
    for section in sections:
        yield section.address, bytes(elf.section_content(section))
    for segment in () if sections else elf.segments:
        if segment.type == SegmentType.LOAD and segment.flags & SegmentFlags.X:
            content = elf.content(segment.offset, segment.file_size, "a segment")
            yield segment.address, bytes(content)


def _within(spans: list[tuple[int, int]], address: int) -> bool:
    index = bisect_right(spans, address, key=lambda span: span[0]) - 1
    return index >= 0 and address < spans[index][1]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return spans in order, those that touch as one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _unwind_entries(elf: Elf) -> Iterator[tuple[int, int]]:
    """Yield address and size of each function with an unwind entry, where the table is readable."""
    header = next((each for each in elf.segments if each.type == SegmentType.GNU_EH_FRAME), None)
    if header is None or header.file_size < _HEADER.size:
        return
    table = elf.content(header.offset, header.file_size, "the table of unwind entries")
    *encodings, _, count = _HEADER.unpack_from(table)
    if tuple(encodings) != _ENCODINGS or count > _MAX_ENTRIES:
        return
    rows = table[_HEADER.size :][: count * _ROW.size]
    for start, entry in _ROW.iter_unpack(rows[: len(rows) // _ROW.size * _ROW.size]):
        try:
            offset, content = elf.at_address(header.address + entry, _ENTRY.size, "an unwind entry")
        except FormatError:
            continue
        _, _, begin, size = _ENTRY.unpack(content)
        # The entry names the same start, relative to itself: so its encoding is the usual one.
        if begin + header.address + entry + 8 == header.address + start and offset:
            yield header.address + start, size
