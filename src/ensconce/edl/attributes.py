# SPDX-License-Identifier: Apache-2.0
"""Pointer and function attributes (`[in, size=n]`): which there are, which go together."""

from dataclasses import dataclass, replace

from ensconce.edl.lexer import error
from ensconce.edl.model import Convention, Direction, Kind, Member, Parameter, Position

__all__ = ["Attribute", "apply_to_function", "apply_to_member", "apply_to_parameter"]

_FLAGS = ("string", "wstring", "isptr", "isary", "readonly", "user_check")
_DIRECTIONS = {"in": Direction.IN, "out": Direction.OUT}
_SIZES = ("size", "count")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One entry of an attribute list as written."""

    name: str
    value: int | str | None
    position: Position


@dataclass(slots=True)
class _Collected:
    """The attributes of one declarator, each known and none twice."""

    direction: Direction = Direction.NONE
    size: int | str | None = None
    count: int | str | None = None
    flags: frozenset[str] = frozenset()


def _collect(attributes: list[Attribute]) -> _Collected:
    """Sort a list of attributes into the fields of a parameter."""
    found = _Collected()
    for attribute in attributes:
        name, value = attribute.name, attribute.value
        if name in _SIZES:
            _collect_size(found, attribute)
        elif name == "sizefunc":
            raise error(attribute.position, "`sizefunc` is no longer part of EDL: use `size`")
        elif name not in _FLAGS and name not in _DIRECTIONS:
            raise error(
                attribute.position,
                f"unknown attribute `{name}`: it can be in, out, size, count, string, wstring, "
                "isptr, isary, readonly or user_check",
            )
        elif value is not None:
            raise error(attribute.position, f"`{name}` takes no value: remove `= {value}`")
        elif name in _FLAGS:
            found.flags |= {name}
        elif found.direction & _DIRECTIONS[name]:
            raise error(attribute.position, f"the attribute `{name}` stands here twice: remove one")
        else:
            found.direction |= _DIRECTIONS[name]
    return found


def _collect_size(found: _Collected, attribute: Attribute) -> None:
    """Take in a size or count."""
    name = attribute.name
    if attribute.value is None:
        raise error(
            attribute.position, f"`{name}` needs a value: write `{name}=` and a number or a name"
        )
    if getattr(found, name) is not None:
        raise error(attribute.position, f"the attribute `{name}` stands here twice: remove one")
    setattr(found, name, attribute.value)


def apply_to_parameter(bare: Parameter, attributes: list[Attribute]) -> Parameter:
    """Return `bare` with its attributes; refuse every combination that has no meaning."""
    found = _collect(attributes)
    parameter = replace(
        bare,
        direction=found.direction,
        size=found.size,
        count=found.count,
        string="string" in found.flags,
        wstring="wstring" in found.flags,
        isptr="isptr" in found.flags,
        isary="isary" in found.flags,
        readonly="readonly" in found.flags,
        user_check="user_check" in found.flags,
    )
    at = attributes[0].position if attributes else bare.position
    for rule in (_by_value, _foreign, _array_type, _text, _pointer, _void, _constant, _array):
        message = rule(parameter)
        if message:
            raise error(at, f"parameter `{bare.name}`: {message}")
    return parameter


def _by_value(parameter: Parameter) -> str | None:
    if parameter.by_value and _decorated(parameter):
        return (
            f"`{parameter.type}` is passed by value and takes no pointer attributes: remove them, "
            "or make it a pointer, an array or (a foreign type) isptr or isary"
        )
    if parameter.by_value and parameter.type.is_void:
        return "a parameter can't have the type void: give it another"
    return None


def _decorated(parameter: Parameter) -> bool:
    """True when any attribute is set that only a pointer can have."""
    sized = parameter.size is not None or parameter.count is not None
    flags = parameter.is_text or parameter.readonly or parameter.user_check
    return parameter.checked or sized or flags


def _foreign(parameter: Parameter) -> str | None:
    bare_foreign = parameter.type.kind is Kind.FOREIGN and not parameter.type.stars
    for name in ("isptr", "isary"):
        if getattr(parameter, name) and not bare_foreign:
            return f"`{name}` is for a type defined in a header, not for `{parameter.type}`"
    if parameter.readonly and not parameter.isptr:
        return "`readonly` goes only with `isptr`: use `const` or remove it"
    return None


def _array_type(parameter: Parameter) -> str | None:
    if not parameter.isary:
        return None
    if parameter.size is not None or parameter.count is not None:
        return "`isary` knows its size: remove size and count"
    if parameter.isptr:
        return "`isary` and `isptr` exclude each other: keep the one the type is"
    if parameter.is_text:
        return "`isary` can't be a string: remove one of them"
    return None


def _text(parameter: Parameter) -> str | None:
    if not parameter.is_text:
        return None
    if parameter.string and parameter.wstring:
        return "`string` and `wstring` exclude each other: keep one"
    if parameter.size is not None or parameter.count is not None:
        return "a string's size is its length: remove size and count"
    if parameter.direction is Direction.NONE:
        return "`string` and `wstring` need a direction: add `in`"
    if parameter.direction is Direction.OUT:
        return "a string that only goes out has no length: use `in, out`, or a buffer with `size`"
    expected = ("char", "unsigned char") if parameter.string else ("wchar_t",)
    kind = parameter.type
    if kind.stars != 1 or kind.kind is not Kind.BUILTIN or kind.name not in expected:
        attribute = "string" if parameter.string else "wstring"
        return f"`{attribute}` is for `{expected[0]}*`, not for `{kind}`"
    return None


def _pointer(parameter: Parameter) -> str | None:
    if parameter.by_value:
        return None
    if parameter.direction is not Direction.NONE and parameter.user_check:
        return "a direction and `user_check` exclude each other: keep one"
    if parameter.direction is Direction.NONE:
        if parameter.size is not None or parameter.count is not None:
            return "`size` and `count` need a direction: add `in`, `out` or both"
        if not parameter.user_check:
            return "a pointer or array needs `in`, `out`, both, or `user_check`"
    pointer = parameter.type.stars or parameter.isptr
    if pointer and (parameter.dimensions or parameter.isary):
        return "an array of pointers can't cross: pass the elements one by one or as bytes"
    return None


def _void(parameter: Parameter) -> str | None:
    void = parameter.type.kind is Kind.BUILTIN and parameter.type.name == "void"
    if not void or not parameter.checked:
        if void and parameter.dimensions:
            return "there are no arrays of void: use uint8_t"
        return None
    if parameter.type.stars == 1 and parameter.size is None:
        return "what a void pointer points to has no size: add `size=` or `user_check`"
    if parameter.dimensions:
        return "there are no arrays of void: use uint8_t"
    return None


def _constant(parameter: Parameter) -> str | None:
    if not parameter.const and not parameter.readonly:
        return None
    if parameter.const and not parameter.type.stars:
        return "`const` is only for pointers: remove it"
    if parameter.direction & Direction.OUT:
        return "what is constant can't be `out`: remove one of them"
    return None


def _array(parameter: Parameter) -> str | None:
    if not parameter.dimensions:
        return None
    for name in _SIZES:
        if getattr(parameter, name) is not None:
            return f"a declared array knows its size: remove `{name}`"
    if parameter.isary:
        return "`isary` is for a type that is an array, and this declares one: remove it"
    return None


def apply_to_member(bare: Member, attributes: list[Attribute]) -> Member:
    """Return `bare` with its size and count, the only attributes that a member can have."""
    if not attributes:
        return bare
    at = attributes[0].position
    found = _collect(attributes)
    where = f"member `{bare.name}`"
    if found.direction is not Direction.NONE:
        raise error(at, f"{where}: a direction belongs to the parameter: remove it here")
    if found.flags:
        name = min(found.flags)
        raise error(at, f"{where}: `{name}` is not for members: use `size` and `count`")
    if not bare.type.stars or bare.dimensions:
        raise error(at, f"{where}: `size` and `count` ask for a deep copy, which needs a pointer")
    if bare.type.pointee().is_void and found.size is None:
        raise error(at, f"{where}: what a void pointer points to has no size: add `size=`")
    return replace(bare, size=found.size, count=found.count)


def apply_to_function(attributes: list[Attribute]) -> tuple[Convention, bool]:
    """Return the calling convention and whether the function is imported (dllimport)."""
    conventions = {item.name.lower(): item for item in Convention if item is not Convention.NONE}
    convention, imported = Convention.NONE, False
    for attribute in attributes:
        name = attribute.name
        if name in conventions:
            if convention is not Convention.NONE:
                raise error(
                    attribute.position,
                    f"`{name}` excludes `{convention.name.lower()}`: keep one calling convention",
                )
            convention = conventions[name]
        elif name != "dllimport":
            raise error(
                attribute.position,
                f"unknown function attribute `{name}`: it can be cdecl, stdcall, fastcall or "
                "dllimport",
            )
        elif imported:
            raise error(attribute.position, "`dllimport` stands here twice: remove one")
        else:
            imported = True
    return convention, imported
