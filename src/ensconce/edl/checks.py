# SPDX-License-Identifier: Apache-2.0
"""The rules between the parts of an enclave definition, and what deserves a warning."""

from collections.abc import Iterator, Mapping, Sequence

from ensconce.edl.lexer import MAX_NUMBER, error
from ensconce.edl.model import (
    Composite,
    Direction,
    Ecall,
    EdlWarning,
    EnumDefinition,
    Function,
    Interface,
    Kind,
    Member,
    Parameter,
    Position,
    StructDefinition,
    Type,
)

__all__ = ["check", "ordered", "require_public_ecall"]


def check(interface: Interface) -> tuple[EdlWarning, ...]:
    """Raise FormatError at the first rule that is broken; return the warnings."""
    _check_unique(_function_names(interface), "function")
    _check_unique(_composite_names(interface), "type")
    _check_unique(_enumerator_names(interface), "enumerator")
    warnings = [*_check_composites(interface)]
    for function in (*interface.ecalls, *interface.ocalls):
        _check_parameter_names(function)
        _check_by_value(interface, function.result, function, function.position)
        parameters = {item.name: item for item in function.parameters}
        for parameter in function.parameters:
            warnings += _check_sizes(parameter, parameters, "parameter")
            warnings += _check_structure(interface, function, parameter)
    _check_allowed(interface)
    return (*warnings, *_orphans(interface))


def require_public_ecall(interface: Interface) -> None:
    """Raise FormatError for an enclave that nothing could ever enter."""
    if not any(ecall.public for ecall in interface.ecalls):
        raise error(
            Position(f"{interface.name}.edl", 1, 1),
            f"the enclave `{interface.name}` has no public ECALL, so nothing could enter it: "
            "declare one trusted function `public`",
        )


# Names


def _function_names(interface: Interface) -> Iterator[tuple[str, Position]]:
    for function in (*interface.ecalls, *interface.ocalls):
        yield function.name, function.position


def _composite_names(interface: Interface) -> Iterator[tuple[str, Position]]:
    for item in interface.composites:
        if item.name:
            yield item.name, item.position


def _enumerator_names(interface: Interface) -> Iterator[tuple[str, Position]]:
    for item in interface.composites:
        if isinstance(item, EnumDefinition):
            yield from ((entry.name, entry.position) for entry in item.enumerators)


def _check_unique(names: Iterator[tuple[str, Position]], what: str) -> None:
    seen: dict[str, Position] = {}
    for name, position in names:
        if name in seen:
            raise error(
                position,
                f"the {what} `{name}` is already defined at {seen[name]}: rename or remove one",
            )
        seen[name] = position


def _check_parameter_names(function: Function) -> None:
    _check_unique(((item.name, item.position) for item in function.parameters), "parameter")
    ecall = isinstance(function, Ecall)
    taken = {"eid"} if ecall else set()
    if not function.result.is_void:
        taken.add("retval")
    if ecall:
        taken |= {f"{item.name}_len" for item in function.parameters if item.is_text}
    for item in function.parameters:
        if item.name in taken:
            raise error(
                item.position,
                f"the parameter name `{item.name}` is taken by what is generated for "
                f"`{function.name}`: rename it",
            )


def _check_allowed(interface: Interface) -> None:
    known = {ecall.name for ecall in interface.ecalls}
    for ocall in interface.ocalls:
        for name in ocall.allow:
            if name not in known:
                raise error(
                    ocall.position,
                    f"`{ocall.name}` allows the ECALL `{name}`, which there is not: "
                    "declare it or remove it from allow()",
                )


def _orphans(interface: Interface) -> Iterator[EdlWarning]:
    allowed = {name for ocall in interface.ocalls for name in ocall.allow}
    for ecall in interface.ecalls:
        if not ecall.public and ecall.name not in allowed:
            yield EdlWarning(
                f"the private ECALL `{ecall.name}` can never be called: make it public or "
                "allow it in an OCALL",
                ecall.position,
            )


# Sizes


def _check_sizes(
    item: Parameter | Member, others: Mapping[str, Parameter | Member], what: str
) -> Iterator[EdlWarning]:
    """Check that a size and count are numbers or name something that holds a number."""
    for attribute, value in (("size", item.size), ("count", item.count)):
        if isinstance(value, str):
            _check_reference(item, attribute, value, others, what)
        elif value == 0:
            yield EdlWarning(
                f"`{attribute}=0` means that nothing is copied for `{item.name}`", item.position
            )
    size, count = item.size, item.count
    if isinstance(size, int) and isinstance(count, int) and size * count > MAX_NUMBER:
        raise error(
            item.position,
            f"size times count of `{item.name}` is larger than any memory: lower them",
        )


def _check_reference(
    item: Parameter | Member,
    attribute: str,
    value: str,
    others: Mapping[str, Parameter | Member],
    what: str,
) -> None:
    target = others.get(value)
    if target is None:
        raise error(
            item.position,
            f"`{attribute}={value}` of `{item.name}` names no {what}: name one that holds the "
            "number, or write the number",
        )
    by_value = not (target.type.stars or target.dimensions)
    if isinstance(target, Parameter):
        by_value = target.by_value
    if not by_value or target.type.is_float or target.type.kind in (Kind.STRUCT, Kind.UNION):
        raise error(
            item.position,
            f"`{attribute}={value}` of `{item.name}` names a {what} that is no integer: "
            "pass the number by value",
        )


# Structures


def ordered(composites: Sequence[Composite]) -> tuple[Composite, ...]:
    """Sort definitions so that each comes after those it needs, else in the given order."""
    places = {item.name: index for index, item in enumerate(composites) if item.name}
    done: dict[int, None] = {}
    for start in range(len(composites)):
        stack, open_ = [start], set[int]()
        while stack:
            index = stack[-1]
            needs: set[int] = set()
            if index not in done:
                needs = {need for need in _needs(composites[index], places) if need not in done}
            if not needs:
                done[stack.pop()] = None
                open_.discard(index)
                continue
            open_.add(index)
            if not open_.isdisjoint(needs):
                raise error(
                    composites[index].position,
                    f"`{composites[index].name}` contains itself, here or by way of another: "
                    "use a pointer to the tagged type",
                )
            stack += sorted(needs, reverse=True)
    return tuple(composites[index] for index in done)


def _needs(item: Composite, places: dict[str, int]) -> Iterator[int]:
    """Yield the places of the definitions that C must have seen before `item`."""
    for member in () if isinstance(item, EnumDefinition) else item.members:
        of = member.type
        by_name = of.kind is Kind.FOREIGN
        if of.kind is not Kind.BUILTIN and (by_name or not of.stars) and of.name in places:
            yield places[of.name]


def _check_composites(interface: Interface) -> Iterator[EdlWarning]:
    for item in interface.composites:
        if isinstance(item, EnumDefinition):
            continue
        _check_unique(((entry.name, entry.position) for entry in item.members), "member")
        members = {entry.name: entry for entry in item.members}
        for member in item.members:
            yield from _check_sizes(member, members, "member")
            yield from _deep_inside(interface, member)


def _deep_inside(interface: Interface, member: Member) -> Iterator[EdlWarning]:
    """Warn of pointers two levels down, which no deep copy follows."""
    inner = interface.structure(member.type)
    if inner is None or not inner.deep_members:
        return
    if member.deep or not member.type.stars:
        yield EdlWarning(
            f"member `{member.name}` holds `{inner.name}`, whose own pointers a deep copy does "
            "not follow: they cross unchecked",
            member.position,
        )


def _check_structure(
    interface: Interface, function: Function, parameter: Parameter
) -> Iterator[EdlWarning]:
    """Check how a parameter passes a structure that the EDL defines."""
    of = parameter.type
    found = interface.structure(of)
    if of.kind is Kind.FOREIGN:
        yield from _check_foreign(interface, function, parameter, found)
    elif found is not None and parameter.by_value:
        _check_by_value(interface, of, function, parameter.position)
        if any(member.type.stars for member in found.members):
            yield EdlWarning(
                f"`{function.name}` passes `struct {found.name}` by value: what its pointers "
                "point to is not copied",
                parameter.position,
            )
    elif parameter.direction is Direction.OUT and interface.deep_structure(parameter):
        raise error(
            parameter.position,
            f"parameter `{parameter.name}`: `struct {of.name}` is copied deeply, which `out` "
            "alone can't be: use `in, out`",
        )


def _check_by_value(interface: Interface, of: Type, function: Function, position: Position) -> None:
    found = interface.structure(of)
    if found is not None and not of.stars and found.deep_members:
        raise error(
            position,
            f"`{function.name}` passes `struct {found.name}` by value, and its members ask for "
            "a deep copy: pass a pointer",
        )


def _check_foreign(
    interface: Interface, function: Function, parameter: Parameter, found: StructDefinition | None
) -> Iterator[EdlWarning]:
    name = parameter.type.name
    if (parameter.isptr or parameter.isary) and interface.composite(name) is not None:
        attribute = "isptr" if parameter.isptr else "isary"
        raise error(
            parameter.position,
            f"parameter `{parameter.name}`: `{name}` is defined in EDL and no type that "
            f"`{attribute}` is for: remove the attribute",
        )
    if found is None:
        return
    if found.deep_members:
        raise error(
            parameter.position,
            f"parameter `{parameter.name}`: `{name}` is a structure that is copied deeply: "
            f"write `struct {name}`",
        )
    yield EdlWarning(
        f"`{name}` in `{function.name}` is a structure: write `struct {name}`", parameter.position
    )
