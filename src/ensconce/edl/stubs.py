# SPDX-License-Identifier: Apache-2.0
"""Write the type stub (`.pyi`) of what an enclave looks like from Python."""

import keyword
from collections.abc import Iterable, Iterator, Mapping

from ensconce.edl.headers import HEADER_TYPES, HeaderType
from ensconce.edl.model import (
    Direction,
    EnumDefinition,
    Function,
    Interface,
    Kind,
    Parameter,
    Type,
)
from ensconce.edl.printer import prototype

__all__ = ["stub"]

_INDENT = "    "


def stub(interface: Interface, headers: Mapping[str, HeaderType] = HEADER_TYPES) -> str:
    """Return the text of a `.pyi` for an interface.

    `Ecalls` is what the enclave offers. `Ocalls` is what the host has to provide: any object
    with these functions. A pointer may be None (NULL) wherever C allows it.
    """
    lines = [
        f"# Made from {interface.name}.edl by ensconce; changes here will be lost.",
        "import ctypes",
        "from array import array",
        "from typing import Any, Protocol",
        "",
        "_Writable = (",
        "    bytearray | memoryview | array[Any] | ctypes.Array[Any] | ctypes.Structure",
        "    | ctypes.Union | ctypes._SimpleCData[Any]",
        ")",
        "_Readable = bytes | _Writable",
        "_Struct = dict[str, Any] | list[dict[str, Any]]  # by the members' names",
        "",
        "class Ecalls(Protocol):",
        *_methods(interface, interface.ecalls, headers, incoming=False),
        "",
        "class Ocalls(Protocol):",
        *_methods(interface, interface.ocalls, headers, incoming=True),
        "",
    ]
    return "\n".join(lines)


def _methods(
    interface: Interface,
    functions: Iterable[Function],
    headers: Mapping[str, HeaderType],
    *,
    incoming: bool,
) -> Iterator[str]:
    described = False
    for function in functions:
        described = True
        names = _names(function)
        result = "None" if function.result.is_void else _value(interface, function.result, headers)
        arguments = ["self"]
        for item, name in zip(function.parameters, names, strict=True):
            arguments.append(f"{name}: {_annotation(interface, item, headers, incoming=incoming)}")
        arguments.append("/")
        yield f"{_INDENT}def {_safe(function.name)}({', '.join(arguments)}) -> {result}:"
        yield f'{_INDENT * 2}"""{prototype(function)}"""'
    if not described:
        yield f"{_INDENT}pass"


def _safe(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _names(function: Function) -> list[str]:
    """Return Python names for the parameters: no keyword, none twice."""
    taken = {"self"}
    names = []
    for item in function.parameters:
        name = _safe(item.name)
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def _annotation(
    interface: Interface, item: Parameter, headers: Mapping[str, HeaderType], *, incoming: bool
) -> str:
    if item.by_value:
        return _value(interface, item.type, headers)
    if item.user_check:
        return "int"
    writes = item.direction & Direction.OUT
    if incoming:
        return "memoryview | None" if writes else "str | None" if item.is_text else "bytes | None"
    buffer = "_Writable | None" if writes else "_Readable | None"
    if item.is_text:
        return buffer if writes else f"str | {buffer}"
    defined = not item.pointee.stars and interface.structure(item.pointee) is not None
    return f"_Struct | {buffer}" if defined else buffer


def _value(interface: Interface, of: Type, headers: Mapping[str, HeaderType]) -> str:
    """Return the Python type of a C value."""
    if of.stars:
        return "int"
    if of.is_float:
        return "float"
    if of.name in ("bool", "_Bool"):
        return "bool"
    if of.kind in (Kind.BUILTIN, Kind.ENUM):
        return "int"
    if of.kind is Kind.FOREIGN:
        if isinstance(interface.composite(of.name), EnumDefinition):
            return "int"
        known = headers.get(of.name)
        return "int" if known is not None and known.scalar else "bytes"
    return "bytes"
