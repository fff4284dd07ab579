# SPDX-License-Identifier: Apache-2.0
"""Python functions for the ECALLs of an EDL file, each compiled once for its own parameters.

What a caller passes: numbers by value; bytes for [in]; a writable buffer, filled in place, for
[out] and [in, out]; a dict for a pointer to a structure of the EDL's, or a list of them; str or
bytes for [string]; an address for [user_check]; None for NULL.
"""

import inspect
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any, Protocol

from ensconce.edl.layout import MsLayout
from ensconce.edl.model import Direction, Ecall, Parameter
from ensconce.enclave.buffers import bytes_of, lend, text_end
from ensconce.enclave.extents import Extent, extent
from ensconce.enclave.memory import Space
from ensconce.enclave.scalars import Types, scalar
from ensconce.enclave.structures import StructureCodec, build_many
from ensconce.errors import ConfigError, FormatError

__all__ = ["Caller", "compile_ecall"]

_WIDE = 4  # wchar_t

Stage = Callable[[Any, Sequence[Any], Space, Callable[[Any], None]], None]


class Caller(Protocol):
    """What runs ECALLs on the calling thread: its memory, and the call itself."""

    space: Space

    def ecall(self, number: int, ms: int) -> None:
        """Make the ECALL of that number; returns when it has ended well, else raises."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one ECALL's arguments are packed."""

    name: str
    number: int
    parameters: tuple[Parameter, ...]
    pack: struct.Struct
    stages: tuple[Stage, ...] | None  # None: the arguments are the fields
    result: tuple[struct.Struct, int, Callable[[Any], Any] | None] | None

    def bind(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the arguments in order, or raise TypeError as Python does."""
        names = [item.name for item in self.parameters]
        values = dict(zip(names, arguments, strict=False))
        unknown = [name for name in named if name not in names or name in values]
        values.update(named)
        if len(arguments) > len(names) or unknown or len(values) != len(names):
            takes = ", ".join(names) or "no arguments"
            raise TypeError(f"{self.name}() takes ({takes})")
        return tuple(values[name] for name in names)

    def explain(self, arguments: Sequence[Any], types: Types) -> TypeError | ValueError:
        """Return the error for the argument that could not be packed."""
        for item, value in zip(self.parameters, arguments, strict=True):
            if not item.by_value:
                continue
            kind = scalar(item.type, types)
            try:
                encoded = value if kind.encode is None else kind.encode(value)
                struct.pack("<" + kind.code, encoded)
            except (struct.error, OverflowError, TypeError, ValueError) as error:
                what = (
                    f"{self.name}({item.name}) takes {item.type}, which {value!r} is not: {error}"
                )
                number = isinstance(value, int | float) and kind.python in ("int", "float")
                return ValueError(what) if number else TypeError(what)
        return TypeError(f"{self.name}() can't pack its arguments")


def compile_ecall(
    ecall: Ecall, number: int, types: Types, caller: Callable[[], Caller]
) -> Callable[..., Any]:
    """Return a Python function that makes an ECALL.

    `caller` returns what makes ECALLs on the calling thread. Raises ConfigError where the EDL
    does not tell a size.
    """
    try:
        whole = types.marshalling(ecall)
    except FormatError as error:
        raise ConfigError(f"{ecall.name}: {error}; pass types={{name: size}}") from error
    if whole is None:
        proxy = _naked(ecall, number, caller)
    else:
        plan = _plan(ecall, number, whole, types)
        make = _plain if plan.stages is None else _staged
        proxy = make(plan, whole.size, types, caller)
    return _named(proxy, ecall)


def _naked(ecall: Ecall, number: int, caller: Callable[[], Caller]) -> Callable[..., Any]:
    """Return the function of an ECALL that takes and returns nothing."""

    def proxy() -> None:
        caller().ecall(number, 0)

    proxy.__name__ = ecall.name
    return proxy


def _plain(
    plan: _Plan, size: int, types: Types, caller: Callable[[], Caller]
) -> Callable[..., Any]:
    """Return the function of an ECALL whose arguments are all numbers."""
    count, number, pack = len(plan.parameters), plan.number, plan.pack.pack_into
    unpack, offset, decode = _result(plan)
    room = size + 63 & ~63

    def proxy(*arguments: Any, **named: Any) -> Any:
        if named or len(arguments) != count:
            arguments = plan.bind(arguments, named)
        thread = caller()
        space = thread.space
        at = space.top
        if at + room > space.size:
            raise MemoryError(f"{plan.name}: ECALLs are nested too deeply")
        try:
            pack(space.data, at, *arguments)
        except (struct.error, OverflowError, TypeError):
            raise plan.explain(arguments, types) from None
        space.top = at + room
        try:
            thread.ecall(number, space.address + at)
        finally:
            space.top = at
        if unpack is None:
            return None
        (value,) = unpack(space.data, at + offset)
        return value if decode is None else decode(value)

    return proxy


def _staged(
    plan: _Plan, size: int, types: Types, caller: Callable[[], Caller]
) -> Callable[..., Any]:
    """Return the function of an ECALL with pointers among its parameters."""
    count, number, pack = len(plan.parameters), plan.number, plan.pack.pack_into
    unpack, offset, decode = _result(plan)
    stages = plan.stages or ()
    room = size + 63 & ~63

    def proxy(*arguments: Any, **named: Any) -> Any:
        if named or len(arguments) != count:
            arguments = plan.bind(arguments, named)
        thread = caller()
        space = thread.space
        at, held, after = space.top, len(space.held), len(space.after)
        if at + room > space.size:
            raise MemoryError(f"{plan.name}: ECALLs are nested too deeply")
        space.top = at + room
        try:
            values: list[Any] = []
            append = values.append
            for stage, argument in zip(stages, arguments, strict=False):
                stage(argument, arguments, space, append)
            try:
                pack(space.data, at, *values)
            except (struct.error, OverflowError, TypeError):
                raise plan.explain(arguments, types) from None
            thread.ecall(number, space.address + at)
            if len(space.after) > after:
                for finish in space.after[after:]:
                    finish()
            if unpack is None:
                return None
            (value,) = unpack(space.data, at + offset)
            return value if decode is None else decode(value)
        finally:
            space.release(at, held, after)

    return proxy


def _result(
    plan: _Plan,
) -> tuple[Callable[..., Any] | None, int, Callable[[Any], Any] | None]:
    """Return how the result is read: unpacking function, offset, decoder."""
    if plan.result is None:
        return None, 0, None
    unpacker, offset, decode = plan.result
    return unpacker.unpack_from, offset, decode


def _plan(ecall: Ecall, number: int, whole: MsLayout, types: Types) -> _Plan:
    """Return how an ECALL's arguments are packed."""
    codes, at, plain = ["<"], 0, True
    stages: list[Stage] = []
    for item in ecall.parameters:
        kind = scalar(item.type, types) if item.by_value else None
        if kind is not None and kind.encode is None:
            stages.append(_pass)
        else:
            plain = False
            stages.append(_stage(ecall, item, types))
        names = {f"ms_{item.name}": "Q" if kind is None else kind.code}
        if item.is_text:
            names[f"ms_{item.name}_len"] = "Q"
        for name, code in names.items():
            field = whole.fields[name]
            codes += (f"{field.offset - at}x", code)
            at = field.offset + field.size
    result = None
    if "ms_retval" in whole.fields:
        kind = scalar(ecall.result, types)
        result = struct.Struct("<" + kind.code), whole.fields["ms_retval"].offset, kind.decode
    packer = struct.Struct("".join(codes))
    chosen = None if plain else tuple(stages)
    return _Plan(ecall.name, number, ecall.parameters, packer, chosen, result)


def _pass(
    argument: Any, _arguments: Sequence[Any], _space: Space, append: Callable[[Any], None]
) -> None:
    """Pass a number as it is."""
    append(argument)


def _stage(ecall: Ecall, item: Parameter, types: Types) -> Stage:
    """Return what turns one argument into fields of the marshalling structure."""
    where = f"{ecall.name}({item.name})"
    if item.by_value:
        encode = scalar(item.type, types).encode
        assert encode is not None  # noqa: S101  # else `_pass`
        return _encoded(encode, where)
    if not item.checked:
        return _encoded(_address, where)
    write = Direction.OUT in item.direction
    if item.is_text:
        return _text_stage(item, where, write=write)
    read = Direction.IN in item.direction
    size = extent(ecall, item, types)
    return _buffer_stage(size, _codec(item, types), where, read=read, write=write)


def _codec(item: Parameter, types: Types) -> StructureCodec | None:
    """Return what packs mappings for a pointer to a structure of the EDL's, None for any other."""
    deep = types.interface.deep_structure(item)
    if deep is not None:
        return StructureCodec(deep, types, types.sizeof(item.pointee))
    flat = None if item.pointee.stars else types.interface.structure(item.pointee)
    if flat is None or flat.deep_members:
        return None
    try:
        return StructureCodec(flat, types, types.sizeof(item.pointee))
    except FormatError:
        return None  # a member's size is not told: it takes bytes


def _encoded(encode: Callable[[Any], Any], where: str) -> Stage:
    """Return the stage of a value that has to be converted."""

    def stage(
        argument: Any, _arguments: Sequence[Any], _space: Space, append: Callable[[Any], None]
    ) -> None:
        try:
            append(encode(argument))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from None

    return stage


def _address(value: Any) -> int:
    """Return an address that a [user_check] parameter was given."""
    if value is None:
        return 0
    if not isinstance(value, int):
        raise TypeError(f"takes an address (int) or None, not {type(value).__name__}")
    return value


def _buffer_stage(
    size_of: Extent, codec: StructureCodec | None, where: str, *, read: bool, write: bool
) -> Stage:
    """Return the stage of a pointer with a size."""

    def stage(
        argument: Any, arguments: Sequence[Any], space: Space, append: Callable[[Any], None]
    ) -> None:
        if argument is None:
            append(0)
            return
        size = size_of(arguments)
        if codec is not None and isinstance(argument, Mapping | list | tuple):
            append(build_many(codec, argument, size, space, where, write=write))
        else:
            append(lend(argument, size, space, where, read=read, write=write))

    return stage


def _text_stage(item: Parameter, where: str, *, write: bool) -> Stage:
    """Return the stage of a [string] or [wstring]: its address and its size with the end."""
    encoding, end = ("utf-32-le", bytes(_WIDE)) if item.wstring else ("utf-8", b"\0")

    def incoming(
        argument: Any, _arguments: Sequence[Any], space: Space, append: Callable[[Any], None]
    ) -> None:
        if argument is None:
            append(0)
            append(0)
            return
        if isinstance(argument, str):
            data = argument.encode(encoding, "surrogateescape" if len(end) == 1 else "strict")
        elif isinstance(argument, bytes | bytearray | memoryview):
            data = bytes(argument)
        else:
            raise TypeError(f"{where} takes str or bytes, not {type(argument).__name__}")
        if text_end(data, len(end)) is not None:
            raise ValueError(f"{where} takes text without a zero character in it")
        data += end
        append(space.put(data))
        append(len(data))

    def both_ways(
        argument: Any, _arguments: Sequence[Any], space: Space, append: Callable[[Any], None]
    ) -> None:
        if argument is None:
            append(0)
            append(0)
            return
        found = text_end(bytes_of(argument, where, writable=True), len(end))
        if found is None:
            raise ValueError(f"{where} takes a buffer whose text ends with a zero character")
        size = found + len(end)
        append(lend(argument, size, space, where, read=True, write=True))
        append(size)

    return both_ways if write else incoming


def _named(proxy: Callable[..., Any], ecall: Ecall) -> Callable[..., Any]:
    """Give a proxy the name, parameters and declaration of its ECALL."""
    proxy.__name__ = proxy.__qualname__ = ecall.name
    inner = ", ".join(f"{item.type} {item.name}" for item in ecall.parameters)
    proxy.__doc__ = f"{ecall.result} {ecall.name}({inner})"
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    proxy.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(f"{item.name}_" if iskeyword(item.name) else item.name, kind)
            for item in ecall.parameters
        ]
    )
    return proxy
