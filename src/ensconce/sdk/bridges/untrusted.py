# SPDX-License-Identifier: Apache-2.0
"""The host's side: bridges that OCALLs arrive at, and the proxies that make ECALLs."""

from collections.abc import Iterable

from ensconce.edl.model import Interface, Ocall, Parameter
from ensconce.sdk.bridges.declarations import ms_type, proxy_parameters, uproxy_name
from ensconce.sdk.bridges.writer import Scope, Writer

__all__ = ["bridge", "proxy"]


def bridge(writer: Writer, interface: Interface, ocall: Ocall, taken: Iterable[str]) -> None:
    """Write the function that calls the host's own one with what the enclave sent."""
    local = Scope(taken)
    pms, ms = local("pms"), local("ms")
    name = f"{interface.identifier}_{ocall.name}"
    writer.line(f"static sgx_status_t SGX_CDECL {name}(void* {pms})")
    with writer.block():
        if ocall.naked:
            writer.line(f"if ({pms} != NULL)")
            with writer.indented():
                writer.line("return SGX_ERROR_INVALID_PARAMETER;")
            writer.line(f"{ocall.name}();")
        else:
            kind = ms_type(ocall)
            writer.line(f"{kind}* {ms} = ({kind}*){pms};")
            writer.line()
            result = "" if ocall.result.is_void else f"{ms}->ms_retval = "
            arguments = [_argument(item, f"{ms}->ms_{item.name}") for item in ocall.parameters]
            writer.call(f"{result}{ocall.name}", arguments)
            if ocall.propagate_errno:
                writer.line(f"{ms}->ocall_errno = errno;")
        writer.line("return SGX_SUCCESS;")
    writer.line()


def _argument(item: Parameter, field: str) -> str:
    """Return what the host's function gets for a field of the marshalling structure."""
    if item.isary:
        return f"{field} != NULL ? *{field} : NULL"
    if len(item.dimensions) > 1:
        rest = "".join(f"[{dimension}]" for dimension in item.dimensions[1:])
        return f"({item.type} (*){rest}){field}"
    return field


def proxy(
    writer: Writer, interface: Interface, index: int, taken: Iterable[str], *, prefix: bool
) -> None:
    """Write the function with which the host makes ECALL number `index`."""
    ecall = interface.ecalls[index]
    local = Scope((*taken, "eid", "retval", *(item.name for item in ecall.parameters)))
    ms, status = local("ms"), local("status")
    name = uproxy_name(interface, ecall, prefix=prefix)
    writer.call(f"sgx_status_t {name}", proxy_parameters(ecall, "sgx_enclave_id_t eid"), "")
    enter = "sgx_ecall_switchless" if ecall.switchless else "sgx_ecall"
    table = f"&ocall_table_{interface.identifier}"
    with writer.block():
        if ecall.naked:
            writer.line(f"return {enter}(eid, {index}, {table}, NULL);")
        else:
            writer.line(f"{ms_type(ecall)} {ms};")
            writer.line(f"sgx_status_t {status};")
            writer.line()
            for item in ecall.parameters:
                writer.lines(_assignments(item, f"{ms}.ms_{item.name}"))
            writer.line(f"{status} = {enter}(eid, {index}, {table}, &{ms});")
            if not ecall.result.is_void:
                writer.line(f"if ({status} == SGX_SUCCESS && retval != NULL)")
                with writer.indented():
                    writer.line(f"*retval = {ms}.ms_retval;")
            writer.line(f"return {status};")
    writer.line()


def _assignments(item: Parameter, field: str) -> Iterable[str]:
    """Yield the assignments that put a parameter in the marshalling structure."""
    name = item.name
    cast = f"({item.type}*)" if item.dimensions or item.isary else ""
    yield f"{field} = {cast}{name};"
    if item.string:
        text = name if item.type.name == "char" else f"(const char*){name}"
        yield f"{field}_len = {name} != NULL ? strlen({text}) + 1 : 0;"
    elif item.wstring:
        yield f"{field}_len = {name} != NULL ? (wcslen({name}) + 1) * sizeof(wchar_t) : 0;"
