# SPDX-License-Identifier: Apache-2.0
"""The trusted proxy of an OCALL: lend the host copies, call out, copy back."""

from collections.abc import Iterable

from ensconce.edl.model import Direction, Interface, Parameter
from ensconce.sdk.bridges import deep
from ensconce.sdk.bridges.declarations import ms_type, proxy_parameters
from ensconce.sdk.bridges.sizes import size_of
from ensconce.sdk.bridges.writer import Scope, Writer

__all__ = ["proxy"]


def proxy(writer: Writer, interface: Interface, index: int, taken: Iterable[str]) -> None:
    """Write the trusted proxy of OCALL number `index`."""
    _Proxy(writer, interface, index, taken).write()


class _Proxy:
    """What the parts of one proxy share."""

    def __init__(
        self, writer: Writer, interface: Interface, index: int, taken: Iterable[str]
    ) -> None:
        self.out = writer
        self.interface = interface
        self.index = index
        self.ocall = interface.ocalls[index]
        names = (item.name for item in self.ocall.parameters)
        self.local = Scope((*taken, "retval", *names))
        self.copied = [item for item in self.ocall.parameters if item.checked]
        self.ms = self.local("ms")
        self.status = self.local("status")
        self.arena = self.local("arena")

    def write(self) -> None:
        self.out.call(f"sgx_status_t SGX_CDECL {self.ocall.name}", proxy_parameters(self.ocall), "")
        with self.out.block():
            if self.ocall.naked:
                self.out.line(f"return {self._function()}({self.index}, NULL);")
            else:
                self._variables()
                self._lengths()
                self._checks()
                self._reserve()
                self._lend()
                self._call()
                self._fetch()
        self.out.line()

    def _function(self) -> str:
        return "sgx_ocall_switchless" if self.ocall.switchless else "sgx_ocall"

    # Names

    def _length(self, item: Parameter) -> str:
        return self.local(f"len_{item.name}")

    def _saved(self, item: Parameter) -> str:
        return self.local(f"deep_{item.name}")

    # Parts

    def _variables(self) -> None:
        kind = ms_type(self.ocall)
        self.out.line(f"{kind} {self.ms};")
        self.out.line(f"{kind}* {self.local('lent')} = NULL;")
        self.out.line(f"edl_arena_t {self.arena};")
        self.out.line(f"size_t {self.local('total')} = EDL_PADDED(sizeof({self.ms}));")
        self.out.line(f"sgx_status_t {self.status} = SGX_SUCCESS;")
        for item in self.copied:
            self.out.line(f"size_t {self._length(item)} = 0;")
            structure = self.interface.deep_structure(item)
            if structure is not None:
                self.out.line(f"{deep.type_name(structure)}* {self._saved(item)} = NULL;")
        self.out.line()

    def _refuse(self) -> None:
        with self.out.indented():
            self.out.line("return SGX_ERROR_INVALID_PARAMETER;")

    def _lengths(self) -> None:
        for item in self.copied:
            name, length = item.name, self._length(item)
            if item.string:
                cast = "" if item.type.name == "char" else "(const char*)"
                self.out.line(f"{length} = {name} != NULL ? strlen({cast}{name}) + 1 : 0;")
            elif item.wstring:
                size = f"(wcslen({name}) + 1) * sizeof(wchar_t)"
                self.out.line(f"{length} = {name} != NULL ? {size} : 0;")
            else:
                self._size(item, length)

    def _size(self, item: Parameter, length: str) -> None:
        size = size_of(item, self.interface, str, item.name)
        if size.count is None:
            self.out.line(f"{length} = {size.size};")
        else:
            self.out.line(f"if (!edl_multiply(&{length}, {size.size}, {size.count}))")
            self._refuse()

    def _checks(self) -> None:
        for item in self.copied:
            length = self._length(item)
            check = f"!edl_is_within({item.name}, {length})"
            size = size_of(item, self.interface, str, item.name)
            if size.element is not None and not item.is_text:
                check += f" || !edl_is_whole({item.name}, {length}, {size.element})"
            self.out.line(f"if ({check})")
            self._refuse()

    def _reserve(self) -> None:
        total = self.local("total")
        for item in self.copied:
            self.out.line(f"if (!edl_reserve(&{total}, {item.name}, {self._length(item)}))")
            self._refuse()
        for item in self.copied:
            structure = self.interface.deep_structure(item)
            if structure is not None:
                function = deep.reserve_name(structure)
                count = self._count(item)
                self.out.line(f"{function}(&{total}, {item.name}, {count}, &{self.status});")
        self.out.line()

    def _count(self, item: Parameter) -> str:
        return f"{self._length(item)} / sizeof({item.pointee})"

    def _lend(self) -> None:
        ms, status = self.ms, self.status
        self.out.line(f"memset(&{ms}, 0, sizeof({ms}));")
        self.out.line(f"edl_open(&{self.arena}, {self.local('total')}, &{status});")
        for item in self.ocall.parameters:
            self.out.line(f"{ms}.ms_{item.name} = {self._lent(item)};")
        lend = f"edl_lend(&{self.arena}, &{ms}, sizeof({ms}), &{status})"
        self.out.line(f"{self.local('lent')} = ({ms_type(self.ocall)}*){lend};")
        self.out.line()

    def _lent(self, item: Parameter) -> str:
        """Return what the host gets for a parameter."""
        by_address = item.dimensions or item.isary
        kind = item.type.pointer() if by_address else item.type
        cast = f"({'const ' if item.const else ''}{kind})"
        if not item.checked:
            return f"{cast}{item.name}" if by_address else item.name
        structure = self.interface.deep_structure(item)
        if structure is not None:
            return (
                f"{cast}{deep.lend_name(structure)}(&{self.arena}, {item.name}, "
                f"{self._count(item)}, &{self._saved(item)}, &{self.status})"
            )
        lend = "edl_lend" if item.direction & Direction.IN else "edl_lend_zeroed"
        return f"{cast}{lend}(&{self.arena}, {item.name}, {self._length(item)}, &{self.status})"

    def _call(self) -> None:
        status, lent = self.status, self.local("lent")
        self.out.line(f"if ({status} == SGX_SUCCESS)")
        with self.out.indented():
            self.out.line(f"{status} = {self._function()}({self.index}, {lent});")

    def _fetch(self) -> None:
        lent, status = self.local("lent"), self.status
        outputs = [item for item in self.copied if item.direction & Direction.OUT]
        errno = self.ocall.propagate_errno
        if outputs or errno or not self.ocall.result.is_void:
            with self.out.block(f"if ({status} == SGX_SUCCESS)"):
                if not self.ocall.result.is_void:
                    self._fetch_field("retval", f"{lent}->ms_retval", "sizeof(*retval)")
                for item in outputs:
                    self._fetch_one(item)
                if errno:
                    self._fetch_field("&errno", f"{lent}->ocall_errno", "sizeof(errno)")
        for item in self.copied:
            if self.interface.deep_structure(item) is not None:
                self.out.line(f"free({self._saved(item)});")
        self.out.line("sgx_ocfree();")
        self.out.line(f"return {status};")

    def _fetch_field(self, target: str, field: str, size: str) -> None:
        self.out.line(f"edl_fetch({target}, &{field}, {size}, &{self.status});")

    def _fetch_one(self, item: Parameter) -> None:
        source, length = f"{self.ms}.ms_{item.name}", self._length(item)
        structure = self.interface.deep_structure(item)
        if structure is not None:
            self.out.line(
                f"{deep.fetch_name(structure)}({item.name}, {source}, {self._saved(item)}, "
                f"{self._count(item)}, &{self.status});"
            )
            return
        kind = "_string" if item.string else "_wstring" if item.wstring else ""
        cast = "(char*)" if item.string and item.type.name != "char" else ""
        self.out.line(f"edl_fetch{kind}({cast}{item.name}, {source}, {length}, &{self.status});")
