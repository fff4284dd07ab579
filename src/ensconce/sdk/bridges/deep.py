# SPDX-License-Identifier: Apache-2.0
"""Deep copies: the functions that take along what a structure's members point to."""

from ensconce.edl.model import Direction, Interface, Member, StructDefinition
from ensconce.sdk.bridges.sizes import size_of
from ensconce.sdk.bridges.writer import Writer

__all__ = [
    "enter_name",
    "fetch_name",
    "free_name",
    "functions",
    "leave_name",
    "lend_name",
    "reserve_name",
    "type_name",
]


def type_name(structure: StructDefinition) -> str:
    """Return the type that remembers the buffers of one structure."""
    return f"deep_{structure.name}_t"


def enter_name(structure: StructDefinition) -> str:
    """Return the function that copies into the enclave (ECALL)."""
    return f"deep_{structure.name}_enter"


def leave_name(structure: StructDefinition) -> str:
    """Return the function that copies back out of the enclave (ECALL)."""
    return f"deep_{structure.name}_leave"


def free_name(structure: StructDefinition) -> str:
    """Return the function that frees what was copied in (ECALL)."""
    return f"deep_{structure.name}_free"


def reserve_name(structure: StructDefinition) -> str:
    """Return the function that sums up what is to be lent (OCALL)."""
    return f"deep_{structure.name}_reserve"


def lend_name(structure: StructDefinition) -> str:
    """Return the function that lends structures to the host (OCALL)."""
    return f"deep_{structure.name}_lend"


def fetch_name(structure: StructDefinition) -> str:
    """Return the function that copies lent structures back (OCALL)."""
    return f"deep_{structure.name}_fetch"


def functions(writer: Writer, interface: Interface) -> None:
    """Write the functions for every structure that some call copies deeply."""
    inward: dict[StructDefinition, Direction] = {}
    outward: dict[StructDefinition, Direction] = {}
    for calls, found in ((interface.ecalls, inward), (interface.ocalls, outward)):
        for call in calls:
            for item in call.parameters:
                structure = interface.deep_structure(item)
                if structure is not None:
                    found[structure] = found.get(structure, Direction.NONE) | item.direction
    for structure in {**inward, **outward}:
        emitter = _Emitter(writer, interface, structure)
        emitter.type()
        if structure in inward:
            emitter.enter()
            if inward[structure] & Direction.OUT:
                emitter.leave()
            emitter.free()
        if structure in outward:
            emitter.reserve()
            emitter.lend()
            if outward[structure] & Direction.OUT:
                emitter.fetch()


class _Emitter:
    """Writes the functions of one structure."""

    def __init__(self, writer: Writer, interface: Interface, structure: StructDefinition) -> None:
        self.out = writer
        self.interface = interface
        self.structure = structure
        self.members = structure.deep_members
        self.type_name = type_name(structure)
        self.tag = f"struct {structure.name}"

    def _size(self, member: Member, element: str) -> tuple[str, str, str]:
        """Return the C terms for size, count and element of what a member points to."""

        def value(name: str) -> str:
            return f"{element}.{name}"

        size = size_of(member, self.interface, value, value(member.name))
        return size.size, size.count or "1", size.element or "1"

    def type(self) -> None:
        self.out.line(f"/* The buffers that one {self.tag} points to. */")
        with self.out.block(f"typedef struct {self.type_name}", f"}} {self.type_name};"):
            self.out.lines(f"edl_block_t {member.name};" for member in self.members)
        self.out.line()

    def enter(self) -> None:
        head = f"static {self.type_name}* {enter_name(self.structure)}"
        self.out.line("/* Copies in what structures, themselves copied in before, point to. */")
        self.out.call(head, (f"{self.tag}* elements", "size_t count", "sgx_status_t* status"), "")
        with self.out.block():
            self.out.lines((f"{self.type_name}* saved;", "size_t i;", ""))
            self.out.line("if (*status != SGX_SUCCESS || elements == NULL)")
            self._then("return NULL;")
            self._allocate()
            with self.out.block("for (i = 0; i < count; i++)"):
                for member in self.members:
                    field = f"elements[i].{member.name}"
                    self.out.call(
                        "edl_block_enter",
                        (
                            f"&saved[i].{member.name}",
                            field,
                            *self._size(member, "elements[i]"),
                            "status",
                        ),
                    )
                    self.out.line(f"{field} = ({member.type})saved[i].{member.name}.inside;")
            self.out.line("return saved;")
        self.out.line()

    def _then(self, text: str) -> None:
        with self.out.indented():
            self.out.line(text)

    def _allocate(self) -> None:
        self.out.line(f"saved = ({self.type_name}*)calloc(count, sizeof(*saved));")
        with self.out.block("if (saved == NULL && count != 0)"):
            self.out.line("*status = SGX_ERROR_OUT_OF_MEMORY;")
            self.out.line("return NULL;")

    def leave(self) -> None:
        self.out.line(
            "/* Copies back what structures point to, and restores the host's pointers. */"
        )
        self.out.call(
            f"static void {leave_name(self.structure)}",
            (
                f"{self.tag}* elements",
                f"const {self.type_name}* saved",
                "size_t count",
                "sgx_status_t* status",
            ),
            "",
        )
        with self.out.block():
            self.out.lines(("size_t i;", ""))
            condition = "saved != NULL && i < count && *status == SGX_SUCCESS"
            with self.out.block(f"for (i = 0; {condition}; i++)"):
                for member in self.members:
                    field = f"elements[i].{member.name}"
                    self.out.call(
                        "edl_block_leave",
                        (
                            f"&saved[i].{member.name}",
                            field,
                            *self._size(member, "elements[i]"),
                            "status",
                        ),
                    )
                    self.out.line(f"{field} = ({member.type})saved[i].{member.name}.outside;")
        self.out.line()

    def free(self) -> None:
        parameters = (f"{self.type_name}* saved", "size_t count")
        self.out.call(f"static void {free_name(self.structure)}", parameters, "")
        with self.out.block():
            self.out.lines(("size_t i;", ""))
            if len(self.members) == 1:
                self.out.line("for (i = 0; saved != NULL && i < count; i++)")
                self._then(f"free(saved[i].{self.members[0].name}.inside);")
            else:
                with self.out.block("for (i = 0; saved != NULL && i < count; i++)"):
                    for member in self.members:
                        self.out.line(f"free(saved[i].{member.name}.inside);")
            self.out.line("free(saved);")
        self.out.line()

    def reserve(self) -> None:
        self.out.line("/* Adds what structures point to to the size of the arena to be. */")
        self.out.call(
            f"static void {reserve_name(self.structure)}",
            (
                "size_t* total",
                f"const {self.tag}* elements",
                "size_t count",
                "sgx_status_t* status",
            ),
            "",
        )
        with self.out.block():
            self.out.lines(("size_t i;", ""))
            with self.out.block("for (i = 0; elements != NULL && i < count; i++)"):
                for member in self.members:
                    field = f"elements[i].{member.name}"
                    size = self._size(member, "elements[i]")
                    self.out.call("edl_block_reserve", ("total", field, *size, "status"))
        self.out.line()

    def lend(self) -> None:
        self.out.line("/* Lends the host structures and what they point to. */")
        self.out.call(
            f"static {self.tag}* {lend_name(self.structure)}",
            (
                "edl_arena_t* arena",
                f"const {self.tag}* elements",
                "size_t count",
                f"{self.type_name}** lent",
                "sgx_status_t* status",
            ),
            "",
        )
        with self.out.block():
            self.out.lines((f"{self.type_name}* saved;", f"{self.tag}* outside;"))
            self.out.lines((f"{self.tag} element;", "size_t i;", ""))
            self.out.line("if (*status != SGX_SUCCESS || elements == NULL)")
            self._then("return NULL;")
            self._allocate()
            self.out.line("*lent = saved;")
            take = "edl_take(arena, count * sizeof(*elements), status)"
            self.out.line(f"outside = ({self.tag}*){take};")
            with self.out.block("for (i = 0; i < count && *status == SGX_SUCCESS; i++)"):
                self.out.line("element = elements[i];")
                self._lend_members()
                size = "sizeof(element)"
                copy = f"memcpy_verw_s(&outside[i], {size}, &element, {size})"
                self.out.line(f"if (*status == SGX_SUCCESS && {copy} != 0)")
                self._then("*status = SGX_ERROR_UNEXPECTED;")
            self.out.line("return outside;")
        self.out.line()

    def _lend_members(self) -> None:
        for member in self.members:
            size, count, _ = self._size(member, "elements[i]")
            field = f"&saved[i].{member.name}"
            arguments = (field, "arena", f"element.{member.name}", size, count, "status")
            self.out.call("edl_block_lend", arguments)
            self.out.line(f"element.{member.name} = ({member.type}){field[1:]}.outside;")

    def fetch(self) -> None:
        self.out.line("/* Copies lent structures back, with what our own pointers point to. */")
        self.out.call(
            f"static void {fetch_name(self.structure)}",
            (
                f"{self.tag}* elements",
                f"const {self.tag}* outside",
                f"const {self.type_name}* saved",
                "size_t count",
                "sgx_status_t* status",
            ),
            "",
        )
        with self.out.block():
            self.out.lines((f"{self.tag} element;", "size_t i;", ""))
            self.out.line("if (elements == NULL)")
            self._then("return;")
            with self.out.block("for (i = 0; i < count; i++)"):
                self.out.line("edl_fetch(&element, &outside[i], sizeof(element), status);")
                self.out.line("if (*status != SGX_SUCCESS)")
                self._then("return;")
                for member in self.members:
                    self._fetch_member(member)
                self.out.line("if (*status != SGX_SUCCESS)")
                self._then("return;")
                self.out.line("elements[i] = element;")
        self.out.line()

    def _fetch_member(self, member: Member) -> None:
        field = f"&saved[i].{member.name}"
        size = self._size(member, "element")
        self.out.call("edl_block_fetch", (field, f"element.{member.name}", *size, "status"))
        self.out.line(f"element.{member.name} = elements[i].{member.name};")
