# SPDX-License-Identifier: Apache-2.0
"""The trusted bridge of an ECALL: check and copy in, call the function, copy out."""

from ensconce.edl.model import Direction, Ecall, Interface, Parameter
from ensconce.sdk.bridges import deep
from ensconce.sdk.bridges.declarations import ms_type
from ensconce.sdk.bridges.sizes import size_of
from ensconce.sdk.bridges.writer import Scope, Writer

__all__ = ["bridge", "bridge_name"]


def bridge_name(ecall: Ecall) -> str:
    """Return the name of the function in the ECALL table."""
    return f"sgx_{ecall.name}"


def bridge(writer: Writer, interface: Interface, ecall: Ecall, taken: set[str]) -> None:
    """Write the trusted bridge of one ECALL."""
    _Bridge(writer, interface, ecall, taken).write()


class _Bridge:
    """What the parts of one bridge share."""

    def __init__(self, writer: Writer, interface: Interface, ecall: Ecall, taken: set[str]) -> None:
        self.out = writer
        self.interface = interface
        self.ecall = ecall
        self.local = Scope(taken)
        self.copied = [item for item in ecall.parameters if item.checked]
        self.ms = self.local("ms")
        self.status = self.local("status")

    def write(self) -> None:
        pms = self.local("pms")
        head = f"static sgx_status_t SGX_CDECL {bridge_name(self.ecall)}(void* {pms})"
        self.out.line(head)
        with self.out.block():
            if self.ecall.naked:
                self._naked(pms)
            else:
                self._variables()
                self._open(pms)
                self._lengths()
                self._checks()
                self._copies_in()
                self._call(pms)
                self._frees()
                self.out.line(f"return {self.status};")
        self.out.line()

    def _naked(self, pms: str) -> None:
        self.out.line(f"if ({pms} != NULL)")
        with self.out.indented():
            self.out.line("return SGX_ERROR_INVALID_PARAMETER;")
        self.out.line(f"{self.ecall.name}();")
        self.out.line("return SGX_SUCCESS;")

    # Names

    def _member(self, name: str) -> str:
        return f"{self.ms}.ms_{name}"

    def _inside(self, item: Parameter) -> str:
        return self.local(f"in_{item.name}")

    def _length(self, item: Parameter) -> str:
        return self.local(f"len_{item.name}")

    def _type(self, item: Parameter) -> str:
        """Return the type of our copy: the parameter's, without const, arrays as pointers."""
        return str(item.type.pointer() if item.dimensions or item.isary else item.type)

    # Parts

    def _variables(self) -> None:
        self.out.line(f"{ms_type(self.ecall)} {self.ms};")
        self.out.line(f"sgx_status_t {self.status} = SGX_SUCCESS;")
        for item in self.copied:
            self.out.line(f"size_t {self._length(item)} = 0;")
            self.out.line(f"{self._type(item)} {self._inside(item)} = NULL;")
            structure = self.interface.deep_structure(item)
            if structure is not None:
                self.out.line(f"{deep.type_name(structure)}* {self._saved(item)} = NULL;")
        self.out.line()

    def _saved(self, item: Parameter) -> str:
        return self.local(f"deep_{item.name}")

    def _open(self, pms: str) -> None:
        self.out.line(f"if ({pms} == NULL || !sgx_is_outside_enclave({pms}, sizeof({self.ms})))")
        self._refuse("SGX_ERROR_INVALID_PARAMETER")
        self.out.line("sgx_lfence();")
        self.out.line("/* Read once: from here on the host can change its copy, but not ours. */")
        self.out.line(
            f"if (memcpy_s(&{self.ms}, sizeof({self.ms}), {pms}, sizeof({self.ms})) != 0)"
        )
        self._refuse("SGX_ERROR_UNEXPECTED")
        self.out.line()

    def _refuse(self, error: str) -> None:
        with self.out.indented():
            self.out.line(f"return {error};")

    def _lengths(self) -> None:
        for item in self.copied:
            length = self._length(item)
            if item.is_text:
                self.out.line(f"{length} = {self._member(item.name)}_len;")
                continue
            size = size_of(item, self.interface, self._member, self._member(item.name))
            if size.count is None:
                self.out.line(f"{length} = {size.size};")
            else:
                self.out.line(f"if (!edl_multiply(&{length}, {size.size}, {size.count}))")
                self._refuse("SGX_ERROR_INVALID_PARAMETER")

    def _checks(self) -> None:
        for item in self.copied:
            pointer, length = self._member(item.name), self._length(item)
            check = f"!edl_is_outside({pointer}, {length})"
            size = size_of(item, self.interface, self._member, pointer)
            if size.element is not None:
                check += f" || !edl_is_whole({pointer}, {length}, {size.element})"
            self.out.line(f"if ({check})")
            self._refuse("SGX_ERROR_INVALID_PARAMETER")
        if self.copied:
            self.out.line("sgx_lfence();")
            self.out.line()

    def _copies_in(self) -> None:
        for item in self.copied:
            function = _copy_in(item)
            arguments = f"{self._member(item.name)}, {self._length(item)}, &{self.status}"
            cast = f"({self._type(item)})"
            self.out.line(f"{self._inside(item)} = {cast}{function}({arguments});")
            structure = self.interface.deep_structure(item)
            if structure is not None:
                self.out.line(
                    f"{self._saved(item)} = {deep.enter_name(structure)}({self._inside(item)}, "
                    f"{self._count(item)}, &{self.status});"
                )

    def _count(self, item: Parameter) -> str:
        return f"{self._length(item)} / sizeof({item.pointee})"

    def _call(self, pms: str) -> None:
        if not self.copied:
            self._call_and_result(pms)
            return
        with self.out.block(f"if ({self.status} == SGX_SUCCESS)"):
            self._call_and_result(pms)
            for item in self.copied:
                if item.direction & Direction.OUT:
                    self._copy_out(item)

    def _call_and_result(self, pms: str) -> None:
        arguments = [self._argument(item) for item in self.ecall.parameters]
        if self.ecall.result.is_void:
            self.out.call(self.ecall.name, arguments)
            return
        result = self.local("result")
        self.out.call(f"{self.ecall.result} {result} = {self.ecall.name}", arguments)
        self.out.line()
        target = f"&(({ms_type(self.ecall)}*){pms})->ms_retval"
        self.out.line(f"edl_copy_out({target}, &{result}, sizeof({result}), &{self.status});")

    def _argument(self, item: Parameter) -> str:
        """Return what the trusted function gets for a parameter."""
        value = self._inside(item) if item.checked else self._member(item.name)
        if item.isary:
            return f"{value} != NULL ? *{value} : NULL"
        if len(item.dimensions) > 1:
            rest = "".join(f"[{dimension}]" for dimension in item.dimensions[1:])
            return f"({item.type} (*){rest}){value}"
        if item.const and item.type.stars > 1 and item.checked:
            return f"(const {item.type}){value}"
        return value

    def _copy_out(self, item: Parameter) -> None:
        inside, length = self._inside(item), self._length(item)
        structure = self.interface.deep_structure(item)
        if structure is not None:
            self.out.line(
                f"{deep.leave_name(structure)}({inside}, {self._saved(item)}, "
                f"{self._count(item)}, &{self.status});"
            )
        kind = "_string" if item.string else "_wstring" if item.wstring else ""
        cast = "(char*)" if item.string and item.type.name != "char" else ""
        self.out.line(
            f"edl_copy{kind}_out({self._member(item.name)}, {cast}{inside}, {length}, "
            f"&{self.status});"
        )

    def _frees(self) -> None:
        for item in self.copied:
            structure = self.interface.deep_structure(item)
            if structure is not None:
                free = deep.free_name(structure)
                self.out.line(f"{free}({self._saved(item)}, {self._count(item)});")
            cast = "(void*)" if item.readonly else ""
            self.out.line(f"free({cast}{self._inside(item)});")


def _copy_in(item: Parameter) -> str:
    if item.string:
        return "edl_copy_string_in"
    if item.wstring:
        return "edl_copy_wstring_in"
    return "edl_copy_in" if item.direction & Direction.IN else "edl_zeroed"
