# SPDX-License-Identifier: Apache-2.0
"""Find what an enclave must not hold before anybody signs it.

A processor answers the instructions of SDM vol. 3D, table 35-1, with a fault inside an enclave; a
relocation that the runtime does not know would stop the enclave's start; text that can be written
is an invitation. Better to learn of them from the build.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ensconce.errors import FormatError
from ensconce.image.elf import (
    DynamicTag,
    Elf,
    RelocationType,
    Section,
    SectionFlags,
    SegmentFlags,
    SegmentType,
)
from ensconce.sdk.instruction import decode, forbidden

__all__ = ["Finding", "check_image", "findings"]

_SHOWN = 5
_NEEDED = ("enclave_entry", "g_global_data")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of an image: `what` is wrong, at which address, in which function."""

    what: str
    address: int = 0
    symbol: str = ""

    def __str__(self) -> str:
        place = f" at {self.address:#x}" if self.address else ""
        return f"{self.what}{place}{f' in {self.symbol}' if self.symbol else ''}"


def check_image(content: bytes, source: str) -> None:
    """Raise FormatError that lists what is wrong with an image, if anything is."""
    found = list(findings(content, source))
    if not found:
        return
    shown = "; ".join(str(finding) for finding in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise FormatError(f"{source} cannot be an enclave: {shown}{more}", source=source)


def findings(content: bytes, source: str) -> Iterator[Finding]:
    """Yield every fault of an unsigned image. Raises FormatError for what is no ELF file."""
    elf = Elf(memoryview(content), source)
    yield from _structure(elf)
    places = _Places(elf)
    for section in elf.sections:
        if section.flags & SectionFlags.EXECINSTR:
            yield from _code(elf, section, places)


def _structure(elf: Elf) -> Iterator[Finding]:
    for segment in elf.segments:
        if segment.flags & SegmentFlags.W and segment.flags & SegmentFlags.X:
            yield Finding("a segment both writable and executable", segment.address)
        if segment.type == SegmentType.INTERP:
            yield Finding("a request for a dynamic linker", segment.address)
    if elf.section(".note.sgxmeta") is None:
        yield Finding("no room for the signer's metadata (.note.sgxmeta)")
    yield from _symbols(elf)
    yield from _relocations(elf)


def _symbols(elf: Elf) -> Iterator[Finding]:
    exported = {symbol.name: symbol for symbol in elf.dynamic_symbols}
    for name in _NEEDED:
        if name not in exported:
            yield Finding(f"no exported symbol {name}")
    for symbol in exported.values():
        if symbol.section == 0 and not symbol.weak:
            yield Finding(f"the undefined symbol {symbol.name}")


def _relocations(elf: Elf) -> Iterator[Finding]:
    if elf.text_relocations:
        yield Finding("relocations in code (DT_TEXTREL)")
    if DynamicTag.REL in elf.dynamic:
        yield Finding("relocations without addends (DT_REL)")
    for relocation in elf.dynamic_relocations():
        if relocation.type not in (RelocationType.RELATIVE, RelocationType.NONE):
            yield Finding(f"a relocation of type {relocation.type}", relocation.address)


class _Places:
    """The image's symbols by address: where to begin decoding anew, and what to call a place."""

    def __init__(self, elf: Elf) -> None:
        by_address = sorted((value, name) for name, value in elf.symbols.items())
        self._addresses = [value for value, _ in by_address]
        self._names = [name for _, name in by_address]

    def starts(self, section: Section) -> list[int]:
        """Return the addresses of a section's symbols and of its two ends, in order."""
        end = section.address + section.size
        inside = {value for value in self._addresses if section.address <= value < end}
        return sorted({section.address, end} | inside)

    def name(self, address: int) -> str:
        """Return the symbol that an address belongs to."""
        index = bisect_right(self._addresses, address) - 1
        return self._names[index] if index >= 0 else ""


def _code(elf: Elf, section: Section, places: _Places) -> Iterator[Finding]:
    """Decode a section from symbol to symbol."""
    code = bytes(elf.section_content(section))
    starts = places.starts(section)
    for first, last in pairwise(starts):
        at, end = first - section.address, last - section.address
        while at < end:
            instruction = decode(code, at)
            address = section.address + at
            if instruction is None:
                yield Finding("bytes that are no instruction", address, places.name(address))
                break
            name = forbidden(instruction)
            if name is not None:
                yield Finding(f"the instruction {name}", address, places.name(address))
            at += instruction.length
