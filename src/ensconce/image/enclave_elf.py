# SPDX-License-Identifier: Apache-2.0
"""An ELF file that was linked to become an enclave of the vendor's SDK, signed or not."""

import re
import struct
from collections.abc import Iterator, Mapping
from functools import cached_property

from ensconce.errors import FormatError
from ensconce.image.elf import (
    Elf,
    RelocationType,
    SectionFlags,
    Segment,
    SegmentFlags,
    SegmentType,
    page_end,
    page_start,
)
from ensconce.image.metadata import MAX_ENCLAVE_SIZE, Metadata
from ensconce.image.page import Mode
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfoFlags, secinfo_flags

__all__ = ["NOTE_NAME", "NOTE_SECTION", "EnclaveElf", "segment_flags"]

NOTE_SECTION = ".note.sgxmeta"
NOTE_NAME = b"sgx_metadata\0"

_NOTE = struct.Struct("<III")
_ENCLU = re.compile(rb"\x0f\x01\xd7", re.DOTALL)
_SIMULATION_SYMBOLS = ("g_global_data_sim", "_SE3")
_WORD = 8

# sections that only other toolchains' enclaves have, and what to call those
_FOREIGN = {
    ".oeinfo": "an Open Enclave (or EGo) enclave; load it with that project's own tools",
    ".note.graphene": "a Graphene library OS loader",
    ".note.gramine": "a Gramine library OS loader",
}
_FOREIGN_SYMBOLS = {
    "pal_linux_main": "a Graphene or Gramine library OS loader; "
    "its enclaves are described by a manifest, not by the file",
    "_dl_relocate_static_pie_oe": "an Open Enclave enclave",
    "sgx_entry": "a Fortanix EDP program; convert it to SGXS with ftxsgx-elf2sgxs",
}


def segment_flags(segment: Segment) -> SecInfoFlags:
    """Return the SECINFO.FLAGS of a segment's pages."""
    permissions = SecInfoFlags(0)
    for bit, permission in (
        (SegmentFlags.R, SecInfoFlags.R),
        (SegmentFlags.W, SecInfoFlags.W),
        (SegmentFlags.X, SecInfoFlags.X),
    ):
        if segment.flags & bit:
            permissions |= permission
    return secinfo_flags(PageType.REG, permissions)


class EnclaveElf:
    """An enclave's ELF file: its segments, its metadata note and what its code was built for."""

    def __init__(self, data: memoryview, source: str) -> None:
        self.elf = Elf(data, source)
        self.source = source
        self.segments = tuple(
            segment for segment in self.elf.segments if segment.type == SegmentType.LOAD
        )
        self._check_segments()
        self.note_offset, self.note_size = self._find_note()

    def error(self, fault: str, offset: int | None = None) -> FormatError:
        """Return the error that says what is wrong with this file."""
        return self.elf.error(fault, offset)

    def _check_segments(self) -> None:
        """Check that the segments lie in the file and share no page."""
        if not self.segments:
            raise self.error("has no segment to load; it is not a linked enclave")
        last = 0
        for segment in sorted(self.segments, key=lambda each: each.address):
            self.elf.content(segment.offset, segment.file_size, "a segment")
            if segment.file_size > segment.memory_size or not segment.flags:
                raise self.error(f"has a segment at {segment.address:#x} that nothing can load")
            if page_start(segment.address) < last:
                raise self.error(f"has two segments in one page at {segment.address:#x}")
            last = page_end(segment.address + segment.memory_size)
        if last > MAX_ENCLAVE_SIZE:
            raise self.error(f"has segments up to {last:#x}, more than an enclave can hold")

    def _find_note(self) -> tuple[int, int]:
        """Return where the metadata lies in the file and the room it has.

        The note's name is not padded: what follows its 13 bytes is unaligned.
        """
        section = self.elf.section(NOTE_SECTION)
        if section is None:
            raise self.error(self._foreign())
        note = self.elf.section_content(section)
        if len(note) < _NOTE.size:
            raise self.error(f"has an empty section {NOTE_SECTION}", section.offset)
        name_size, size, _ = _NOTE.unpack_from(note)
        name = note[_NOTE.size : _NOTE.size + name_size]
        start = _NOTE.size + name_size
        if name != NOTE_NAME or start + size > len(note):
            raise self.error(
                f"has a section {NOTE_SECTION} that holds no metadata note; it is damaged",
                section.offset,
            )
        return section.offset + start, size

    def _foreign(self) -> str:
        """Say what a file without a metadata note is."""
        names = {section.name for section in self.elf.sections}
        for name, kind in _FOREIGN.items():
            if name in names:
                return f"is {kind}"
        for name, kind in _FOREIGN_SYMBOLS.items():
            if name in self.elf.symbols:
                return f"is {kind}"
        return (
            f"has no section {NOTE_SECTION}, so it is not an enclave of the SDK; "
            "link it with the SDK's trusted runtime"
        )

    @cached_property
    def metadata(self) -> tuple[Metadata, ...]:
        """The copies of the metadata; none in a file that was not signed yet."""
        copies = Metadata.parse_all(self.elf.data, source=self.source, offset=self.note_offset)
        if not copies and any(
            self.elf.data[self.note_offset : self.note_offset + min(self.note_size, PAGE_SIZE)]
        ):
            raise self.error("has a metadata note full of something else", self.note_offset)
        return copies

    @property
    def symbols(self) -> Mapping[str, int]:
        """Addresses of the defined symbols; `enclave_entry` is the ELF entry if unnamed."""
        return self.elf.symbols

    @cached_property
    def mode(self) -> Mode:
        """What the code was built for.

        ENCLU may lie outside .text, so every executable part counts; a simulation enclave has
        functions of the vendor's simulation library instead.
        """
        if any(name in self.symbols for name in _SIMULATION_SYMBOLS):
            return Mode.SIM
        return Mode.HW if self.holds_enclu else Mode.SIM

    @cached_property
    def holds_enclu(self) -> bool:
        """Whether any executable part of the file holds the bytes of ENCLU."""
        parts = [
            self.elf.content(segment.offset, segment.file_size, "a segment")
            for segment in self.segments
            if segment.flags & SegmentFlags.X
        ] + [
            self.elf.section_content(section)
            for section in self.elf.sections
            if section.flags & SectionFlags.EXECINSTR
        ]
        return any(_ENCLU.search(part) for part in parts)

    @cached_property
    def relocated_pages(self) -> frozenset[int]:
        """Start addresses of the pages that DT_TEXTREL makes writable."""
        if not self.elf.text_relocations:
            return frozenset()
        pages = set()
        for relocation in self.elf.dynamic_relocations():
            if relocation.type == RelocationType.NONE:
                continue
            pages.add(page_start(relocation.address))
            pages.add(page_start(relocation.address + _WORD - 1))
        return frozenset(pages)

    @cached_property
    def image_size(self) -> int:
        """The size of the loaded segments in bytes, whole pages."""
        last = max(self.segments, key=lambda each: each.address)
        return page_end(last.address + last.memory_size)

    @cached_property
    def tls(self) -> Segment | None:
        """The template of thread-local data, if there is one."""
        return next((each for each in self.elf.segments if each.type == SegmentType.TLS), None)

    def loaded(self, address: int, size: int) -> int:
        """Return the file offset of what is loaded at an address, all of it from the file."""
        for segment in self.segments:
            inside = address - segment.address
            if inside >= 0 and inside + size <= segment.file_size:
                return segment.offset + inside
        raise self.error(f"loads nothing at {address:#x} where {size} bytes are needed")

    def second_object(self, offset: int, size: int) -> Iterator[Segment]:
        """Yield the segments of an ELF file behind this one, offsets being this file's."""
        inner = Elf(self.elf.content(offset, size, "a shared object"), self.source)
        for segment in inner.segments:
            if segment.type == SegmentType.LOAD:
                inner.content(segment.offset, segment.file_size, "a segment")
                yield segment
