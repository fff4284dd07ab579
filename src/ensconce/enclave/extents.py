# SPDX-License-Identifier: Apache-2.0
"""How many bytes a pointer parameter stands for: `size`, `count`, array and string rules."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ensconce.edl.model import Function, Member, Parameter, Type
from ensconce.enclave.scalars import Types
from ensconce.errors import ConfigError, FormatError

__all__ = ["Extent", "element_size", "extent", "member_extent"]

Extent = Callable[[Sequence[Any]], int]  # from the call's arguments to bytes

_LIMIT = 1 << 47


def extent(function: Function, parameter: Parameter, types: Types) -> Extent:
    """Return how many bytes a parameter's pointer stands for, given all of the arguments."""
    names = {item.name: index for index, item in enumerate(function.parameters)}
    where = f"{function.name}({parameter.name})"
    if parameter.dimensions or parameter.isary:
        return _constant(layout_size(parameter.type, types, where) * parameter.elements)
    unit: int | str | None = parameter.size
    if unit is None:
        unit = element_size(parameter, types, where)
    return _product(unit, parameter.count, names, where)


def member_extent(
    structure: str, member: Member, members: Sequence[Member], types: Types
) -> Extent:
    """Return how many bytes a deeply copied member stands for, given all of the members."""
    names = {item.name: index for index, item in enumerate(members)}
    where = f"{structure}.{member.name}"
    unit: int | str | None = member.size
    if unit is None:
        unit = layout_size(member.type.pointee(), types, where)
    return _product(unit, member.count, names, where)


def element_size(parameter: Parameter, types: Types, where: str) -> int:
    """Return the size of one thing pointed to; `void` counts as bytes."""
    if parameter.pointee.is_void:
        return 1
    return layout_size(parameter.pointee, types, where)


def layout_size(of: Type, types: Types, where: str) -> int:
    """Return a type's size, or raise an error that says where it is needed."""
    try:
        return types.sizeof(of)
    except FormatError as error:
        raise ConfigError(
            f"{where}: EDL does not tell the size of {of}; pass types={{{of.name!r}: its size}}"
        ) from error


def _constant(size: int) -> Extent:
    return lambda _arguments: size


def _product(
    unit: int | str, count: int | str | None, names: Mapping[str, int], where: str
) -> Extent:
    """Return the product of two factors, each a number or an argument's name."""
    if isinstance(unit, int) and (count is None or isinstance(count, int)):
        return _constant(unit * (1 if count is None else count))
    if isinstance(unit, int) and isinstance(count, str):
        return _argument(names[count], unit, where, count)
    if isinstance(unit, str) and not isinstance(count, str):
        return _argument(names[unit], 1 if count is None else count, where, unit)
    assert isinstance(unit, str)  # noqa: S101  # the other cases came before
    assert isinstance(count, str)  # noqa: S101
    first = _argument(names[unit], 1, where, unit)
    second = _argument(names[count], 1, where, count)
    return lambda arguments: first(arguments) * second(arguments)


def _argument(index: int, unit: int, where: str, name: str) -> Extent:
    """Return an argument's value times `unit`, checked."""

    def size(arguments: Sequence[Any]) -> int:
        value = arguments[index]
        if not isinstance(value, int):
            raise TypeError(
                f"{where} takes its size from {name}, an int, not {type(value).__name__}"
            )
        if not 0 <= value < _LIMIT:
            raise ValueError(f"{where} takes its size from {name}, which can't be {value}")
        return value * unit

    return size
