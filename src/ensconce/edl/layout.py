# SPDX-License-Identifier: Apache-2.0
"""Sizes of EDL types and of marshalling structures on x86-64 (System V ABI).

A type from a header ("foreign") has no size unless `headers.py` or the caller states it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ensconce.edl.headers import HEADER_TYPES, HeaderType
from ensconce.edl.model import (
    BUILTINS,
    Composite,
    Ecall,
    EnumDefinition,
    Function,
    Interface,
    Kind,
    Ocall,
    Parameter,
    StructDefinition,
    Type,
)
from ensconce.errors import FormatError

__all__ = ["Extent", "Field", "Layout", "MsField", "MsLayout", "ms_fields"]

_POINTER = 8
INT = Type(Kind.BUILTIN, "int")
SIZE_T = Type(Kind.BUILTIN, "size_t")


@dataclass(frozen=True, slots=True)
class Extent:
    """Size and alignment of a type in bytes."""

    size: int
    alignment: int


@dataclass(frozen=True, slots=True)
class MsField:
    """One field of a marshalling structure; `parameter` is None for result and errno."""

    name: str
    type: Type
    const: bool = False
    parameter: Parameter | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A field with its place in its structure, in bytes."""

    name: str
    type: Type
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class MsLayout:
    """The layout of one marshalling structure."""

    size: int
    alignment: int
    fields: Mapping[str, Field]


def ms_fields(function: Function) -> tuple[MsField, ...]:
    """Return the fields of `ms_NAME_t` in order, without regard to sizes."""
    fields: list[MsField] = []
    if not function.result.is_void:
        fields.append(MsField("ms_retval", function.result))
    if isinstance(function, Ocall) and function.propagate_errno:
        fields.append(MsField("ocall_errno", INT))
    for item in function.parameters:
        by_address = item.dimensions or item.isary
        kind = item.type.pointer() if by_address else item.type
        fields.append(MsField(f"ms_{item.name}", kind, item.const, item))
        if item.is_text and isinstance(function, Ecall):
            fields.append(MsField(f"ms_{item.name}_len", SIZE_T, parameter=item))
    return tuple(fields)


class Layout:
    """Sizes for one interface; `headers` gives those of header types by name."""

    def __init__(
        self, interface: Interface, headers: Mapping[str, HeaderType] = HEADER_TYPES
    ) -> None:
        self._extents = {name: Extent(of.size, of.alignment) for name, of in headers.items()}
        # Definitions stand in an order in which each needs only those before it.
        for item in interface.composites:
            if item.name:
                extent = self._composite(item)
                if extent is not None:
                    self._extents[item.name] = extent

    def extent(self, of: Type) -> Extent | None:
        """Return size and alignment of a type, or None where EDL does not tell."""
        if of.stars:
            return Extent(_POINTER, _POINTER)
        if of.kind is Kind.BUILTIN:
            size = BUILTINS[of.name]
            return Extent(size, size) if size else None
        return self._extents.get(of.name)

    def sizeof(self, of: Type) -> int:
        """Return the size of a type in bytes; raises FormatError where EDL does not tell."""
        return self._known(of).size

    def alignof(self, of: Type) -> int:
        """Return the alignment of a type in bytes; raises FormatError where EDL does not tell."""
        return self._known(of).alignment

    def _known(self, of: Type) -> Extent:
        extent = self.extent(of)
        if extent is None:
            raise FormatError(f"EDL does not tell the size of `{of}`: state it among the headers'")
        return extent

    def _composite(self, item: Composite) -> Extent | None:
        if isinstance(item, EnumDefinition):
            return _enumeration(item)
        members = []
        for member in item.members:
            extent = self.extent(member.type)
            if extent is None:
                return None
            count = 1
            for dimension in member.dimensions:
                count *= dimension
            members.append(Extent(extent.size * count, extent.alignment))
        if isinstance(item, StructDefinition):
            return _struct(members)[0]
        alignment = max(member.alignment for member in members)
        return Extent(_up(max(member.size for member in members), alignment), alignment)

    def structure(self, item: StructDefinition) -> dict[str, Field]:
        """Return the place of every member of a structure."""
        extents = []
        for member in item.members:
            extent = self._known(member.type)
            count = 1
            for dimension in member.dimensions:
                count *= dimension
            extents.append(Extent(extent.size * count, extent.alignment))
        offsets = _struct(extents)[1]
        return {
            member.name: Field(member.name, member.type, offset, extent.size)
            for member, offset, extent in zip(item.members, offsets, extents, strict=True)
        }

    def marshalling(self, function: Function) -> MsLayout | None:
        """Return the layout of a function's marshalling structure, None when it has none."""
        if function.naked:
            return None
        fields = ms_fields(function)
        extents = [self._field(field) for field in fields]
        whole, offsets = _struct(extents)
        placed = {
            field.name: Field(field.name, field.type, offset, extent.size)
            for field, offset, extent in zip(fields, offsets, extents, strict=True)
        }
        return MsLayout(whole.size, whole.alignment, placed)

    def _field(self, field: MsField) -> Extent:
        """Return the extent of a field; a foreign type that is a pointer has a pointer's."""
        if field.parameter is not None and field.parameter.isptr:
            return Extent(_POINTER, _POINTER)
        return self._known(field.type)


def _enumeration(item: EnumDefinition) -> Extent:
    """Return what gcc gives an enumeration: as an int, or 8 bytes when a value needs them."""
    values: dict[str, int] = {}
    following, largest = 0, 0
    for entry in item.enumerators:
        value = following if entry.value is None else entry.value
        if isinstance(value, str):
            value = values.get(value, 0)
        values[entry.name] = value
        largest = max(largest, value)
        following = value + 1
    return Extent(4, 4) if largest < 1 << 32 else Extent(8, 8)


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _struct(members: Iterable[Extent]) -> tuple[Extent, list[int]]:
    """Lay members out as C does; return the whole's extent and each one's offset."""
    offset, alignment = 0, 1
    offsets = []
    for member in members:
        offset = _up(offset, member.alignment)
        offsets.append(offset)
        offset += member.size
        alignment = max(alignment, member.alignment)
    return Extent(_up(offset, alignment), alignment), offsets
