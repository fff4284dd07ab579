# SPDX-License-Identifier: Apache-2.0
"""SGXS, Fortanix's enclave format: the measured stream itself.

The file is a sequence of the blocks that the processor hashes: ECREATE, then for each page EADD
and its EEXTENDs with the 256 bytes that each measures. `UNMEASRD` blocks carry bytes that are
loaded and not measured. Only canonical streams are read: pages and the chunks in them ascend.
The SIGSTRUCT is a file of its own.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from ensconce.errors import FormatError
from ensconce.image.metadata import MAX_ENCLAVE_SIZE
from ensconce.image.page import Mode, PageRun
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.measurement import CHUNK_SIZE, MrEnclave
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfoFlags, page_type
from ensconce.isa.sigstruct import SigStruct

__all__ = ["ECREATE", "UNSIZED", "SgxsImage", "write_sgxs"]

ECREATE = b"ECREATE\0"
UNSIZED = b"UNSIZED\0"
_EADD = b"EADD\0\0\0\0"
_EEXTEND = b"EEXTEND\0"
_UNMEASURED = b"UNMEASRD"

_BLOCK = 64
_CREATE = struct.Struct("<8sIQ44x")
_ADD = struct.Struct("<8sQQ40x")
_CHUNK = struct.Struct("<8sQ48x")
_FULL_PAGE = _BLOCK + 16 * (_BLOCK + CHUNK_SIZE)
_RUN_PAGES = 256
_ENCLU = b"\x0f\x01\xd7"
_DEFAULT_ATTRIBUTES = Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY)


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of the stream: where its blocks are in the file, and which chunks they hold."""

    offset: int
    flags: int
    start: int
    end: int
    measured: int
    present: int


class SgxsImage:
    """An SGXS file, with its SIGSTRUCT where one was given."""

    format = "sgxs"
    base = None
    symbols: Mapping[str, int]

    def __init__(self, data: memoryview, source: str, sigstruct: SigStruct | None = None) -> None:
        self.data = data
        self.source = source
        self.sigstruct = sigstruct
        self.symbols = {}
        if len(data) < _BLOCK:
            raise self.error("is cut short: it has no ECREATE block", 0)
        tag, self.ssa_frame_size, self.size = _CREATE.unpack_from(data)
        if tag == UNSIZED:
            raise self.error("does not state the enclave's size (UNSIZED); finish it first", 0)
        if tag != ECREATE:
            raise self.error("does not start with an ECREATE block", 0)
        if any(data[20:_BLOCK]):
            raise self.error("has reserved bytes in ECREATE that are not zero", 20)
        if not PAGE_SIZE <= self.size <= MAX_ENCLAVE_SIZE or self.size & (self.size - 1):
            raise self.error(f"gives {self.size:#x} as the enclave's size: no power of two", 12)
        if not self.ssa_frame_size:
            raise self.error("gives an SSA frame no page", 8)

    @classmethod
    def parse(
        cls, data: memoryview, *, source: str, sigstruct: SigStruct | None = None
    ) -> "SgxsImage":
        """Return the enclave in a file, every block of it checked."""
        image = cls(data, source, sigstruct)
        for _ in image._pages():
            pass
        return image

    def error(self, fault: str, offset: int) -> FormatError:
        """Return the error that says what is wrong with this file."""
        return FormatError(f"{self.source} {fault}", source=self.source, offset=offset)

    @property
    def attributes(self) -> Attributes:
        """The SIGSTRUCT's ATTRIBUTES; 64-bit code with x87 and SSE when there is none."""
        return self.sigstruct.attributes if self.sigstruct else _DEFAULT_ATTRIBUTES

    @property
    def misc_select(self) -> MiscSelect:
        """The SIGSTRUCT's MISCSELECT, or none."""
        return self.sigstruct.misc_select if self.sigstruct else MiscSelect(0)

    @cached_property
    def mode(self) -> Mode:
        """What the code was built for: an SGX processor if an executable page holds ENCLU."""
        tail = b""
        for run in self.operations():
            if not run.flags & SecInfoFlags.X or run.content is None:
                tail = b""
                continue
            code = tail + bytes(run.content)
            if _ENCLU in code:
                return Mode.HW
            tail = code[-2:]
        return Mode.SIM

    def measure(self) -> MrEnclave:
        """Return MRENCLAVE: the hash of the file without its unmeasured blocks."""
        digest = hashlib.sha256()
        start = 0
        for page in self._pages():
            if page.measured == page.present:
                continue
            at = page.start + _BLOCK
            while at < page.end:
                if self.data[at : at + 8] == _UNMEASURED:
                    digest.update(self.data[start:at])
                    start = at + _BLOCK + CHUNK_SIZE
                at += _BLOCK + CHUNK_SIZE
        digest.update(self.data[start:])
        return MrEnclave(digest.digest())

    def operations(self) -> Iterator[PageRun]:
        """Yield the pages in the order of the stream, alike neighbours together."""
        group: list[_Page] = []
        for page in self._pages():
            if group and not _continues(group, page):
                yield self._run(group)
                group = []
            group.append(page)
        if group:
            yield self._run(group)

    def _run(self, group: list[_Page]) -> PageRun:
        """Return alike, consecutive pages as one run."""
        first = group[0]
        content = None
        if first.present:
            content = b"".join(self._content(page) for page in group)
        return PageRun(first.offset, len(group), first.flags, content, first.measured)

    def _content(self, page: _Page) -> bytes:
        """Return a page's 4096 bytes; chunks that the file leaves out are zero."""
        content = bytearray(PAGE_SIZE)
        for at in range(page.start + _BLOCK, page.end, _BLOCK + CHUNK_SIZE):
            inside = _CHUNK.unpack_from(self.data, at)[1] - page.offset
            content[inside : inside + CHUNK_SIZE] = self.data[at + _BLOCK : at + 64 + CHUNK_SIZE]
        return bytes(content)

    def _pages(self) -> Iterator[_Page]:
        """Yield the pages, checking each block."""
        at, last = _BLOCK, -1
        while at < len(self.data):
            page = self._page(at)
            if page.offset <= last:
                raise self.error(f"adds the page {page.offset:#x} after a later one", at)
            last, at = page.offset, page.end
            yield page

    def _page(self, start: int) -> _Page:
        """Return the page whose EADD block is at a place in the file."""
        if start + _BLOCK > len(self.data):
            raise self.error("is cut short in a block", start)
        tag, offset, flags = _ADD.unpack_from(self.data, start)
        if tag != _EADD:
            raise self.error(f"has the block {bytes(tag)!r} where EADD belongs", start)
        if offset % PAGE_SIZE or offset + PAGE_SIZE > self.size:
            raise self.error(f"adds a page at {offset:#x}, which is none of the enclave's", start)
        self._check_flags(flags, start)
        measured = present = 0
        at, last = start + _BLOCK, -1
        while (tag := bytes(self.data[at : at + 8])) in (_EEXTEND, _UNMEASURED):
            if at + _BLOCK + CHUNK_SIZE > len(self.data):
                raise self.error("is cut short in a chunk", at)
            chunk, rest = divmod(_CHUNK.unpack_from(self.data, at)[1] - offset, CHUNK_SIZE)
            if (
                rest
                or not last < chunk < PAGE_SIZE // CHUNK_SIZE
                or any(self.data[at + 16 : at + _BLOCK])
            ):
                raise self.error(f"measures chunks of the page {offset:#x} out of order", at)
            present |= 1 << chunk
            measured |= (tag == _EEXTEND) << chunk
            last = chunk
            at += _BLOCK + CHUNK_SIZE
        return _Page(offset, flags, start, at, measured, present)

    def _check_flags(self, flags: int, at: int) -> None:
        """Check an EADD's SECINFO: a type and permissions that EADD takes."""
        kind, permissions = page_type(flags), flags & 0xFF
        tcs = kind == PageType.TCS and not permissions
        regular = kind in (PageType.REG, PageType.SS_FIRST, PageType.SS_REST)
        legal = tcs or (regular and not permissions & ~7)
        if not legal or flags >> 16 or any(self.data[at + 24 : at + _BLOCK]):
            raise self.error(f"adds a page with the SECINFO flags {flags:#x}", at)


def _continues(group: list[_Page], page: _Page) -> bool:
    """Return whether a page can join a run of alike pages."""
    last = group[-1]
    return (
        page.offset == last.offset + PAGE_SIZE
        and page.flags == last.flags
        and page.measured == last.measured
        and bool(page.present) == bool(last.present)
        and (not page.present or len(group) < _RUN_PAGES)
    )


def write_sgxs(
    out: BinaryIO, size: int, ssa_frame_size: int, operations: Iterable[PageRun]
) -> None:
    """Write a page stream as SGXS; contents that are not measured become UNMEASRD blocks.

    A page whose unmeasured chunks are all zero gets no blocks for them.
    """
    out.write(_CREATE.pack(ECREATE, ssa_frame_size, size))
    for run in operations:
        for first, count, content in run.chunks():
            for index in range(count):
                page = run.offset + (first + index) * PAGE_SIZE
                out.write(_ADD.pack(_EADD, page, run.flags))
                start = index * PAGE_SIZE
                data = None if content is None else content[start : start + PAGE_SIZE]
                _write_page(out, page, data, run.extended)


def _write_page(
    out: BinaryIO, page: int, content: memoryview | bytes | None, extended: int
) -> None:
    """Write a page's chunks."""
    if content is None and not extended:
        return
    for index in range(PAGE_SIZE // CHUNK_SIZE):
        start = index * CHUNK_SIZE
        chunk = bytes(CHUNK_SIZE) if content is None else content[start : start + CHUNK_SIZE]
        if extended >> index & 1:
            out.write(_CHUNK.pack(_EEXTEND, page + start))
        elif any(chunk):
            out.write(_CHUNK.pack(_UNMEASURED, page + start))
        else:
            continue
        out.write(chunk)
