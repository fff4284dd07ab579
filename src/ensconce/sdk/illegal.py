# SPDX-License-Identifier: Apache-2.0
"""Find what an enclave must not hold before anybody signs it.

A processor answers the instructions of SDM vol. 3D, table 35-1, with a fault inside an enclave; a
relocation that the runtime does not know would stop the enclave's start; text that can be written
is an invitation. Better to learn of them from the build.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ensconce.errors import FormatError
from ensconce.image.elf import (
    DynamicTag,
    Elf,
    RelocationType,
    SegmentFlags,
    SegmentType,
)
from ensconce.sdk.functions import Functions
from ensconce.sdk.instruction import forbidden

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
    yield from _code(Functions(elf))


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


def _code(functions: Functions) -> Iterator[Finding]:
    """Decode all code from function to function."""
    for place in functions.places():
        if place.instruction is None:
            what = "bytes that are no instruction"
        elif name := forbidden(place.instruction):
            what = f"the instruction {name}"
        else:
            continue
        yield Finding(what, place.address, functions.name(place.address))
