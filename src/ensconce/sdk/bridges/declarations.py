# SPDX-License-Identifier: Apache-2.0
"""C declarations: types, prototypes and the marshalling structures, whose layout is the ABI."""

from collections.abc import Iterator, Sequence

from ensconce.edl.layout import ms_fields
from ensconce.edl.model import (
    Composite,
    Ecall,
    EnumDefinition,
    Function,
    Interface,
    Member,
    Ocall,
    Parameter,
    StructDefinition,
)
from ensconce.sdk.bridges.writer import Writer

__all__ = [
    "declaration",
    "marshalling_structures",
    "ms_type",
    "parameters",
    "proxy_parameters",
    "trusted_header",
    "untrusted_header",
    "uproxy_name",
]


def ms_type(function: Function) -> str:
    """Return the name of a function's marshalling structure."""
    return f"ms_{function.name}_t"


def declaration(item: Parameter | Member) -> str:
    """Return the C declaration of a parameter or member."""
    const = "const " if isinstance(item, Parameter) and item.const else ""
    dimensions = "".join(f"[{dimension}]" for dimension in item.dimensions)
    return f"{const}{item.type} {item.name}{dimensions}"


def parameters(function: Function) -> list[str]:
    """Return the parameters of the function itself."""
    return [declaration(item) for item in function.parameters] or ["void"]


def proxy_parameters(function: Function, *first: str) -> list[str]:
    """Return the parameters of a proxy: `first`, where the result goes, and the function's own."""
    result = [] if function.result.is_void else [f"{function.result}* retval"]
    return [*first, *result, *(declaration(item) for item in function.parameters)] or ["void"]


def uproxy_name(interface: Interface, ecall: Ecall, *, prefix: bool) -> str:
    """Return the name of the function with which the host makes an ECALL."""
    return f"{interface.identifier}_{ecall.name}" if prefix else ecall.name


def marshalling_structures(writer: Writer, interface: Interface) -> None:
    """Write the structures that carry parameters and results across the border."""
    for function in (*interface.ecalls, *interface.ocalls):
        if function.naked:
            continue
        name = ms_type(function)
        with writer.block(f"typedef struct {name}", f"}} {name};"):
            writer.lines(f"{kind} {field};" for field, kind in _fields(function))
        writer.line()


def _fields(function: Function) -> Iterator[tuple[str, str]]:
    for field in ms_fields(function):
        yield field.name, f"const {field.type}" if field.const else str(field.type)


def _composite(writer: Writer, item: Composite) -> None:
    if isinstance(item, EnumDefinition):
        head = f"typedef enum {item.name}" if item.name else "enum"
        with writer.block(head, f"}} {item.name};" if item.name else "};"):
            for entry in item.enumerators:
                value = "" if entry.value is None else f" = {entry.value}"
                writer.line(f"{entry.name}{value},")
        writer.line()
        return
    kind = "struct" if isinstance(item, StructDefinition) else "union"
    writer.lines((f"#ifndef _{item.name}", f"#define _{item.name}"))
    with writer.block(f"typedef {kind} {item.name}", f"}} {item.name};"):
        writer.lines(f"{declaration(member)};" for member in item.members)
    writer.lines(("#endif", ""))


def _open(writer: Writer, guard: str, system: Sequence[str], own: Sequence[str]) -> None:
    writer.lines((f"#ifndef {guard}", f"#define {guard}", ""))
    writer.lines(f"#include <{name}>" for name in system)
    writer.line('#include "sgx_edger8r.h"')
    writer.line()
    writer.lines(f'#include "{name}"' for name in own)
    writer.line()
    writer.lines(("#ifdef __cplusplus", 'extern "C" {', "#endif", ""))


def _close(writer: Writer, guard: str) -> None:
    writer.lines(("", "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {guard} */"))


def _guard(interface: Interface, side: str) -> str:
    name = f"{interface.identifier}_{side}_H__".upper()
    return f"_{name}" if name[0].isdigit() else name


def trusted_header(writer: Writer, interface: Interface) -> None:
    """Write NAME_t.h: the trusted functions as they are, and the proxies of the untrusted."""
    guard = _guard(interface, "T")
    own = (*interface.includes, *interface.trusted_includes)
    _open(writer, guard, ("stddef.h", "stdint.h", "stdlib.h", "wchar.h"), own)
    for item in interface.composites:
        _composite(writer, item)
    for ecall in interface.ecalls:
        writer.call(f"{ecall.result} {ecall.name}", parameters(ecall))
    writer.line()
    for ocall in interface.ocalls:
        writer.call(f"sgx_status_t SGX_CDECL {ocall.name}", proxy_parameters(ocall))
    _close(writer, guard)


def untrusted_header(writer: Writer, interface: Interface, *, prefix: bool) -> None:
    """Write NAME_u.h: the untrusted functions as they are, and the proxies of the trusted."""
    guard = _guard(interface, "U")
    own = (*interface.includes, *interface.untrusted_includes)
    _open(writer, guard, ("stddef.h", "stdint.h", "stdlib.h", "string.h", "wchar.h"), own)
    for item in interface.composites:
        _composite(writer, item)
    for ocall in interface.ocalls:
        _untrusted_function(writer, ocall)
    for ecall in interface.ecalls:
        name = uproxy_name(interface, ecall, prefix=prefix)
        writer.call(f"sgx_status_t {name}", proxy_parameters(ecall, "sgx_enclave_id_t eid"))
    _close(writer, guard)


def _untrusted_function(writer: Writer, ocall: Ocall) -> None:
    guard = f"{ocall.name.upper()}_DEFINED__"
    imported = "SGX_DLLIMPORT " if ocall.dllimport else ""
    head = f"{imported}{ocall.result} SGX_UBRIDGE(SGX_{ocall.convention.value}, {ocall.name}, "
    writer.lines((f"#ifndef {guard}", f"#define {guard}"))
    writer.call(head, parameters(ocall), ");")
    writer.lines(("#endif", ""))
