# SPDX-License-Identifier: Apache-2.0
"""Random enclave definitions that keep every rule; HEADER defines their foreign types."""

from dataclasses import replace

from hypothesis import strategies as st

from ensconce.edl.headers import HEADER_TYPES, HeaderType
from ensconce.edl.model import (
    BUILTINS,
    VOID,
    Composite,
    Convention,
    Direction,
    Ecall,
    EnumDefinition,
    Enumerator,
    Interface,
    Kind,
    Member,
    Ocall,
    Parameter,
    StructDefinition,
    Type,
    UnionDefinition,
)

HEADER = """
#pragma once
#include <stdint.h>
typedef short number_t;
typedef struct { double a; char b; } record_t;
typedef int vector_t[3];
typedef unsigned char* pointer_t;
typedef const unsigned char* constant_t;
"""
HEADERS = {
    **HEADER_TYPES,
    "number_t": HeaderType(2, 2),
    "record_t": HeaderType(16, 8, scalar=False),
}
SCALARS = [Type(Kind.BUILTIN, name) for name in BUILTINS if name != "void"]
INTEGERS = [kind for kind in SCALARS if not kind.is_float]
# Names that the generated code uses itself stand among them.
NAMES = ["a", "b", "status", "ms", "pms", "lent", "total", "arena", "in_a", "len_a", "result"]
DIRECTIONS = st.sampled_from([Direction.IN, Direction.OUT, Direction.IN_OUT])
INWARD = st.sampled_from([Direction.IN, Direction.IN_OUT])
NUMBERS = st.integers(1, 9)


@st.composite
def members(draw: st.DrawFn, known: list[Type]) -> tuple[Member, ...]:
    of = st.sampled_from([*SCALARS, *known])
    found = [
        Member(f"m{index}", kind, tuple(draw(st.lists(NUMBERS, max_size=2))))
        for index, kind in enumerate(draw(st.lists(of, min_size=1, max_size=4)))
    ]
    if draw(st.booleans()):
        size = draw(st.one_of(st.none(), NUMBERS.map(lambda number: 8 * number), st.just("n")))
        kind = draw(st.sampled_from(SCALARS)).pointer()
        length = Member("n", draw(st.sampled_from(INTEGERS)))
        found += [length, Member("deep", kind, size=size, count="n" if size is None else None)]
    return tuple(found)


@st.composite
def composites(draw: st.DrawFn) -> list[Composite]:
    found: list[Composite] = []
    known: list[Type] = []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from([Kind.STRUCT, Kind.UNION, Kind.ENUM]))
        name = f"{kind.value}_{index}"
        if kind is Kind.ENUM:
            values = draw(st.lists(st.one_of(st.none(), st.integers(0, 1 << 30)), min_size=1))
            entries = tuple(Enumerator(f"E{index}_{i}", value) for i, value in enumerate(values))
            found.append(EnumDefinition(name, entries))
        elif kind is Kind.STRUCT:
            found.append(StructDefinition(name, draw(members(known))))
        else:
            plain = [replace(item, size=None, count=None) for item in draw(members(known))]
            found.append(UnionDefinition(name, tuple(plain)))
        last = found[-1]
        if not (isinstance(last, StructDefinition) and last.deep_members):
            known.append(Type(kind, name))
    return found


@st.composite
def parameter(draw: st.DrawFn, name: str, kinds: list[Type], lengths: list[str]) -> Parameter:
    way = draw(st.integers(0, 8))
    scalar = draw(st.sampled_from(SCALARS))
    sizes: list[int | str | None] = [8, *lengths]
    length = draw(st.sampled_from(sizes))
    if way == 0:
        return Parameter(name, Type(Kind.BUILTIN, "char", 1), direction=draw(INWARD), string=True)
    if way == 1:
        wide = Type(Kind.BUILTIN, "wchar_t", 1)
        return Parameter(name, wide, direction=draw(INWARD), wstring=True)
    if way == 2:
        pointer = Type(Kind.BUILTIN, "void", 1)
        count = draw(st.sampled_from([None, *sizes]))
        return Parameter(name, pointer, direction=draw(DIRECTIONS), size=length, count=count)
    if way == 3:
        const = draw(st.booleans())
        direction = Direction.IN if const else draw(DIRECTIONS)
        deeper = scalar.pointer() if draw(st.booleans()) else scalar
        return Parameter(name, deeper.pointer(), (), direction, count=length, const=const)
    if way == 4:
        dimensions = tuple(draw(st.lists(NUMBERS, min_size=1, max_size=3)))
        return Parameter(name, draw(st.sampled_from(kinds)), dimensions, draw(DIRECTIONS))
    if way == 5:
        return Parameter(name, scalar.pointer(), user_check=True, const=draw(st.booleans()))
    if way == 6:
        constant = draw(st.booleans())
        kind = Type(Kind.FOREIGN, "constant_t" if constant else "pointer_t")
        direction = Direction.IN if constant else draw(DIRECTIONS)
        return Parameter(name, kind, (), direction, length, isptr=True, readonly=constant)
    if way == 7:
        array = Type(Kind.FOREIGN, "vector_t")
        return Parameter(name, array, direction=draw(DIRECTIONS), isary=True)
    return Parameter(name, draw(st.sampled_from(kinds)))


@st.composite
def parameters(
    draw: st.DrawFn, kinds: list[Type], deep: list[Type], names: list[str]
) -> tuple[Parameter, ...]:
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    found = []
    lengths = []
    for name in chosen:
        deeply = draw(st.booleans())
        if draw(st.booleans()):
            found.append(Parameter(name, draw(st.sampled_from(INTEGERS))))
            lengths.append(name)
        elif deep and deeply:
            kind = draw(st.sampled_from(deep)).pointer()
            counts: list[int | str | None] = [None, 2, *lengths]
            count = draw(st.sampled_from(counts))
            found.append(Parameter(name, kind, direction=draw(INWARD), count=count))
        else:
            found.append(draw(parameter(name, kinds, lengths)))
    return tuple(draw(st.permutations(found)))


@st.composite
def interfaces(draw: st.DrawFn) -> Interface:
    """Draw an interface that reads back from its EDL text and whose C compiles."""
    defined = draw(composites())
    deep = [
        Type(Kind.STRUCT, item.name)
        for item in defined
        if isinstance(item, StructDefinition) and item.deep_members
    ]
    tags = {StructDefinition: Kind.STRUCT, UnionDefinition: Kind.UNION, EnumDefinition: Kind.ENUM}
    named = [Type(tags[type(item)], item.name) for item in defined]
    foreign = [Type(Kind.FOREIGN, name) for name in ("number_t", "record_t")]
    kinds: list[Type] = [*SCALARS, *foreign, *(kind for kind in named if kind not in deep)]
    results = st.sampled_from([VOID, *kinds, VOID.pointer(), *(kind.pointer() for kind in kinds)])
    ecalls = tuple(
        Ecall(
            f"ecall_{index}",
            draw(results),
            draw(parameters(kinds, deep, NAMES)),
            draw(st.booleans()),
            public=index == 0 or draw(st.booleans()),
        )
        for index in range(draw(st.integers(1, 4)))
    )
    allowed = st.lists(st.sampled_from([item.name for item in ecalls]), unique=True)
    ocalls = tuple(
        Ocall(
            f"ocall_{index}",
            draw(results),
            draw(parameters(kinds, deep, ["eid", *NAMES])),
            draw(st.booleans()),
            allow=tuple(draw(allowed)),
            propagate_errno=draw(st.booleans()),
            convention=draw(st.sampled_from(Convention)),
        )
        for index in range(draw(st.integers(0, 3)))
    )
    return Interface("Enclave", ("types.h",), (), (), tuple(defined), ecalls, ocalls)
