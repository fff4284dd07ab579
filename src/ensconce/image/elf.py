# SPDX-License-Identifier: Apache-2.0
"""The parts of an x86-64 ELF shared object that an enclave loader needs, bounds-checked."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cached_property

from ensconce.errors import FormatError
from ensconce.isa.secinfo import PAGE_SIZE

__all__ = [
    "DynamicTag",
    "Elf",
    "Relocation",
    "RelocationType",
    "Section",
    "SectionFlags",
    "Segment",
    "SegmentFlags",
    "SegmentType",
    "Symbol",
    "page_end",
    "page_start",
]

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_DYN = struct.Struct("<qQ")

_ET_DYN = 3
_EM_X86_64 = 62
_SHT_NOBITS = 8
_STB_WEAK = 2

_MAX_SEGMENTS = 256
_MAX_SECTIONS = 16384
_MAX_DYNAMIC = 4096
_MAX_NAME = 4096


class SegmentType(IntEnum):
    """The types of program headers that matter to an enclave."""

    LOAD = 1
    DYNAMIC = 2
    INTERP = 3
    TLS = 7
    GNU_EH_FRAME = 0x6474E550
    GNU_STACK = 0x6474E551
    GNU_RELRO = 0x6474E552


class SegmentFlags(IntFlag):
    """p_flags."""

    X = 1
    W = 2
    R = 4


class SectionFlags(IntFlag):
    """sh_flags, the ones that matter here."""

    WRITE = 1
    ALLOC = 2
    EXECINSTR = 4


class DynamicTag(IntEnum):
    """The dynamic tags that matter to an enclave."""

    NULL = 0
    PLTRELSZ = 2
    STRTAB = 5
    SYMTAB = 6
    RELA = 7
    RELASZ = 8
    REL = 17
    TEXTREL = 22
    JMPREL = 23


class RelocationType(IntEnum):
    """R_X86_64_…, the relocation types that an enclave's own start code resolves."""

    NONE = 0
    ABS64 = 1
    GLOB_DAT = 6
    JUMP_SLOT = 7
    RELATIVE = 8
    DTPMOD64 = 16
    DTPOFF64 = 17
    TPOFF64 = 18


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header; offsets and sizes in bytes."""

    type: int
    flags: SegmentFlags
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header; offsets and sizes in bytes. `index` is its place in the table."""

    name: str
    type: int
    flags: SectionFlags
    address: int
    offset: int
    size: int
    link: int
    alignment: int
    entry_size: int
    index: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named symbol; `section` 0 means that it is undefined, `kind` is STT_…."""

    name: str
    value: int
    size: int
    section: int
    weak: bool
    kind: int


@dataclass(frozen=True, slots=True)
class Relocation:
    """A relocation with addend: where, of which type, and its place in the file."""

    address: int
    type: int
    symbol: int
    file_offset: int


def page_start(value: int) -> int:
    """Return an offset rounded down to a page's start."""
    return value & ~(PAGE_SIZE - 1)


def page_end(value: int) -> int:
    """Return an offset rounded up to a page's end."""
    return (value + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)


class Elf:
    """An ELF file over a buffer that it neither copies nor changes.

    Raises `FormatError` for anything but a 64-bit little-endian x86-64 shared object whose
    tables lie within the file.
    """

    def __init__(self, data: memoryview, source: str) -> None:
        self.data = data
        self.source = source
        if len(data) < _EHDR.size:
            raise self.error("is too short for an ELF header; it is cut short")
        ident, kind, machine, _, entry, phoff, shoff, *rest = _EHDR.unpack_from(data)
        _, _, phentsize, phnum, shentsize, shnum, self._names_index = rest
        if ident[:7] != b"\x7fELF\x02\x01\x01" or machine != _EM_X86_64:
            raise self.error("is not a 64-bit x86-64 ELF file, which an SGX enclave must be")
        if kind != _ET_DYN:
            raise self.error(
                "is not a shared object (ET_DYN); link the enclave with -pie or -shared"
            )
        if phnum and phentsize != _PHDR.size:
            raise self.error(f"has program headers of {phentsize} bytes instead of {_PHDR.size}")
        if phnum > _MAX_SEGMENTS or shnum > _MAX_SECTIONS:
            raise self.error(f"has {phnum} segments and {shnum} sections, more than any enclave")
        self.entry: int = entry
        self.segments = tuple(
            Segment(row[0], SegmentFlags(row[1] & 7), row[2], row[3], row[5], row[6], row[7])
            for row in _PHDR.iter_unpack(
                self.content(phoff, phnum * _PHDR.size, "the program headers")
            )
        )
        self._section_table = (shoff, shentsize, shnum)

    def error(self, fault: str, offset: int | None = None) -> FormatError:
        """Return the error that says what is wrong with this file."""
        return FormatError(f"{self.source} {fault}", source=self.source, offset=offset)

    def content(self, offset: int, size: int, what: str) -> memoryview:
        """Return bytes of the file, or raise when they would lie outside it."""
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise self.error(
                f"is cut short: {what} would need bytes {offset:#x} to {offset + size:#x} "
                f"of {len(self.data):#x}",
                offset,
            )
        return self.data[offset : offset + size]

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The section headers; empty when the file has none."""
        offset, entry_size, count = self._section_table
        if not count or not offset:
            return ()
        if entry_size != _SHDR.size:
            raise self.error(f"has section headers of {entry_size} bytes instead of {_SHDR.size}")
        table = self.content(offset, count * _SHDR.size, "the section headers")
        rows = list(_SHDR.iter_unpack(table))
        names = b""
        if self._names_index < count:
            row = rows[self._names_index]
            names = bytes(self.content(row[4], row[5], "the section names"))
        return tuple(_section(row, index, names) for index, row in enumerate(rows))

    def section(self, name: str) -> Section | None:
        """Return the first section of a name."""
        return next((each for each in self.sections if each.name == name), None)

    def section_content(self, section: Section) -> memoryview:
        """Return a section's bytes in the file; none for .bss and its like."""
        if section.type == _SHT_NOBITS:
            return self.data[:0]
        return self.content(section.offset, section.size, f"the section {section.name}")

    @cached_property
    def dynamic(self) -> Mapping[int, int]:
        """The dynamic table: the last value of each tag before the end mark."""
        table: dict[int, int] = {}
        for segment in self.segments:
            if segment.type != SegmentType.DYNAMIC:
                continue
            size = min(segment.file_size, _MAX_DYNAMIC * _DYN.size) // _DYN.size * _DYN.size
            for tag, value in _DYN.iter_unpack(
                self.content(segment.offset, size, "the dynamic table")
            ):
                if tag == DynamicTag.NULL:
                    return table
                table[tag] = value
            return table
        return table

    def at_address(self, address: int, size: int, what: str) -> tuple[int, memoryview]:
        """Return the file offset and the bytes of what is loaded at an address."""
        for segment in self.segments:
            inside = address - segment.address
            if segment.type == SegmentType.LOAD and 0 <= inside < segment.file_size:
                offset = segment.offset + inside
                return offset, self.content(offset, size, what)
        raise self.error(f"has {what} at {address:#x}, where no segment lies")

    @property
    def text_relocations(self) -> bool:
        """Whether DT_TEXTREL announces relocations in pages that are not writable."""
        return DynamicTag.TEXTREL in self.dynamic

    def dynamic_relocations(self) -> Iterator[Relocation]:
        """Yield the relocations that the dynamic table names, the PLT's included."""
        for start, size in (
            (DynamicTag.RELA, DynamicTag.RELASZ),
            (DynamicTag.JMPREL, DynamicTag.PLTRELSZ),
        ):
            address, length = self.dynamic.get(start, 0), self.dynamic.get(size, 0)
            length -= length % _RELA.size
            if not address or not length:
                continue
            offset, table = self.at_address(address, length, "relocations")
            yield from relocations(table, offset)

    def section_relocations(self, section: Section) -> Iterator[Relocation]:
        """Yield the relocations with addends that a section holds."""
        table = self.section_content(section)
        yield from relocations(table[: len(table) // _RELA.size * _RELA.size], section.offset)

    @cached_property
    def dynamic_symbols(self) -> tuple[Symbol, ...]:
        """The symbols of .dynsym, undefined ones included."""
        return self._symbol_table(".dynsym")

    @cached_property
    def symbols(self) -> Mapping[str, int]:
        """Addresses of all defined symbols; .dynsym goes before .symtab."""
        found: dict[str, int] = {}
        for symbol in self.defined_symbols:
            if symbol.name and symbol.value:
                found.setdefault(symbol.name, symbol.value)
        return found

    @cached_property
    def defined_symbols(self) -> tuple[Symbol, ...]:
        """The defined symbols of .dynsym, then those of .symtab."""
        tables = (*self.dynamic_symbols, *self._symbol_table(".symtab"))
        return tuple(symbol for symbol in tables if symbol.section)

    def _symbol_table(self, name: str) -> tuple[Symbol, ...]:
        """Return the named symbols of a table; none when the file has no such section."""
        section = self.section(name)
        if section is None:
            return ()
        if section.link >= len(self.sections):
            raise self.error(f"has a section {name} without its string table")
        strings = bytes(self.section_content(self.sections[section.link]))
        table = self.section_content(section)
        # names may share a string's tail; far more text than the table holds is an attack
        budget = 16 * len(strings) + (1 << 16)
        found = []
        whole = table[: len(table) // _SYM.size * _SYM.size]
        for at, info, _, index, value, size in _SYM.iter_unpack(whole):
            if not at:
                continue
            text = _text(strings, at)
            budget -= len(text)
            if budget < 0:
                raise self.error(f"has overlapping symbol names in {name}; it is damaged")
            found.append(Symbol(text, value, size, index, info >> 4 == _STB_WEAK, info & 15))
        return tuple(found)


def relocations(table: memoryview, file_offset: int) -> Iterator[Relocation]:
    """Yield the entries of a table of relocations with addends."""
    for index, (address, info, _) in enumerate(_RELA.iter_unpack(table)):
        yield Relocation(address, info & 0xFFFFFFFF, info >> 32, file_offset + index * _RELA.size)


def _section(row: tuple[int, ...], index: int, names: bytes) -> Section:
    """Return a section header's row with its name."""
    name, kind, flags, address, offset, size, link, _, alignment, entry_size = row
    return Section(
        name=_text(names, name),
        type=kind,
        flags=SectionFlags(flags & 7),
        address=address,
        offset=offset,
        size=size,
        link=link,
        alignment=alignment,
        entry_size=entry_size,
        index=index,
    )


def _text(strings: bytes, at: int) -> str:
    """Return the text at an offset of a string table; empty outside it."""
    end = strings.find(b"\0", at, at + _MAX_NAME)
    return strings[at : end if end >= 0 else at + _MAX_NAME].decode("utf-8", "replace")
