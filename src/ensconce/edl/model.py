# SPDX-License-Identifier: Apache-2.0
"""What an enclave definition says: functions, parameters, types and the rules between them.

Objects compare by what they declare; where in a file they stand (`position`) does not count.
"""

from dataclasses import dataclass, field
from enum import Enum, Flag

__all__ = [
    "BUILTINS",
    "Composite",
    "Convention",
    "Direction",
    "Ecall",
    "EdlWarning",
    "EnumDefinition",
    "Enumerator",
    "Function",
    "Interface",
    "Kind",
    "Member",
    "Ocall",
    "Parameter",
    "Position",
    "StructDefinition",
    "Type",
    "UnionDefinition",
]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in an EDL file; line and column count from 1."""

    source: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"


NOWHERE = Position()


@dataclass(frozen=True, slots=True)
class EdlWarning:
    """Something that is allowed and probably not what its author meant."""

    message: str
    position: Position = NOWHERE


class Kind(Enum):
    """What the name in a type refers to."""

    BUILTIN = ""
    STRUCT = "struct"
    UNION = "union"
    ENUM = "enum"
    FOREIGN = "foreign"


# Size (and alignment) in bytes on x86-64 (System V); `void` has none.
BUILTINS = {
    "char": 1,
    "unsigned char": 1,
    "short int": 2,
    "unsigned short int": 2,
    "int": 4,
    "unsigned int": 4,
    "long int": 8,
    "unsigned long int": 8,
    "long long": 8,
    "unsigned long long": 8,
    "float": 4,
    "double": 8,
    "long double": 16,
    "int8_t": 1,
    "int16_t": 2,
    "int32_t": 4,
    "int64_t": 8,
    "uint8_t": 1,
    "uint16_t": 2,
    "uint32_t": 4,
    "uint64_t": 8,
    "size_t": 8,
    "wchar_t": 4,
    "void": 0,
}
FLOATS = ("float", "double", "long double")


@dataclass(frozen=True, slots=True)
class Type:
    """A C type as EDL writes it: a named type and how many pointers stand before it."""

    kind: Kind
    name: str
    stars: int = 0

    @property
    def base(self) -> str:
        """The C spelling without pointers."""
        tagged = self.kind in (Kind.STRUCT, Kind.UNION, Kind.ENUM)
        return f"{self.kind.value} {self.name}" if tagged else self.name

    def __str__(self) -> str:
        return self.base + "*" * self.stars

    @property
    def is_void(self) -> bool:
        """True for `void` itself, not for a pointer to it."""
        return self.stars == 0 and self.name == "void" and self.kind is Kind.BUILTIN

    @property
    def is_float(self) -> bool:
        """True for float, double and long double by value."""
        return self.stars == 0 and self.kind is Kind.BUILTIN and self.name in FLOATS

    def pointee(self) -> "Type":
        """Return the type that this pointer points to."""
        return Type(self.kind, self.name, self.stars - 1)

    def pointer(self) -> "Type":
        """Return the type of a pointer to this type."""
        return Type(self.kind, self.name, self.stars + 1)


VOID = Type(Kind.BUILTIN, "void")


class Direction(Flag):
    """Which way the edge routines copy what a pointer points to."""

    NONE = 0
    IN = 1
    OUT = 2
    IN_OUT = 3


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function.

    `size` and `count` are a number or the name of another parameter. `dimensions` is that of a
    declared array. `isptr` and `isary` say that a foreign type is a pointer or an array.
    """

    name: str
    type: Type
    dimensions: tuple[int, ...] = ()
    direction: Direction = Direction.NONE
    size: int | str | None = None
    count: int | str | None = None
    string: bool = False
    wstring: bool = False
    isptr: bool = False
    isary: bool = False
    readonly: bool = False
    user_check: bool = False
    const: bool = False
    position: Position = field(default=NOWHERE, compare=False, repr=False)

    @property
    def by_value(self) -> bool:
        """True for a parameter that the marshalling structure holds itself."""
        return not (self.type.stars or self.dimensions or self.isptr or self.isary)

    @property
    def checked(self) -> bool:
        """True for a pointer whose memory the edge routines check and copy."""
        return self.direction is not Direction.NONE

    @property
    def is_text(self) -> bool:
        """True for [string] and [wstring]."""
        return self.string or self.wstring

    @property
    def elements(self) -> int:
        """The number of elements of a declared array (1 for anything else)."""
        product = 1
        for dimension in self.dimensions:
            product *= dimension
        return product

    @property
    def pointee(self) -> Type:
        """What is pointed to: an array's element, a pointer's target, else the type itself."""
        if self.type.stars and not self.dimensions:
            return self.type.pointee()
        return self.type


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a structure or union; a pointer with size or count is copied deeply."""

    name: str
    type: Type
    dimensions: tuple[int, ...] = ()
    size: int | str | None = None
    count: int | str | None = None
    position: Position = field(default=NOWHERE, compare=False, repr=False)

    @property
    def deep(self) -> bool:
        """True for a pointer whose target is copied with the structure."""
        return self.size is not None or self.count is not None


@dataclass(frozen=True, slots=True)
class StructDefinition:
    """A structure that the EDL file defines."""

    name: str
    members: tuple[Member, ...]
    position: Position = field(default=NOWHERE, compare=False, repr=False)

    @property
    def deep_members(self) -> tuple[Member, ...]:
        """The members that are copied deeply."""
        return tuple(member for member in self.members if member.deep)


@dataclass(frozen=True, slots=True)
class UnionDefinition:
    """A union that the EDL file defines."""

    name: str
    members: tuple[Member, ...]
    position: Position = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Enumerator:
    """One name of an enumeration; `value` is a number, another name, or None for the next."""

    name: str
    value: int | str | None = None
    position: Position = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class EnumDefinition:
    """An enumeration that the EDL file defines; the name is empty when it has none."""

    name: str
    enumerators: tuple[Enumerator, ...]
    position: Position = field(default=NOWHERE, compare=False, repr=False)


Composite = StructDefinition | UnionDefinition | EnumDefinition


@dataclass(frozen=True, slots=True)
class Function:
    """What ECALLs and OCALLs have in common."""

    name: str
    result: Type = VOID
    parameters: tuple[Parameter, ...] = ()
    switchless: bool = False
    position: Position = field(default=NOWHERE, compare=False, repr=False)

    @property
    def naked(self) -> bool:
        """True when neither a parameter nor a result crosses, so no structure does."""
        return self.result.is_void and not self.parameters


@dataclass(frozen=True, slots=True)
class Ecall(Function):
    """A trusted function; a private one can only be called during an OCALL that allows it."""

    public: bool = False


class Convention(Enum):
    """Calling convention of an untrusted function (empty names on Linux)."""

    NONE = "NOCONVENTION"
    CDECL = "CDECL"
    STDCALL = "STDCALL"
    FASTCALL = "FASTCALL"


@dataclass(frozen=True, slots=True)
class Ocall(Function):
    """An untrusted function; `allow` names the ECALLs that may be made while it runs."""

    allow: tuple[str, ...] = ()
    propagate_errno: bool = False
    convention: Convention = Convention.NONE
    dllimport: bool = False

    @property
    def naked(self) -> bool:
        """True when neither a parameter, a result nor errno crosses."""
        return self.result.is_void and not self.parameters and not self.propagate_errno


@dataclass(frozen=True, slots=True)
class Interface:
    """A whole enclave definition, imports resolved.

    The number of an ECALL or OCALL is its place in `ecalls` or `ocalls`.
    """

    name: str
    includes: tuple[str, ...] = ()
    trusted_includes: tuple[str, ...] = ()
    untrusted_includes: tuple[str, ...] = ()
    composites: tuple[Composite, ...] = ()
    ecalls: tuple[Ecall, ...] = ()
    ocalls: tuple[Ocall, ...] = ()
    warnings: tuple[EdlWarning, ...] = field(default=(), compare=False)

    _composites: dict[str, Composite] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        found = {item.name: item for item in self.composites if item.name}
        object.__setattr__(self, "_composites", found)

    @property
    def identifier(self) -> str:
        """The name with everything that C does not allow in identifiers replaced by `_`."""
        return "".join(c if c.isascii() and c.isalnum() else "_" for c in self.name)

    def composite(self, name: str) -> Composite | None:
        """Return the structure, union or enumeration of that name, if it is here."""
        return self._composites.get(name)

    def structure(self, of: Type) -> StructDefinition | None:
        """Return the definition of the structure that `of` names or points to, if it is here."""
        if of.kind not in (Kind.STRUCT, Kind.FOREIGN):
            return None
        found = self._composites.get(of.name)
        return found if isinstance(found, StructDefinition) else None

    def deep_structure(self, parameter: Parameter) -> StructDefinition | None:
        """Return the structure that is copied deeply with this parameter, if there is one."""
        pointee = parameter.pointee
        if not parameter.checked or pointee.stars or pointee.kind is not Kind.STRUCT:
            return None
        found = self.structure(pointee)
        return found if found is not None and found.deep_members else None
