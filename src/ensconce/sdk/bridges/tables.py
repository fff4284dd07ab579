# SPDX-License-Identifier: Apache-2.0
"""The tables that the run-time libraries read: whom an ECALL or OCALL number reaches."""

from ensconce.edl.model import Interface
from ensconce.sdk.bridges.ecalls import bridge_name
from ensconce.sdk.bridges.writer import Writer

__all__ = ["entry_table", "ocall_table"]


def entry_table(writer: Writer, interface: Interface) -> None:
    """Write g_ecall_table and g_dyn_entry_table, which the trusted run-time reads."""
    ecalls, ocalls = interface.ecalls, interface.ocalls
    with writer.block("SGX_EXTERNC const struct", "} g_ecall_table = {"):
        writer.line("size_t nr_ecall;")
        fields = "void* ecall_addr; uint8_t is_priv; uint8_t is_switchless;"
        writer.line(f"struct {{ {fields} }} ecall_table[{len(ecalls)}];")
    with writer.indented():
        writer.line(f"{len(ecalls)},")
        if ecalls:
            with writer.block():
                for ecall in ecalls:
                    address = f"(void*)(uintptr_t){bridge_name(ecall)}"
                    writer.line(
                        f"{{ {address}, {int(not ecall.public)}, {int(ecall.switchless)} }},"
                    )
    writer.lines(("};", ""))
    both = bool(ecalls and ocalls)
    writer.line("/* For each OCALL, which ECALLs may be made while it runs. */")
    with writer.block("SGX_EXTERNC const struct", "} g_dyn_entry_table = {"):
        writer.line("size_t nr_ocall;")
        if both:
            writer.line(f"uint8_t entry_table[{len(ocalls)}][{len(ecalls)}];")
    with writer.indented():
        writer.line(f"{len(ocalls)},")
        if both:
            with writer.block():
                for ocall in ocalls:
                    allowed = frozenset(ocall.allow)
                    row = ", ".join(str(int(ecall.name in allowed)) for ecall in ecalls)
                    writer.line(f"{{ {row} }},")
    writer.lines(("};", ""))


def ocall_table(writer: Writer, interface: Interface) -> None:
    """Write ocall_table_NAME, which the host hands to every ECALL."""
    count = len(interface.ocalls)
    with writer.block("static const struct", f"}} ocall_table_{interface.identifier} = {{"):
        writer.line("size_t nr_ocall;")
        writer.line(f"void* table[{max(count, 1)}];")
    with writer.indented():
        writer.line(f"{count},")
        with writer.block():
            for ocall in interface.ocalls:
                writer.line(f"(void*)(uintptr_t){interface.identifier}_{ocall.name},")
            if not count:
                writer.line("NULL,")
    writer.lines(("};", ""))
