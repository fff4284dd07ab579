# SPDX-License-Identifier: Apache-2.0
"""How many bytes stand behind a pointer, by EDL's rules and in numbers without a limit."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.sdk.bridges.hostile.machine import FOREIGN, TOP, Event, Finding, Machine

from ensconce.edl.model import (
    Direction,
    Function,
    Interface,
    Kind,
    Member,
    Parameter,
    StructDefinition,
    Type,
)

SUCCESS, OUT_OF_MEMORY = 0, 3
ONE_BYTE = ("void", "char", "unsigned char", "int8_t", "uint8_t")
UNSIGNED = ("size_t",)


class Refused(Exception):
    """The rules forbid the call."""


class Overflow(Refused):
    """A size that no pointer, not even NULL, may have."""


class Missing(Exception):
    """A read that has to be made was not made."""


@dataclass
class Block:
    """What one pointer points to: the host's address, the content, and the enclave's address."""

    outside: int
    content: bytes
    inside: int = 0

    @property
    def size(self) -> int:
        return len(self.content)


@dataclass
class Deep:
    """A copied structure: its name's definition and, for each element, its members' blocks."""

    structure: StructDefinition
    elements: list[dict[str, Block | None]]


def as_size(content: bytes, of: Type) -> int:
    """Return an integer as C converts it to size_t."""
    signed = "unsigned" not in of.name and not of.name.startswith("u") and of.name not in UNSIGNED
    return int.from_bytes(content, "little", signed=signed) % TOP


def deep_structure(interface: Interface, item: Parameter) -> StructDefinition | None:
    found = interface.deep_structure(item)
    return found if item.checked else None


def size_of(machine: Machine, of: Type) -> int:
    if not of.stars and of.name in FOREIGN:
        return FOREIGN[of.name]
    return 1 if of.is_void else machine.layout.sizeof(of)


def span(machine: Machine, function: Function, item: Parameter, values: Mapping[str, bytes]) -> int:
    """Return the size of a parameter's buffer; raises Refused where it is none."""
    if item.dimensions:
        return item.elements * size_of(machine, item.type)
    one = size_of(machine, item.pointee)
    types = {other.name: other.type for other in function.parameters}
    whole = item.size is not None and _must_be_whole(machine, item)
    return _product(item, one, values, types, whole=whole)


def member_span(
    machine: Machine, structure: StructDefinition, member: Member, element: bytes
) -> int:
    """Return the size of what a member of `element` points to; raises Refused."""
    places = machine.layout.structure(structure)
    values = {
        name: element[place.offset : place.offset + place.size] for name, place in places.items()
    }
    types = {other.name: other.type for other in structure.members}
    pointee = member.type.pointee()
    builtin = pointee.kind is Kind.BUILTIN and pointee.name not in ONE_BYTE
    whole = member.size is not None and (pointee.stars > 0 or builtin)
    return _product(member, size_of(machine, pointee), values, types, whole=whole)


def _product(
    item: Parameter | Member,
    one: int,
    values: Mapping[str, bytes],
    types: Mapping[str, Type],
    *,
    whole: bool,
) -> int:
    def term(wanted: int | str | None, default: int) -> int:
        if wanted is None:
            return default
        return as_size(values[wanted], types[wanted]) if isinstance(wanted, str) else wanted

    total = term(item.size, one) * term(item.count, 1)
    if total >= TOP:
        raise Overflow(f"the size of {item.name} overflows")
    if whole and total % one:
        raise Refused(f"{item.name} has no whole elements")
    return total


def _must_be_whole(machine: Machine, item: Parameter) -> bool:
    pointee = item.pointee
    if pointee.stars:
        return True
    if pointee.kind is Kind.STRUCT:
        return deep_structure(machine.interface, item) is not None
    return pointee.kind is Kind.BUILTIN and pointee.name not in ONE_BYTE


def unit(machine: Machine, function: Function, name: str) -> int:
    """Return the size of the elements that a parameter gives the size of, 1 when of none."""
    for item in function.parameters:
        if item.size == name and _must_be_whole(machine, item):
            return size_of(machine, item.pointee)
    return 1


def end(item: Parameter, content: bytes) -> tuple[bytes, int]:
    """Return a text with its last character made a terminator, and its length with the first."""
    width = 4 if item.wstring else 1
    content = content[: len(content) // width * width - width] + bytes(width)
    for at in range(0, len(content), width):
        if content[at : at + width] == bytes(width):
            return content, at + width
    raise AssertionError("a text that was ended has no end")


class Reads:
    """The reads of the host's memory that were made and not yet accounted for."""

    def __init__(self, events: list[Event]) -> None:
        self._left = [event for event in events if event.kind == "r"]

    def take(self, address: int, size: int) -> bytes:
        """Return what one permitted read gave; raises Missing when it was not made."""
        for event in self._left:
            if (event.address, event.size) == (address, size):
                self._left.remove(event)
                return event.content
        raise Missing(f"{size} bytes at {address:#x} were not read")

    def finish(self) -> None:
        """Require that nothing was read that the rules don't permit, and nothing twice."""
        for event in self._left:
            what = f"{event.size} bytes at {event.address:#x}"
            raise Finding(f"it read {what} again, or unasked")


def is_out(item: Parameter) -> bool:
    return bool(item.direction & Direction.OUT)


def is_in(item: Parameter) -> bool:
    return bool(item.direction & Direction.IN)


def is_exact(of: Type) -> bool:
    """True for a type without padding, which C passes on bit by bit."""
    return of.stars > 0 or (of.kind is Kind.BUILTIN and of.name != "long double")


def type_of(structure: StructDefinition) -> Type:
    return Type(Kind.STRUCT, structure.name)


def number(content: bytes | bytearray) -> int:
    return int.from_bytes(content, "little")


def put(content: bytearray, offset: int, piece: bytes | bytearray) -> None:
    content[offset : offset + len(piece)] = piece
