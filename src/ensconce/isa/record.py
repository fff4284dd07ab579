# SPDX-License-Identifier: Apache-2.0
"""Fixed-size little-endian structures, written once as typed fields.

A structure is a frozen slots dataclass whose annotations carry the layout:

    @record(64)
    class SecInfo(Record):
        flags: Annotated[SecInfoFlags, Unsigned(8)]
        reserved: Annotated[bytes, Reserved(56)] = bytes(56)

Field kinds: `U8`, `U16`, `U32`, `U64`, an integer enumeration annotated with `Unsigned(n)`,
`Annotated[bytes, n]`, `Annotated[bytes, Reserved(n)]`, another record. The sizes must add up to
the size stated, or the import fails. Values round-trip exactly, reserved bytes included: whether
reserved bytes may be non-zero is the reader's question (`reserved_nonzero`), never the parser's.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import (
    Annotated,
    Any,
    ClassVar,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_type_hints,
)

from ensconce.errors import FormatError

__all__ = ["U8", "U16", "U32", "U64", "BytesLike", "Record", "Reserved", "Unsigned", "record"]

BytesLike = bytes | bytearray | memoryview

_INTEGER_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class Unsigned:
    """An unsigned little-endian integer of `size` bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """`size` bytes that the manual reserves."""

    size: int


U8 = Annotated[int, Unsigned(1)]
U16 = Annotated[int, Unsigned(2)]
U32 = Annotated[int, Unsigned(4)]
U64 = Annotated[int, Unsigned(8)]


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    offset: int
    size: int
    code: str
    decode: Callable[[Any], Any] | None
    encode: Callable[[Any], Any] | None
    reserved: bool


def _layout(name: str, hint: Any, offset: int) -> _Field:
    """Return where a field lies and how its value is packed."""
    if isinstance(hint, type) and issubclass(hint, Record):
        return _Field(name, offset, hint.SIZE, f"{hint.SIZE}s", hint.parse, bytes, reserved=False)
    base, kind = get_args(hint)
    if isinstance(kind, Unsigned):
        decode = None if base is int else base
        return _Field(
            name, offset, kind.size, _INTEGER_CODES[kind.size], decode, int, reserved=False
        )
    size = kind.size if isinstance(kind, Reserved) else int(kind)
    reserved = isinstance(kind, Reserved)
    return _Field(name, offset, size, f"{size}s", None, _exactly(name, size), reserved=reserved)


def _exactly(name: str, size: int) -> Callable[[BytesLike], bytes]:
    """Return a check that a byte field has just its size, since struct would pad or cut it."""

    def encode(value: BytesLike) -> bytes:
        if len(value) != size:
            raise ValueError(f"{name} takes {size} bytes, not {len(value)}")
        return bytes(value)

    return encode


class Record:
    """Base of every fixed-size structure; see the module's text."""

    __slots__ = ()

    SIZE: ClassVar[int]
    _struct: ClassVar[struct.Struct]
    _layout: ClassVar[tuple[_Field, ...]]
    _plain: ClassVar[bool]

    @classmethod
    def parse(cls, data: BytesLike, *, source: str = "") -> Self:
        """Return the structure held in exactly `SIZE` bytes."""
        if len(data) != cls.SIZE:
            raise FormatError(
                f"{source or cls.__name__} has {len(data)} bytes where {cls.__name__} "
                f"takes {cls.SIZE}; it is cut short or is something else",
                source=source or cls.__name__,
            )
        values = cls._struct.unpack(data)
        if cls._plain:
            return cls(*values)
        return cls(
            *(
                value if field.decode is None else field.decode(value)
                for field, value in zip(cls._layout, values, strict=True)
            )
        )

    @classmethod
    def parse_at(cls, data: BytesLike, offset: int, *, source: str = "") -> Self:
        """Return the structure at a byte offset of a larger buffer."""
        if offset < 0:
            raise FormatError(f"{source or cls.__name__}: negative offset", source=source)
        return cls.parse(memoryview(data)[offset : offset + cls.SIZE], source=source)

    @classmethod
    def offset_of(cls, name: str) -> int:
        """Return the byte offset of a field."""
        return next(field.offset for field in cls._layout if field.name == name)

    def __bytes__(self) -> bytes:
        return self._struct.pack(
            *(
                getattr(self, field.name)
                if field.encode is None
                else field.encode(getattr(self, field.name))
                for field in self._layout
            )
        )

    def reserved_nonzero(self) -> tuple[str, ...]:
        """Return the names of the reserved fields that are not all zero, nested ones included."""
        names: list[str] = []
        for field in self._layout:
            value = getattr(self, field.name)
            if isinstance(value, Record):
                names += (f"{field.name}.{inner}" for inner in value.reserved_nonzero())
            elif field.reserved and any(value):
                names.append(field.name)
        return tuple(names)


_R = TypeVar("_R", bound=Record)


@dataclass_transform(frozen_default=True)
def record(size: int) -> Callable[[type[_R]], type[_R]]:
    """Turn a class body of annotated fields into a `Record` of exactly `size` bytes."""

    def build(cls: type[_R]) -> type[_R]:
        made: type[_R] = dataclass(frozen=True, slots=True)(cls)
        hints = get_type_hints(made, include_extras=True)
        layout: list[_Field] = []
        offset = 0
        for entry in fields(made):  # type: ignore[arg-type]  # made by dataclass one line above
            layout.append(_layout(entry.name, hints[entry.name], offset))
            offset += layout[-1].size
        if offset != size:
            raise TypeError(f"{cls.__name__} adds up to {offset} bytes, not {size}")
        made.SIZE = size
        made._struct = struct.Struct("<" + "".join(field.code for field in layout))
        made._layout = tuple(layout)
        made._plain = all(field.decode is None for field in layout)
        return made

    return build
