# SPDX-License-Identifier: Apache-2.0
"""What an image's code does against load value injection (CVE-2020-0551), as far as it shows.

Two things make up the mitigation. Control flow (CF): a return's address is written to the stack
anew before LFENCE, or popped to a register; an indirect branch goes by register after LFENCE and
never through memory. Loads (LOAD): LFENCE follows every load, and then a register holds nothing
injected, so branches by register need no fence of their own.

A compiler may leave out fences after loads whose values steer nothing. An image does not show
whether it was right, so such an image counts as CF at best.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from ensconce.errors import FormatError
from ensconce.image.elf import Elf
from ensconce.sdk.functions import Functions, Place
from ensconce.sdk.instruction import Instruction
from ensconce.sdk.loads import loads
from ensconce.sdk.toolchain import Mitigation

__all__ = ["Fences", "Kind", "Tally", "check_mitigation", "reaches"]

_LEVELS = list(Mitigation)

_RETURNS = (0xC2, 0xC3)
# SHL, OR, NOT on what RSP points to: opcode and extension.
_REWRITES = {(0xC1, 4), (0x83, 1), (0x81, 1), (0xF7, 2), (0xF6, 2)}
_RSP_BASE, _SIB_RSP = 4, 0x24


class Kind(Enum):
    """What load value injection gets at."""

    RETURN = "returns"
    REGISTER = "indirect branches by register"
    MEMORY = "indirect branches through memory"
    LOAD = "loads"


@dataclass(slots=True)
class Tally:
    """How many of a kind there are, how many have no fence, and in which functions those are."""

    total: int = 0
    bare: int = 0
    first: int | None = None
    functions: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Seen:
    """What went before an instruction."""

    end: int = -1
    fence: bool = False
    rewritten: bool = False
    rewritten_before: bool = False
    load: int | None = None


class Fences:
    """The tallies of an image, which takes its code in order, and the level they add up to.

    `name` tells which function an address belongs to; functions that `skip` names don't count.
    """

    def __init__(
        self, name: Callable[[int], str], skip: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.tallies = {kind: Tally() for kind in Kind}
        self.unjudged = 0  # instructions outside of functions
        self._name, self._skip, self._seen = name, skip, _Seen()

    def take(self, place: Place) -> None:
        """Judge the next instruction."""
        found, seen = place.instruction, self._seen
        if found is None or not place.known:
            self.unjudged += found is not None and not _is_padding(found, place.code)
            self._forget()
            return
        if place.address != seen.end:
            seen = self._forget()
        fence = _is_fence(found)
        if seen.load is not None:
            self._count(Kind.LOAD, seen.load, bare=not fence)
        seen.load = None
        kind = _kind(found)
        if kind is Kind.LOAD:
            seen.load = place.address
        elif kind is not None:
            bare = kind is Kind.MEMORY or not seen.fence
            bare |= kind is Kind.RETURN and not seen.rewritten_before
            self._count(kind, place.address, bare=bare)
        seen.rewritten_before, seen.rewritten = seen.rewritten, _rewrites(found, place.code)
        seen.fence, seen.end = fence, place.address + found.length

    def _forget(self) -> _Seen:
        """Begin anew where code is not known to go on: a load before that has no fence."""
        if self._seen.load is not None:
            self._count(Kind.LOAD, self._seen.load, bare=True)
        self._seen = _Seen()
        return self._seen

    def _count(self, kind: Kind, address: int, *, bare: bool) -> None:
        function = self._name(address) if bare else ""
        if bare and self._skip(function):
            return
        tally = self.tallies[kind]
        tally.total += 1
        if bare:
            tally.bare += 1
            tally.functions[function] += 1
            tally.first = address if tally.first is None else tally.first

    def describe(self) -> str:
        """Return what has no fence, as text: how many of each kind, the first, the most."""
        parts = []
        for kind, tally in self.tallies.items():
            if tally.bare:
                first = next(iter(tally.functions))
                place = f"{tally.first:#x}" + (f" in {first}" if first else "")
                more = len(tally.functions) - 1
                parts.append(
                    f"{tally.bare} of {tally.total} {kind.value} without a fence, the first at "
                    f"{place}" + (f", others in {more} more functions" if more else "")
                )
        return "; ".join(parts)

    @property
    def incomplete(self) -> bool:
        """Whether somebody mitigated the code, but not all of it."""
        returns = self.tallies[Kind.RETURN]
        return self.level is Mitigation.NONE and returns.bare * 2 < returns.total

    @property
    def level(self) -> Mitigation:
        """The level that all of the code has."""
        bare = {kind for kind, tally in self.tallies.items() if tally.bare}
        if bare <= {Kind.REGISTER}:
            return Mitigation.LOAD
        return Mitigation.CF if bare == {Kind.LOAD} else Mitigation.NONE


def reaches(level: Mitigation, wanted: Mitigation) -> bool:
    """Say whether a level is at least another."""
    return _LEVELS.index(level) >= _LEVELS.index(wanted)


def check_mitigation(content: bytes, source: str, wanted: Mitigation) -> None:
    """Raise FormatError, naming the first places, for an image below a level."""
    if wanted is Mitigation.NONE:
        return
    functions = Functions(Elf(memoryview(content), source))
    fences = Fences(functions.name)
    for place in functions.places():
        fences.take(place)
    if not reaches(fences.level, wanted):
        raise FormatError(
            f"{source} lacks the {wanted.value} mitigation against load value injection: "
            f"{fences.describe()}",
            source=source,
        )


def _kind(found: Instruction) -> Kind | None:
    if found.opcode_map == 0 and found.opcode in _RETURNS:
        return Kind.RETURN
    if found.opcode_map == 0 and found.opcode == 0xFF and found.extension in (2, 4):
        return Kind.MEMORY if found.reaches_memory else Kind.REGISTER
    return Kind.LOAD if loads(found) else None


def _is_padding(found: Instruction, code: bytes) -> bool:
    """NOP of any length, INT3, zeros."""
    if found.opcode_map:
        return (found.opcode_map, found.opcode) == (0x0F, 0x1F)
    return found.opcode in (0x90, 0xCC) or not any(code)


def _is_fence(found: Instruction) -> bool:
    """LFENCE: 0F AE /5 without memory."""
    if found.opcode_map != 0x0F or found.opcode != 0xAE:
        return False
    return not found.reaches_memory and found.extension == 5


def _rewrites(found: Instruction, code: bytes) -> bool:
    """Say whether an instruction writes the word that RSP points to without changing it."""
    if found.opcode_map or (found.opcode, found.extension) not in _REWRITES:
        return False
    at = code.index(found.opcode)
    return found.modrm is not None and found.modrm & 0xC7 == _RSP_BASE and code[at + 2] == _SIB_RSP
