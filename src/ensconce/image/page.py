# SPDX-License-Identifier: Apache-2.0
"""An enclave as an ordered stream of page operations, whatever file it came from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ensconce.isa.attributes import Attributes, MiscSelect
from ensconce.isa.measurement import CHUNK_SIZE, Measurement, MrEnclave
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.sigstruct import SigStruct

__all__ = ["ALL_CHUNKS", "Image", "Mode", "PageRun", "measure_runs"]

ALL_CHUNKS = 0xFFFF

_BATCH_PAGES = 128
_ZEROS = bytes(_BATCH_PAGES * PAGE_SIZE)


class Mode(StrEnum):
    """What an enclave was built for: an SGX processor, or the vendor's simulation library."""

    HW = "hw"
    SIM = "sim"


@dataclass(frozen=True, slots=True)
class PageRun:
    """Consecutive pages that are EADDed with equal SECINFO, in measured order.

    `offset` is in ELRANGE, in bytes; `count` is in pages; `flags` is SECINFO.FLAGS. `content` is
    `count` * 4096 bytes, or None for zeros, or one page of 4096 bytes that every page repeats.
    `extended` has a bit for each of a page's sixteen 256-byte chunks that EEXTEND measures.
    """

    offset: int
    count: int
    flags: int
    content: memoryview | bytes | None
    extended: int

    def chunks(self) -> Iterator[tuple[int, int, memoryview | bytes | None]]:
        """Yield the run in pieces of few pages: first page, count, contents or None for zeros.

        A repeated page is written out, so contents are always the piece's `count` * 4096 bytes.
        """
        whole = self.content is not None and len(self.content) == self.count * PAGE_SIZE
        if self.content is None or whole:
            for first in range(0, self.count, _BATCH_PAGES):
                many = min(_BATCH_PAGES, self.count - first)
                part = self.content
                if part is not None:
                    part = part[first * PAGE_SIZE : (first + many) * PAGE_SIZE]
                yield first, many, part
            return
        repeated = bytes(self.content) * min(_BATCH_PAGES, self.count)
        for first in range(0, self.count, _BATCH_PAGES):
            many = min(_BATCH_PAGES, self.count - first)
            yield first, many, repeated[: many * PAGE_SIZE]


class Image(Protocol):
    """An enclave file, opened: the inputs of SECS, the pages and the SIGSTRUCT, if it has one.

    `source` is what messages call the file. `base` is the address that ELRANGE must have, or
    None when any naturally aligned one will do.
    """

    @property
    def source(self) -> str:
        """What messages call the file."""

    @property
    def format(self) -> str:
        """The file's format and its version, such as `sdk 3.3` or `sgxs`."""

    @property
    def size(self) -> int:
        """SECS.SIZE, in bytes, a power of two."""

    @property
    def base(self) -> int | None:
        """The address ELRANGE must start at, or None when any will do."""

    @property
    def ssa_frame_size(self) -> int:
        """SECS.SSAFRAMESIZE, in pages."""

    @property
    def attributes(self) -> Attributes:
        """SECS.ATTRIBUTES as the file asks for them; XFRM may be wider than the processor's."""

    @property
    def misc_select(self) -> MiscSelect:
        """SECS.MISCSELECT as the file asks for it."""

    @property
    def sigstruct(self) -> SigStruct | None:
        """The file's SIGSTRUCT, or None when it is not signed."""

    @property
    def mode(self) -> Mode:
        """Whether the code was built for an SGX processor or for the vendor's simulation."""

    @property
    def symbols(self) -> Mapping[str, int]:
        """Offsets of the file's defined symbols, in ELRANGE."""

    def operations(self) -> Iterator[PageRun]:
        """Yield the pages in the order in which they are added and measured."""

    def measure(self) -> MrEnclave:
        """Return the MRENCLAVE that the pages give."""


def measure_runs(size: int, ssa_frame_size: int, runs: Iterable[PageRun]) -> MrEnclave:
    """Return MRENCLAVE of an enclave of `size` bytes whose SSA frames take `ssa_frame_size` pages.

    Each page is added, then its extended chunks are measured in ascending order.
    """
    measurement = Measurement(size, ssa_frame_size)
    for run in runs:
        if run.extended == 0:
            measurement.add_pages(run.offset, run.flags, None, run.count)
            continue
        for first, count, content in run.chunks():
            offset = run.offset + first * PAGE_SIZE
            pages = _ZEROS[: count * PAGE_SIZE] if content is None else content
            if run.extended == ALL_CHUNKS:
                measurement.add_pages(offset, run.flags, pages, count)
            else:
                _measure_partly(measurement, offset, run, pages, count)
    return measurement.digest()


def _measure_partly(
    measurement: Measurement, offset: int, run: PageRun, pages: memoryview | bytes, count: int
) -> None:
    """Measure pages of which only some chunks are extended."""
    for page in range(0, count * PAGE_SIZE, PAGE_SIZE):
        measurement.add(offset + page, run.flags)
        for index in range(PAGE_SIZE // CHUNK_SIZE):
            if run.extended >> index & 1:
                start = page + index * CHUNK_SIZE
                measurement.extend(offset + start, pages[start : start + CHUNK_SIZE])
