# SPDX-License-Identifier: Apache-2.0
"""Structures with pointers that are copied deeply: a mapping in Python, memory in C."""

import struct
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from ensconce.edl.model import Member, StructDefinition
from ensconce.enclave.buffers import lend
from ensconce.enclave.extents import Extent, member_extent
from ensconce.enclave.memory import Space
from ensconce.enclave.scalars import Scalar, Types, scalar

__all__ = ["StructureCodec", "build_many"]


class _Slot:
    """One member: where it lies and how it is packed."""

    def __init__(
        self, definition: StructDefinition, member: Member, offset: int, size: int, types: Types
    ) -> None:
        self.name = member.name
        self.offset = offset
        self.where = f"{definition.name}.{member.name}"
        self.extent: Extent | None = None
        if member.deep:
            self.extent = member_extent(definition.name, member, definition.members, types)
        if member.dimensions:
            self.scalar = Scalar(f"{size}s", size, f"bytes of length {size}")
        else:
            self.scalar = scalar(member.type, types)
        self.struct = struct.Struct("<" + self.scalar.code)

    def write(self, value: Any, view: memoryview) -> None:
        """Pack a value into the structure."""
        try:
            encoded = value if self.scalar.encode is None else self.scalar.encode(value)
            self.struct.pack_into(view, self.offset, encoded)
        except (struct.error, TypeError) as error:
            raise TypeError(f"{self.where} takes {self.scalar.python}, not {value!r}") from error

    def read(self, view: memoryview) -> Any:
        """Return the member's value."""
        (value,) = self.struct.unpack_from(view, self.offset)
        return value if self.scalar.decode is None else self.scalar.decode(value)


class StructureCodec:
    """Turns mappings into a C structure with its deep members, and back."""

    def __init__(self, definition: StructDefinition, types: Types, size: int) -> None:
        fields = types.structure(definition)
        self.name = definition.name
        self.size = size
        self.slots = [
            _Slot(definition, member, fields[member.name].offset, fields[member.name].size, types)
            for member in definition.members
        ]

    def build(
        self, value: Mapping[str, Any], view: memoryview, space: Space, *, write: bool
    ) -> None:
        """Write a mapping into `view`, its deep members into `space`.

        With `write` the mapping gets what the enclave left there when the ECALL has ended well.
        """
        unknown = value.keys() - {slot.name for slot in self.slots}
        if unknown:
            raise TypeError(f"struct {self.name} has no member {sorted(unknown)[0]}")
        members = [value.get(slot.name, 0) for slot in self.slots]
        view[: self.size] = bytes(self.size)
        for slot, member in zip(self.slots, members, strict=True):
            if slot.name not in value or (slot.extent is not None and member is None):
                continue
            if slot.extent is not None:
                size = slot.extent(members)
                member = lend(member, size, space, slot.where, read=True, write=write)
            slot.write(member, view)
        if write:
            if not isinstance(value, MutableMapping):
                raise TypeError(f"struct {self.name} comes back, so it takes a dict")
            space.after.append(lambda: self._update(value, view))

    def _update(self, value: MutableMapping[str, Any], view: memoryview) -> None:
        """Bring back the members that are not pointers to copied memory."""
        for slot in self.slots:
            if slot.extent is None:
                value[slot.name] = slot.read(view)

    def read(
        self, view: memoryview, inside: Callable[[int, int], memoryview], *, write: bool
    ) -> dict[str, Any]:
        """Return a structure that an OCALL was given, deep members as bytes or writable views.

        `inside` returns the memory at an address and size, checked to be the OCALL's.
        """
        raw: list[Any] = [slot.read(view) for slot in self.slots]
        values: dict[str, Any] = {}
        for slot, member in zip(self.slots, raw, strict=True):
            values[slot.name] = member
            if slot.extent is not None:
                values[slot.name] = None
                if member:
                    memory = inside(member, slot.extent(raw))
                    values[slot.name] = memory if write else bytes(memory)
        return values

    def store(self, values: Mapping[str, Any], view: memoryview) -> None:
        """Write back the members of an [in, out] structure that are not deep."""
        for slot in self.slots:
            if slot.extent is None and slot.name in values:
                slot.write(values[slot.name], view)


def build_many(
    codec: StructureCodec, argument: Any, size: int, space: Space, where: str, *, write: bool
) -> int:
    """Return the address of one structure or several, from a mapping or a sequence of mappings."""
    items: Sequence[Any] = [argument] if isinstance(argument, Mapping) else argument
    if len(items) * codec.size < size:
        raise ValueError(f"{where} takes {size // codec.size} structures, not {len(items)}")
    address, room = space.room(max(size, codec.size))
    for index, item in enumerate(items[: size // codec.size]):
        part = room[index * codec.size : (index + 1) * codec.size]
        codec.build(item, part, space, write=write)
    return address
