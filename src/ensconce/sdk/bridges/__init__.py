# SPDX-License-Identifier: Apache-2.0
"""Edge routines in C: what carries an enclave's calls across its border, written from its EDL.

They keep the binary interface of the vendor's run-time libraries, so either side may be built
with either tool. The trusted side holds these rules, each for every function:

1. The marshalling structure lies outside the enclave, is fenced, and is read once.
2. size times count never wraps; a pointer's whole range lies outside; a fence follows the checks.
3. The function gets copies: [in] content, or zeroes for [out]; strings end where they must.
4. What goes back is copied to the addresses that were checked, never to what the host put there
   meanwhile; memory is freed on every path.
5. An OCALL gets its own untrusted memory, checked to be outside; only as much as was lent
   comes back, and never by an address that the host could change.
"""

from collections.abc import Mapping

from ensconce.edl.model import EnumDefinition, Interface
from ensconce.sdk.bridges import deep, ecalls, ocalls, prelude, tables, untrusted
from ensconce.sdk.bridges.declarations import (
    marshalling_structures,
    trusted_header,
    untrusted_header,
)
from ensconce.sdk.bridges.writer import Writer

__all__ = ["trusted_files", "untrusted_files"]


def trusted_files(interface: Interface, *, header_only: bool = False) -> Mapping[str, str]:
    """Return the enclave's files by name: NAME_t.h, NAME_t.c."""
    name = interface.name
    header = _begin(interface)
    trusted_header(header, interface)
    files = {f"{name}_t.h": str(header)}
    if not header_only:
        files[f"{name}_t.c"] = _trusted_source(interface)
    return files


def untrusted_files(
    interface: Interface, *, header_only: bool = False, prefix: bool = False
) -> Mapping[str, str]:
    """Return the host's files by name: NAME_u.h, NAME_u.c.

    With `prefix` the names of the functions that make ECALLs begin with the enclave's.
    """
    name = interface.name
    header = _begin(interface)
    untrusted_header(header, interface, prefix=prefix)
    files = {f"{name}_u.h": str(header)}
    if not header_only:
        files[f"{name}_u.c"] = _untrusted_source(interface, prefix=prefix)
    return files


def _begin(interface: Interface) -> Writer:
    writer = Writer()
    writer.line(f"/* Made from {interface.name}.edl by ensconce; changes here will be lost. */")
    return writer


def _names(interface: Interface) -> set[str]:
    """Return the names that generated functions refer to, which their locals must not hide."""
    names = {function.name for function in (*interface.ecalls, *interface.ocalls)}
    for function in (*interface.ecalls, *interface.ocalls):
        names.add(function.result.name)
        names |= {item.type.name for item in function.parameters}
    for composite in interface.composites:
        if isinstance(composite, EnumDefinition):
            names |= {entry.name for entry in composite.enumerators}
    return names


def _trusted_source(interface: Interface) -> str:
    taken = _names(interface)
    body = Writer()
    deep.functions(body, interface)
    for ecall in interface.ecalls:
        ecalls.bridge(body, interface, ecall, taken)
    tables.entry_table(body, interface)
    for index in range(len(interface.ocalls)):
        ocalls.proxy(body, interface, index, taken)
    out = _begin(interface)
    out.lines((f'#include "{interface.name}_t.h"', "", '#include "sgx_trts.h"'))
    out.lines(('#include "sgx_lfence.h"', "", "#include <errno.h>", "#include <mbusafecrt.h>"))
    out.lines(("#include <stdlib.h>", "#include <string.h>", ""))
    marshalling_structures(out, interface)
    for piece in prelude.prelude([str(body)]):
        out.text(piece)
    out.text(str(body))
    return str(out)


def _untrusted_source(interface: Interface, *, prefix: bool) -> str:
    taken = _names(interface)
    out = _begin(interface)
    out.lines((f'#include "{interface.name}_u.h"', "", "#include <errno.h>", ""))
    if not interface.ecalls:
        return str(out)  # without ECALLs there are no OCALLs to come
    marshalling_structures(out, interface)
    for ocall in interface.ocalls:
        untrusted.bridge(out, interface, ocall, taken)
    tables.ocall_table(out, interface)
    for index in range(len(interface.ecalls)):
        untrusted.proxy(out, interface, index, taken, prefix=prefix)
    return str(out)
