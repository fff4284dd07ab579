# SPDX-License-Identifier: Apache-2.0
"""A signed enclave of the vendor's SDK as a stream of pages.

The pages are the segments with the metadata's patches, not relocated (the enclave does that
itself), then the heap, the threads and what else the metadata's layout table lists.
"""

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ensconce.errors import UnsignedError
from ensconce.image.elf import Segment, page_end, page_start
from ensconce.image.enclave_elf import EnclaveElf, segment_flags
from ensconce.image.metadata import LayoutEntry, LayoutId, Metadata, PageAttributes
from ensconce.image.page import ALL_CHUNKS, Mode, PageRun, measure_runs
from ensconce.isa.attributes import Attributes, MiscSelect
from ensconce.isa.measurement import MrEnclave
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfoFlags
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.tcs import Tcs

__all__ = ["SdkImage", "ThreadSlot"]

_EXTENDED = PageAttributes.EADD | PageAttributes.EEXTEND
_NO_EDMM_MAJOR = 1
_RETIRED_MAJOR = 2
_PADDED_VERSION = (1, 3)
_ADDED_BLOCK = 64
_MOST_HASHED = 64 << 30


@dataclass(frozen=True, slots=True)
class ThreadSlot:
    """A TCS that the layout provides: its offset, and whether it is only added at run time."""

    offset: int
    dynamic: bool


class SdkImage:
    """A signed enclave file; `metadata` is the copy of its metadata that is used."""

    def __init__(
        self, file: EnclaveElf, metadata: Metadata, sigstruct: SigStruct | None = None
    ) -> None:
        self.file = file
        self.metadata = metadata
        self.source = file.source
        self.sigstruct = sigstruct or metadata.header.sigstruct
        self._check_fit()

    @classmethod
    def parse(
        cls,
        data: memoryview,
        *,
        source: str,
        sigstruct: SigStruct | None = None,
        dynamic_memory: bool = True,
    ) -> "SdkImage":
        """Return the enclave in a file, with a SIGSTRUCT in the place of its own if one is given.

        With `dynamic_memory` the newest metadata copy is used, else the newest of those that
        need no EDMM, as the vendor's loader chooses. Raises `UnsignedError` when there is none.
        """
        file = EnclaveElf(data, source)
        if not file.metadata:
            raise UnsignedError(
                f"{source} is not signed: its metadata note is empty; sign it with "
                "`ensconce enclave sign`"
            )
        return cls(file, _chosen(file.metadata, dynamic_memory=dynamic_memory), sigstruct)

    @property
    def format(self) -> str:
        """The format and the metadata's version."""
        major, minor = self.metadata.version
        return f"sdk {major}.{minor}"

    @property
    def size(self) -> int:
        """SECS.SIZE in bytes."""
        if self.metadata.elrange is not None:
            return self.metadata.elrange.elrange_size
        return self.metadata.header.enclave_size

    @property
    def base(self) -> int | None:
        """The address ELRANGE must start at, if the metadata fixes one."""
        elrange = self.metadata.elrange
        return None if elrange is None else elrange.elrange_start_address

    @property
    def image_offset(self) -> int:
        """Where the file's address 0 lies in ELRANGE."""
        elrange = self.metadata.elrange
        if elrange is None:
            return 0
        return elrange.enclave_image_address - elrange.elrange_start_address

    @property
    def ssa_frame_size(self) -> int:
        """SECS.SSAFRAMESIZE in pages."""
        return self.metadata.header.ssa_frame_size

    @property
    def attributes(self) -> Attributes:
        """SECS.ATTRIBUTES that the metadata asks for, XFRM being the widest it has room for."""
        return self.metadata.header.attributes

    @property
    def misc_select(self) -> MiscSelect:
        """SECS.MISCSELECT that the metadata asks for."""
        return self.metadata.header.desired_misc_select

    @property
    def mode(self) -> Mode:
        """What the code was built for."""
        return self.file.mode

    @cached_property
    def symbols(self) -> Mapping[str, int]:
        """Offsets of the defined symbols in ELRANGE."""
        shift = self.image_offset
        return {name: value + shift for name, value in self.file.symbols.items()}

    def threads(self) -> Iterator[ThreadSlot]:
        """Yield the TCSs in the order of the layout, those that EREMOVE takes away left out."""
        for entry, at in self.metadata.placed():
            attributes = entry.attributes
            added = attributes & PageAttributes.EADD and not attributes & PageAttributes.EREMOVE
            if entry.id == LayoutId.TCS_DYN and attributes & PageAttributes.POST_ADD:
                yield ThreadSlot(at + self.image_offset, dynamic=True)
            elif entry.si_flags == PageType.TCS << 8 and added:
                for page in range(entry.page_count):
                    yield ThreadSlot(at + self.image_offset + page * PAGE_SIZE, dynamic=False)

    def measure(self) -> MrEnclave:
        """Return the MRENCLAVE of the pages."""
        return measure_runs(self.size, self.ssa_frame_size, self.operations())

    def operations(self) -> Iterator[PageRun]:
        """Yield the pages in the order in which the vendor's loader adds them."""
        shift = self.image_offset
        for run in self._image_pages():
            yield run if not shift else replace(run, offset=run.offset + shift)

    def _check_fit(self) -> None:
        """Check that the segments lie in the enclave and share no page with the layout.

        What would have to be hashed is limited too: a small file can ask for any amount.
        """
        placed = sorted((at, at + entry.size) for entry, at in self.metadata.placed())
        segments = list(self._segments())
        hashed = sum(page_end(segment.memory_size) for segment in segments)
        for entry, _ in self.metadata.placed():
            if entry.attributes & _EXTENDED == _EXTENDED or entry.content_offset:
                hashed += entry.size
            elif entry.attributes & PageAttributes.EADD:
                hashed += entry.page_count * _ADDED_BLOCK
        if hashed > _MOST_HASHED:
            raise self.file.error(f"has {hashed:#x} bytes to measure, more than any enclave")
        for segment in segments:
            start = page_start(segment.address)
            end = page_end(segment.address + segment.memory_size)
            if end > self.metadata.header.enclave_size:
                raise self.file.error(f"has a segment up to {end:#x}, outside the enclave")
            following = bisect.bisect_left(placed, (end, 0))
            if any(last > start for _, last in placed[max(following - 1, 0) : following]):
                raise self.file.error(
                    f"has metadata that puts pages over the segment at {start:#x}"
                )

    def _image_pages(self) -> Iterator[PageRun]:
        """Yield the pages at offsets from the image's start."""
        last: Segment | None = None
        for segment in self._segments():
            yield from self._padding(last, segment)
            if last is None or segment.address > last.address:
                last = segment
            yield from self._segment_pages(segment)
        yield from self._padding(last, None)
        for entry, at in self.metadata.placed():
            yield from self._layout_pages(entry, at)

    def _segments(self) -> Iterator[Segment]:
        """Yield the segments to load, those of a second ELF file last."""
        yield from self.file.segments
        shared = self.metadata.shared_object
        if shared is not None:
            for segment in self.file.second_object(shared.file_offset, shared.size):
                yield replace(
                    segment,
                    address=segment.address + shared.mem_offset,
                    offset=segment.offset + shared.file_offset,
                )

    def _padding(self, last: Segment | None, following: Segment | None) -> Iterator[PageRun]:
        """Yield the page that loaders of metadata 1.3 add after some segments.

        They rounded a segment's size to pages without its offset in the first page.
        """
        if last is None or self.metadata.version != _PADDED_VERSION:
            return
        end = page_end(last.address + last.memory_size)
        if end >= page_end(last.address + page_end(last.memory_size)):
            return
        if following is None or end < page_start(following.address):
            yield PageRun(end, 1, segment_flags(last), None, ALL_CHUNKS)

    def _segment_pages(self, segment: Segment) -> Iterator[PageRun]:
        """Yield a segment's pages: those that come whole from the file as few runs as can be."""
        flags = segment_flags(segment)
        start, end = page_start(segment.address), segment.address + segment.file_size
        first_whole, last_whole = page_end(segment.address), page_start(end)
        special = {start} if start != first_whole and segment.file_size else set()
        if last_whole < end:
            special.add(last_whole)
        special |= self._patched_pages(segment)
        writable = set()
        if not flags & SecInfoFlags.W:
            writable = {page for page in self.file.relocated_pages if start <= page < end}
        at = start
        for page in sorted(special | writable):
            yield from self._whole_pages(segment, at, page, flags)
            page_flags = flags | SecInfoFlags.W if page in writable else flags
            yield PageRun(page, 1, page_flags, self._page(segment, page), ALL_CHUNKS)
            at = page + PAGE_SIZE
        yield from self._whole_pages(segment, at, last_whole, flags)
        zeros = max(page_end(end), start) if segment.file_size else start
        limit = page_end(segment.address + segment.memory_size)
        if limit > zeros:
            yield PageRun(zeros, (limit - zeros) // PAGE_SIZE, flags, None, ALL_CHUNKS)

    def _whole_pages(self, segment: Segment, at: int, end: int, flags: int) -> Iterator[PageRun]:
        """Yield the pages from an address to another as they are in the file."""
        if at < end:
            offset = segment.offset + at - segment.address
            content = self.file.elf.content(offset, end - at, "a segment")
            yield PageRun(at, (end - at) // PAGE_SIZE, flags, content, ALL_CHUNKS)

    def _patched_pages(self, segment: Segment) -> set[int]:
        """Return the addresses of a segment's pages that patches change."""
        pages: set[int] = set()
        file_end = segment.offset + segment.file_size
        for patch in self.metadata.patches:
            start, end = max(patch.dst, segment.offset), min(patch.dst + patch.size, file_end)
            if start < end:
                shift = segment.address - segment.offset
                pages.update(range(page_start(start + shift), end + shift, PAGE_SIZE))
        return pages

    def _page(self, segment: Segment, page: int) -> bytes:
        """Return one page of a segment: zeros where the file holds none, then the patches."""
        start = max(page, segment.address)
        end = min(page + PAGE_SIZE, segment.address + segment.file_size)
        shift = segment.address - segment.offset
        content = bytearray(PAGE_SIZE)
        content[start - page : end - page] = self.file.elf.content(
            start - shift, end - start, "a segment"
        )
        for patch in self.metadata.patches:
            first = max(patch.dst + shift, start)
            last = min(patch.dst + patch.size + shift, end)
            if first < last:
                source = patch.src + first - shift - patch.dst
                content[first - page : last - page] = self.metadata.content(source, last - first)
        return bytes(content)

    def _layout_pages(self, entry: LayoutEntry, at: int) -> Iterator[PageRun]:
        """Yield the pages of a layout entry."""
        if not entry.attributes & PageAttributes.EADD or not entry.page_count:
            return
        extended = ALL_CHUNKS if entry.attributes & _EXTENDED == _EXTENDED else 0
        if entry.content_offset:
            content = self.metadata.content(entry.content_offset, entry.content_size)
            if entry.si_flags == PageType.TCS << 8:
                page = _tcs_page(bytes(content), at)
                yield PageRun(at, entry.page_count, entry.si_flags, page, extended)
            else:
                yield from _filled_pages(entry, at, bytes(content))
        elif entry.si_flags:
            word = entry.content_size.to_bytes(4, "little")
            fill = word * (PAGE_SIZE // 4) if entry.content_size else None
            yield PageRun(at, entry.page_count, entry.si_flags, fill, extended)


def _filled_pages(entry: LayoutEntry, at: int, content: bytes) -> Iterator[PageRun]:
    """Yield the pages of an entry with contents of its own: always measured, zeros last."""
    whole = page_end(len(content))
    if whole:
        padded = content.ljust(whole, b"\0")
        yield PageRun(at, whole // PAGE_SIZE, entry.si_flags, padded, ALL_CHUNKS)
    if entry.size > whole:
        zeros = (entry.size - whole) // PAGE_SIZE
        yield PageRun(at + whole, zeros, entry.si_flags, None, ALL_CHUNKS)


def _tcs_page(template: bytes, at: int) -> bytes:
    """Return a TCS: the template's offsets are relative to the TCS itself."""
    tcs = Tcs.parse(template.ljust(PAGE_SIZE, b"\0"))
    mask = (1 << 64) - 1
    return bytes(
        replace(
            tcs,
            ossa=(tcs.ossa + at) & mask,
            ofs_base=(tcs.ofs_base + at) & mask,
            ogs_base=(tcs.ogs_base + at) & mask,
        )
    )


def _chosen(copies: tuple[Metadata, ...], *, dynamic_memory: bool) -> Metadata:
    """Return the newest copy that a platform can use; version 2 only when there is no other."""
    known = [copy for copy in copies if copy.version[0] != _RETIRED_MAJOR] or list(copies)
    plain = [copy for copy in known if copy.version[0] <= _NO_EDMM_MAJOR]
    usable = known if dynamic_memory or not plain else plain
    return max(usable, key=lambda copy: copy.header.version)
