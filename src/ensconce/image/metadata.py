# SPDX-License-Identifier: Apache-2.0
"""The metadata of the vendor SDK's enclaves: the note that says what to load beside the segments.

A file holds one or several copies, one after the other, for platforms with and without dynamic
memory. Versions 1.3 to 3.3 share this layout; a major version above 10 adds an ELRANGE of its own.
Offsets in it are relative to the copy's first byte.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import KEEP, IntEnum, IntFlag
from typing import Annotated

from ensconce.errors import FormatError
from ensconce.isa.attributes import Attributes, MiscSelect
from ensconce.isa.record import U16, U32, U64, Record, Reserved, Unsigned, record
from ensconce.isa.secinfo import PAGE_SIZE, PageType, page_type
from ensconce.isa.sigstruct import SigStruct

__all__ = [
    "DIRECTORY_OFFSET",
    "MAGIC",
    "MAX_ENCLAVE_SIZE",
    "METADATA_SIZE",
    "DataDirectory",
    "Directory",
    "Elrange",
    "ExtendEntry",
    "ExtendId",
    "LayoutEntry",
    "LayoutGroup",
    "LayoutId",
    "Metadata",
    "MetadataHeader",
    "PageAttributes",
    "PatchEntry",
    "SharedObject",
    "parse_layout",
]

MAGIC = 0x86A80294635D0E4C
METADATA_SIZE = 0x6000
MAX_ENCLAVE_SIZE = 1 << 46

_MAX_METADATA = 1 << 20
_MAX_COPIES = 16
_MAX_RUNS = 1 << 16
_MAX_PATCHED = 1 << 20
_MAX_SSA_FRAME = 16
_ELRANGE_MAJOR = 10
_GROUP_FLAG = 1 << 12
_MAGIC_BYTES = MAGIC.to_bytes(8, "little")


class LayoutId(IntEnum):
    """What a layout entry is for."""

    HEAP_MIN = 1
    HEAP_INIT = 2
    HEAP_MAX = 3
    TCS = 4
    TD = 5
    SSA = 6
    STACK_MAX = 7
    STACK_MIN = 8
    THREAD_GROUP = _GROUP_FLAG | 9
    GUARD = 10
    HEAP_DYN_MIN = 11
    HEAP_DYN_INIT = 12
    HEAP_DYN_MAX = 13
    TCS_DYN = 14
    TD_DYN = 15
    SSA_DYN = 16
    STACK_DYN_MAX = 17
    STACK_DYN_MIN = 18
    THREAD_GROUP_DYN = _GROUP_FLAG | 19
    RSRV_MIN = 20
    RSRV_INIT = 21
    RSRV_MAX = 22
    USER_REGION = 23


# releases before 2.0 had neither growing heaps nor growing stacks, and other numbers
_OLD_TCS = 2
_OLD_IDS = {
    1: LayoutId.HEAP_MIN,
    _OLD_TCS: LayoutId.TCS,
    3: LayoutId.TD,
    4: LayoutId.SSA,
    5: LayoutId.STACK_MIN,
    7: LayoutId.GUARD,
}


class PageAttributes(IntFlag, boundary=KEEP):
    """What the loader and the trusted runtime do with an entry's pages."""

    EADD = 1 << 0
    EEXTEND = 1 << 1
    EREMOVE = 1 << 2
    POST_ADD = 1 << 3
    POST_REMOVE = 1 << 4
    DYN_THREAD = 1 << 5
    GROW_DOWN = 1 << 6


class Directory(IntEnum):
    """The metadata's tables; ELRANGE and EXTEND exist in newer versions only."""

    PATCH = 0
    LAYOUT = 1
    ELRANGE = 2
    EXTEND = 3


class ExtendId(IntEnum):
    """What an entry of the extend table points to."""

    FIPS_SIGNATURE = 0x1001
    SHARED_OBJECT = 0x1002


@record(1872)
class MetadataHeader(Record):
    """The part of a metadata copy that every version has; `size` counts the whole copy."""

    magic: U64
    version: U64
    size: U32
    tcs_policy: U32
    ssa_frame_size: U32
    max_save_buffer_size: U32
    desired_misc_select: Annotated[MiscSelect, Unsigned(4)]
    tcs_min_pool: U32
    enclave_size: U64
    attributes: Attributes
    sigstruct: SigStruct


DIRECTORY_OFFSET = 1872


@record(8)
class DataDirectory(Record):
    """Where a table lies in the metadata."""

    offset: U32 = 0
    size: U32 = 0


@record(32)
class LayoutEntry(Record):
    """Pages to add. Without a content offset, the content size is the word that fills them."""

    id: U16 = 0
    attributes: Annotated[PageAttributes, Unsigned(2)] = PageAttributes(0)
    page_count: U32 = 0
    rva: U64 = 0
    content_size: U32 = 0
    content_offset: U32 = 0
    si_flags: U64 = 0

    @property
    def size(self) -> int:
        """The size of the entry's pages in bytes."""
        return self.page_count * PAGE_SIZE


@record(32)
class LayoutGroup(Record):
    """Repeats the `entry_count` entries before it `load_times` times, `load_step` bytes apart."""

    id: U16 = 0
    entry_count: U16 = 0
    load_times: U32 = 0
    load_step: U64 = 0
    reserved: Annotated[bytes, Reserved(16)] = bytes(16)


@record(32)
class PatchEntry(Record):
    """Bytes of the metadata (`src`) that replace bytes of the file (`dst`) before it is loaded."""

    dst: U64 = 0
    src: U32 = 0
    size: U32 = 0
    reserved: Annotated[bytes, Reserved(16)] = bytes(16)


@record(24)
class Elrange(Record):
    """An ELRANGE that is larger than the image and at a fixed address."""

    enclave_image_address: U64
    elrange_start_address: U64
    elrange_size: U64


@record(16)
class ExtendEntry(Record):
    """Where an optional part lies in the metadata."""

    id: U32
    size: U32
    offset: U32
    reserved: U32 = 0


@record(32)
class SharedObject(Record):
    """A second ELF file behind the enclave's own, loaded at `mem_offset`."""

    file_offset: U64
    mem_offset: U64
    size: U64
    reserved: U64 = 0


@dataclass(frozen=True, slots=True)
class Metadata:
    """One copy of the metadata, checked: every offset in it is inside it, no pages overlap."""

    source: str
    offset: int
    data: memoryview
    header: MetadataHeader
    layout: tuple[LayoutEntry | LayoutGroup, ...]
    patches: tuple[PatchEntry, ...]
    elrange: Elrange | None
    extensions: Mapping[int, ExtendEntry]

    @classmethod
    def parse(cls, data: memoryview, *, source: str, offset: int = 0) -> "Metadata":
        """Return the copy at the start of a buffer; `offset` is where that is in the file."""
        return _Parser(data, source, offset).metadata()

    @classmethod
    def parse_all(cls, data: memoryview, *, source: str, offset: int) -> "tuple[Metadata, ...]":
        """Return the copies that follow one another from an offset of the file."""
        copies: list[Metadata] = []
        while data[offset : offset + 8] == _MAGIC_BYTES:
            parser = _Parser(data[offset:], source, offset)
            if len(copies) == _MAX_COPIES:
                raise parser.error(f"comes in more than {_MAX_COPIES} copies")
            copies.append(parser.metadata())
            offset += copies[-1].header.size
        return tuple(copies)

    @property
    def version(self) -> tuple[int, int]:
        """The version, major and minor, without the mark of a fixed ELRANGE."""
        return (self.header.version >> 32) % _ELRANGE_MAJOR, self.header.version & 0xFFFFFFFF

    @property
    def shared_object(self) -> SharedObject | None:
        """The second ELF file that is loaded with the enclave's own, if there is one."""
        entry = self.extensions.get(ExtendId.SHARED_OBJECT)
        if entry is None or entry.size != SharedObject.SIZE:
            return None
        return SharedObject.parse(self.content(entry.offset, SharedObject.SIZE))

    def content(self, offset: int, size: int) -> memoryview:
        """Return bytes of this copy."""
        return self.data[offset : offset + size]

    def placed(self) -> Iterator[tuple[LayoutEntry, int]]:
        """Yield the entries in loading order with their offsets in the image, groups unrolled."""
        for index, item in enumerate(self.layout):
            if isinstance(item, LayoutEntry):
                yield item, item.rva
                continue
            for time in range(1, item.load_times + 1):
                for entry in self.layout[index - item.entry_count : index]:
                    assert isinstance(entry, LayoutEntry)  # noqa: S101  # checked by parse
                    yield entry, entry.rva + time * item.load_step

    def entries(self, *ids: LayoutId) -> Iterator[LayoutEntry]:
        """Yield the entries of the table, groups not unrolled, that have one of these ids."""
        rows = [item for item in self.layout if isinstance(item, LayoutEntry)]
        old = any(row.id == _OLD_TCS and page_type(row.si_flags) == PageType.TCS for row in rows)
        for row in rows:
            if (_OLD_IDS.get(row.id) if old else row.id) in ids:
                yield row


class _Parser:
    """One copy of the metadata while it is being checked."""

    def __init__(self, data: memoryview, source: str, offset: int) -> None:
        self.source = source
        self.offset = offset
        if len(data) < DIRECTORY_OFFSET + 2 * DataDirectory.SIZE:
            raise self.error("is cut short")
        self.header = MetadataHeader.parse(data[:DIRECTORY_OFFSET], source=source)
        self.check_header(len(data))
        self.data = data[: self.header.size]

    def error(self, fault: str) -> FormatError:
        """Return the error that says what is wrong with this copy."""
        return FormatError(
            f"{self.source} has metadata that {fault}; the file is damaged, "
            "or a tool other than the signing tool made it",
            source=self.source,
            offset=self.offset,
        )

    def metadata(self) -> Metadata:
        """Return the copy, checked."""
        major, minor = self.header.version >> 32, self.header.version & 0xFFFFFFFF
        elrange = None
        if major > _ELRANGE_MAJOR:
            table = self.table(Directory.ELRANGE, Elrange.SIZE)
            elrange = Elrange.parse(table[: Elrange.SIZE], source=self.source)
            self.check_elrange(elrange)
        extensions = {}
        if _has_extend_table(major % _ELRANGE_MAJOR, minor):
            extensions = {entry.id: entry for entry in self.extensions()}
        metadata = Metadata(
            self.source,
            self.offset,
            self.data,
            self.header,
            parse_layout(self.table(Directory.LAYOUT, LayoutEntry.SIZE)),
            self.patches(),
            elrange,
            extensions,
        )
        self.check_patches(metadata.patches)
        self.check_layout(metadata.layout)
        self.check_pages(metadata)
        return metadata

    def content(self, offset: int, size: int, what: str) -> memoryview:
        """Return bytes of the copy, or raise when they would lie outside it."""
        if offset + size > len(self.data):
            raise self.error(f"puts {what} at {offset:#x}, outside its {len(self.data):#x} bytes")
        return self.data[offset : offset + size]

    def table(self, which: Directory, row: int) -> memoryview:
        """Return a table, a whole number of rows."""
        at = DIRECTORY_OFFSET + which * DataDirectory.SIZE
        directory = DataDirectory.parse(self.content(at, DataDirectory.SIZE, "its directory"))
        if directory.size % row:
            raise self.error(f"has a {which.name} table of {directory.size} bytes")
        return self.content(directory.offset, directory.size, f"its {which.name} table")

    def patches(self) -> tuple[PatchEntry, ...]:
        """Return the table of patches."""
        table = self.table(Directory.PATCH, PatchEntry.SIZE)
        return tuple(
            PatchEntry.parse(table[at : at + PatchEntry.SIZE])
            for at in range(0, len(table), PatchEntry.SIZE)
        )

    def extensions(self) -> Iterator[ExtendEntry]:
        """Yield the optional parts that are there."""
        table = self.table(Directory.EXTEND, ExtendEntry.SIZE)
        for at in range(0, len(table), ExtendEntry.SIZE):
            entry = ExtendEntry.parse(table[at : at + ExtendEntry.SIZE])
            if entry.offset and entry.size:
                self.content(entry.offset, entry.size, "an extension")
                yield entry

    def check_header(self, available: int) -> None:
        """Check sizes, version and policy."""
        header = self.header
        size = header.enclave_size
        if header.magic != MAGIC:
            raise self.error("does not start with its magic number")
        if (header.version >> 32) % _ELRANGE_MAJOR not in (1, 2, 3):
            raise self.error(f"has the unknown version {header.version >> 32}")
        if not DIRECTORY_OFFSET + 16 <= header.size <= min(available, _MAX_METADATA):
            raise self.error(f"claims {header.size:#x} bytes of the {available:#x} there are")
        if not PAGE_SIZE <= size <= MAX_ENCLAVE_SIZE or size & (size - 1):
            raise self.error(f"gives {size:#x} as the enclave's size, which is no power of two")
        if not 1 <= header.ssa_frame_size <= _MAX_SSA_FRAME:
            raise self.error(f"gives an SSA frame {header.ssa_frame_size} pages")
        if header.tcs_policy > 1:
            raise self.error(f"has the unknown TCS policy {header.tcs_policy}")

    def check_elrange(self, elrange: Elrange) -> None:
        """Check that ELRANGE is aligned and holds the image."""
        start, size = elrange.elrange_start_address, elrange.elrange_size
        image = elrange.enclave_image_address
        if not PAGE_SIZE <= size <= MAX_ENCLAVE_SIZE or size & (size - 1) or start & (size - 1):
            raise self.error(f"gives an ELRANGE of {size:#x} bytes at {start:#x}")
        inside = start <= image and image + self.header.enclave_size <= start + size
        if image % PAGE_SIZE or not inside:
            raise self.error(f"puts the image at {image:#x}, outside its own ELRANGE")

    def check_patches(self, patches: tuple[PatchEntry, ...]) -> None:
        """Check that the patches come from the metadata and are of a sane amount."""
        if sum(patch.size for patch in patches) > _MAX_PATCHED:
            raise self.error("patches more of the file than any signing tool does")
        for patch in patches:
            self.content(patch.src, patch.size, "a patch")

    def check_layout(self, layout: tuple[LayoutEntry | LayoutGroup, ...]) -> None:
        """Check the entries one by one and the reach of the groups."""
        runs = 0
        for index, item in enumerate(layout):
            if isinstance(item, LayoutEntry):
                self.check_entry(item)
                runs += 1
                continue
            repeated = layout[index - item.entry_count : index]
            if item.entry_count > index or any(isinstance(each, LayoutGroup) for each in repeated):
                raise self.error("has a thread group that reaches outside its entries")
            runs += max(item.entry_count, 1) * item.load_times
            if item.load_step % PAGE_SIZE or runs > _MAX_RUNS:
                raise self.error(
                    f"repeats a thread {item.load_times} times, {item.load_step:#x} bytes apart"
                )

    def check_entry(self, entry: LayoutEntry) -> None:
        """Check an entry's place, page type and contents."""
        kind, permissions = page_type(entry.si_flags), entry.si_flags & 0xFF
        if entry.rva % PAGE_SIZE:
            raise self.error(f"puts pages at {entry.rva:#x}, which is no page's start")
        legal = (
            entry.si_flags == 0
            or (kind == PageType.TCS and permissions == 0)
            or (kind == PageType.REG and permissions & ~7 == 0)
        )
        if not legal or entry.si_flags >> 16:
            raise self.error(f"asks for pages with the SECINFO flags {entry.si_flags:#x}")
        if entry.content_offset:
            self.content(entry.content_offset, entry.content_size, "the contents of pages")
            room = PAGE_SIZE if kind == PageType.TCS else entry.size
            if entry.content_size > room:
                raise self.error(f"puts {entry.content_size} bytes in {entry.page_count} pages")

    def check_pages(self, metadata: Metadata) -> None:
        """Check that no two entries share a page and that all lie in the enclave."""
        last = 0
        for start, end in sorted((at, at + entry.size) for entry, at in metadata.placed()):
            if start < last:
                raise self.error(f"puts two things at {start:#x}")
            last = end
        if last > self.header.enclave_size:
            raise self.error(f"puts pages at {last:#x}, outside the enclave")


def _has_extend_table(major: int, minor: int) -> bool:
    """Return whether a version knows the extend table."""
    return major > 3 or (major == 3 and minor >= 2) or (major == 1 and minor >= 5)


def parse_layout(table: memoryview) -> tuple[LayoutEntry | LayoutGroup, ...]:
    """Return the rows of a layout table, a whole number of them."""
    rows = (table[at : at + LayoutEntry.SIZE] for at in range(0, len(table), LayoutEntry.SIZE))
    return tuple(
        LayoutGroup.parse(row) if row[1] & _GROUP_FLAG >> 8 else LayoutEntry.parse(row)
        for row in rows
    )
