# SPDX-License-Identifier: Apache-2.0
"""Python functions as OCALLs: unpack what the enclave passed, call, pack what comes back.

What a function gets: numbers by value; bytes for [in]; a writable view for [out] and [in, out],
which ends with the call; str for [string]; an address for [user_check]; None for NULL.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from ensconce.edl.layout import MsLayout
from ensconce.edl.model import Direction, Ocall, Parameter
from ensconce.enclave.buffers import text_end
from ensconce.enclave.extents import Extent, extent
from ensconce.enclave.scalars import Scalar, Types, scalar
from ensconce.enclave.structures import StructureCodec
from ensconce.errors import ConfigError, FormatError, OcallError

__all__ = ["Frame", "Handler", "compile_ocall"]

Handler = Callable[["Frame", int], None]
Function = Callable[..., Any]

_WIDE = "utf-32-le"


class Frame:
    """The untrusted stack that an enclave's OCALLs lie on, as bytes and with its address."""

    __slots__ = ("base", "data")

    def __init__(self, base: int, data: memoryview) -> None:
        self.base = base
        self.data = data

    def inside(self, address: int, size: int) -> memoryview:
        """Return the memory at an address; OcallError where it is not all on the stack."""
        at = address - self.base
        if at < 0 or size < 0 or at + size > len(self.data):
            raise OcallError(
                f"the enclave passed {size} bytes at {address:#x}, which is not on the stack "
                "for OCALLs; it is damaged, or the EDL file is not the one it was built with"
            )
        return self.data[at : at + size]


class _Argument:
    """One parameter of an OCALL: where it lies, and what Python gets for it."""

    def __init__(self, ocall: Ocall, item: Parameter, offset: int, types: Types) -> None:
        self.name = item.name
        self.offset = offset
        self.scalar: Scalar | None = scalar(item.type, types) if item.by_value else None
        self.struct = struct.Struct("<" + ("Q" if self.scalar is None else self.scalar.code))
        self.checked = item.checked
        self.write = Direction.OUT in item.direction
        self.text = _WIDE if item.wstring else "utf-8" if item.string else ""
        self.extent: Extent | None = None
        self.codec: StructureCodec | None = None
        if item.checked and not item.is_text:
            self.extent = extent(ocall, item, types)
            deep = types.interface.deep_structure(item)
            if deep is not None:
                self.codec = StructureCodec(deep, types, types.sizeof(item.pointee))

    def raw(self, ms: memoryview) -> Any:
        """Return the field: a value, or a pointer's address."""
        (value,) = self.struct.unpack_from(ms, self.offset)
        if self.scalar is not None and self.scalar.decode is not None:
            return self.scalar.decode(value)
        return value

    def pointed(
        self, address: int, raw: Sequence[Any], frame: Frame, views: list[memoryview]
    ) -> Any:
        """Return what Python gets for a pointer whose target the edge routines have copied."""
        if address == 0:
            return None
        try:
            return self._copied(address, raw, frame, views)
        except (TypeError, ValueError) as error:
            raise OcallError(f"the enclave passed what its EDL forbids: {error}") from error

    def _copied(
        self, address: int, raw: Sequence[Any], frame: Frame, views: list[memoryview]
    ) -> Any:
        """Return text, a structure, bytes or a view, as the parameter's attributes say."""
        if self.text:
            return self._text(address, frame, views)
        assert self.extent is not None  # noqa: S101  # only text has none
        memory = frame.inside(address, self.extent(raw))
        if self.codec is not None and len(memory) == self.codec.size:
            values = self.codec.read(memory, frame.inside, write=self.write)
            views += (value for value in values.values() if isinstance(value, memoryview))
            return values
        if not self.write:
            return bytes(memory)
        views.append(memory)
        return memory

    def _text(self, address: int, frame: Frame, views: list[memoryview]) -> Any:
        """Return a string, or a view of it with its end when it may be changed."""
        width = 4 if self.text == _WIDE else 1
        rest = frame.inside(address, frame.base + len(frame.data) - address)
        end = text_end(rest, width)
        if end is None:
            raise OcallError(f"{self.name} is a string without an end")
        if self.write:
            view = rest[: end + width]
            views.append(view)
            return view
        errors = "surrogateescape" if width == 1 else "replace"
        return bytes(rest[:end]).decode(self.text, errors)


class _Result:
    """How a Python function's result goes back; `failed` is what stands for an OSError."""

    def __init__(self, ocall: Ocall, whole: MsLayout, types: Types) -> None:
        self.name = ocall.name
        self.declared = str(ocall.result)
        field = whole.fields.get("ms_retval")
        self.offset = field.offset if field is not None else -1
        self.scalar = scalar(ocall.result, types) if field is not None else None
        self.struct = struct.Struct("<" + ("" if self.scalar is None else self.scalar.code))
        self.failed: Any = 0 if ocall.result.stars else -1
        errno = whole.fields.get("ocall_errno")
        self.errno = errno.offset if errno is not None else -1

    def write(self, value: Any, ms: memoryview) -> None:
        """Store a result."""
        if self.scalar is None:
            return
        try:
            encoded = value if self.scalar.encode is None else self.scalar.encode(value)
            self.struct.pack_into(ms, self.offset, encoded)
        except (struct.error, OverflowError, TypeError, ValueError) as error:
            raise TypeError(
                f"OCALL {self.name} must return {self.declared} ({self.scalar.python}), "
                f"and returned {value!r}"
            ) from error


def compile_ocall(ocall: Ocall, function: Function, types: Types) -> Handler:
    """Return what calls a Python function for an OCALL.

    Raises ConfigError where the EDL does not tell a size.
    """
    try:
        whole = types.marshalling(ocall)
    except FormatError as error:
        raise ConfigError(f"{ocall.name}: {error}; pass types={{name: size}}") from error
    if whole is None:
        return lambda _frame, _ms: function() and None
    arguments = [
        _Argument(ocall, item, whole.fields[f"ms_{item.name}"].offset, types)
        for item in ocall.parameters
    ]
    result, size = _Result(ocall, whole, types), whole.size
    if not any(argument.checked for argument in arguments):
        return _plain(function, arguments, result, size)

    def handler(frame: Frame, address: int) -> None:
        ms = frame.inside(address, size)
        views: list[memoryview] = [ms]
        try:
            raw = [argument.raw(ms) for argument in arguments]
            values = [
                argument.pointed(value, raw, frame, views) if argument.checked else value
                for argument, value in zip(arguments, raw, strict=True)
            ]
            returned = _called(function, values, result, ms)
            for argument, value, at in zip(arguments, values, raw, strict=True):
                if argument.codec is not None and argument.write and isinstance(value, dict):
                    argument.codec.store(value, frame.inside(at, argument.codec.size))
            result.write(returned, ms)
        finally:
            for view in views:
                view.release()

    return handler


def _plain(function: Function, arguments: list[_Argument], result: _Result, size: int) -> Handler:
    """Return the handler of an OCALL whose parameters are all numbers or bare addresses."""
    codes, at = ["<"], 0
    for argument in arguments:
        codes += (f"{argument.offset - at}x", argument.struct.format.removeprefix("<"))
        at = argument.offset + argument.struct.size
    unpack = struct.Struct("".join(codes)).unpack_from
    decoders = [
        (index, argument.scalar.decode)
        for index, argument in enumerate(arguments)
        if argument.scalar is not None and argument.scalar.decode is not None
    ]

    def handler(frame: Frame, address: int) -> None:
        ms = frame.inside(address, size)
        values = list(unpack(ms))
        for index, decode in decoders:
            values[index] = decode(values[index])
        result.write(_called(function, values, result, ms), ms)

    return handler


def _called(function: Function, values: list[Any], result: _Result, ms: memoryview) -> Any:
    """Call the function; where errno is propagated, an OSError is errno and a failed result."""
    if result.errno < 0:
        return function(*values)
    errno = 0
    try:
        returned = function(*values)
    except OSError as error:
        returned = result.failed
        errno = error.errno or 0
    struct.pack_into("<i", ms, result.errno, errno)
    return returned
