# SPDX-License-Identifier: Apache-2.0
"""How values that cross an enclave's border by value are packed, and what Python calls them."""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ensconce.edl.headers import HEADER_TYPES, HeaderType
from ensconce.edl.layout import Extent, Layout
from ensconce.edl.model import EnumDefinition, Interface, Kind, Type

__all__ = ["Scalar", "Sizes", "Types", "scalar"]

# struct's codes for the builtin types that it knows
_CODES = {
    "char": "b",
    "unsigned char": "B",
    "short int": "h",
    "unsigned short int": "H",
    "int": "i",
    "unsigned int": "I",
    "long int": "q",
    "unsigned long int": "Q",
    "long long": "q",
    "unsigned long long": "Q",
    "float": "f",
    "double": "d",
    "int8_t": "b",
    "int16_t": "h",
    "int32_t": "i",
    "int64_t": "q",
    "uint8_t": "B",
    "uint16_t": "H",
    "uint32_t": "I",
    "uint64_t": "Q",
    "size_t": "Q",
    "wchar_t": "i",
}
_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}

_ENUM_EXTENT = Extent(4, 4)
Sizes = Mapping[str, int | tuple[int, int]]


class Types(Layout):
    """Sizes and kinds of all types of one interface.

    `given` adds sizes of header types, or sizes and alignments: a bare size gets the largest
    alignment of up to 8 bytes that divides it.
    """

    def __init__(self, interface: Interface, given: Sizes | None = None) -> None:
        self.interface = interface
        self.headers = dict(HEADER_TYPES)
        for name, extent in (given or {}).items():
            pair = (extent, min(8, extent & -extent)) if isinstance(extent, int) else extent
            self.headers[name] = HeaderType(*pair, scalar=pair[0] in _UNSIGNED)
        super().__init__(interface, self.headers)

    def extent(self, of: Type) -> Extent | None:
        """Return size and alignment; an enumeration that a header defines is an int."""
        found = super().extent(of)
        return _ENUM_EXTENT if found is None and of.kind is Kind.ENUM else found


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value's code for `struct`, and the functions that turn Python's value into it and back.

    None where `struct` takes and gives Python's value as it is. `python` names the type that a
    caller passes, for messages.
    """

    code: str
    size: int
    python: str
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None


_CHAR = Scalar("b", 1, "int or a single byte", lambda value: _char(value))
_LONG_DOUBLE = Scalar(
    "16s",
    16,
    "float",
    lambda value: bytes(ctypes.c_longdouble(value)),
    lambda value: ctypes.c_longdouble.from_buffer_copy(value).value,
)
_POINTER = Scalar("Q", 8, "int (an address) or None", lambda value: 0 if value is None else value)
_ENUM = Scalar("i", 4, "int", lambda value: _enumerator(value))


_BOOL = Scalar("B", 1, "bool", None, bool)


def scalar(of: Type, types: Types) -> Scalar:
    """Return how a value of a type crosses; raises FormatError for a type of unknown size."""
    if of.stars:
        return _POINTER
    if of.kind is Kind.BUILTIN:
        if of.name == "char":
            return _CHAR
        if of.name == "long double":
            return _LONG_DOUBLE
        code = _CODES[of.name]
        return Scalar(code, types.sizeof(of), "float" if code in "fd" else "int")
    size = types.sizeof(of)
    composite = types.interface.composite(of.name)
    if isinstance(composite, EnumDefinition) or of.kind is Kind.ENUM:
        return _ENUM if size == _ENUM.size else Scalar("q", 8, "int")
    header = types.headers.get(of.name)
    if of.kind is Kind.FOREIGN and composite is None and header is not None and header.scalar:
        if of.name in ("bool", "_Bool"):
            return _BOOL
        return Scalar(
            _UNSIGNED[size], size, f"int, or bytes of length {size}", _number_or_bytes(size)
        )
    return Scalar(f"{size}s", size, f"bytes of length {size}", _exact_bytes(str(of), size))


def _char(value: Any) -> Any:
    """Return a C char from an integer of -128..255 or one byte."""
    if isinstance(value, bytes | bytearray) and len(value) == 1:
        value = value[0]
    return value - 256 if isinstance(value, int) and 127 < value < 256 else value


def _enumerator(value: Any) -> Any:
    """Return a C enumerator from an integer that fits in 32 bits, signed or not."""
    return value - (1 << 32) if isinstance(value, int) and value > 0x7FFFFFFF else value


def _number_or_bytes(size: int) -> Callable[[Any], Any]:
    """Return the encoder of a foreign type that may be a number or a small structure."""

    def encode(value: Any) -> Any:
        if isinstance(value, int):
            return value & (1 << 8 * size) - 1 if -1 << 8 * size - 1 <= value < 0 else value
        data = bytes(memoryview(value))
        if len(data) != size:
            raise ValueError(f"takes {size} bytes, not {len(data)}")
        return int.from_bytes(data, "little")

    return encode


def _exact_bytes(name: str, size: int) -> Callable[[Any], bytes]:
    """Return the encoder of a structure that is passed by value."""

    def encode(value: Any) -> bytes:
        data = bytes(memoryview(value))
        if len(data) != size:
            raise ValueError(f"takes the {size} bytes of a {name}, not {len(data)}")
        return data

    return encode
