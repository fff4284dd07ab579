# SPDX-License-Identifier: Apache-2.0
"""Any interface's trusted bridges, compiled over the run-time of a hostile host."""

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.edl.strategies import HEADER, HEADERS

from ensconce.edl import Interface
from ensconce.edl.layout import Layout
from ensconce.edl.model import Ecall, Function, Ocall
from ensconce.sdk.bridges import trusted_files
from ensconce.sdk.bridges.declarations import parameters

HERE = Path(__file__).parent
HOST, SLOT, SLOTS, PAGE = 8 * 4096, 4 * 4096, 48, 4096
ENCLAVE = SLOTS * (SLOT + PAGE)
LARGEST = SLOT - 64  # the largest block that the enclave can allocate
TOP = 1 << 64

# The foreign types of HEADER; of an array or a pointer, the size of what stands behind it.
FOREIGN = {"number_t": 2, "record_t": 16, "vector_t": 12, "pointer_t": 1, "constant_t": 1}


class Finding(AssertionError):
    """A rule of the border that a bridge broke."""


def require(condition: object, *what: object) -> None:
    """Raise Finding unless `condition` holds."""
    if not condition:
        raise Finding(" ".join(map(str, what)))


class Event(NamedTuple):
    """What crossed the border: (r)ead, (w)rite, (c)all out, (t)rusted function, (f)ence."""

    kind: str
    address: int
    size: int
    content: bytes


class _Event(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("kind", "address", "size", "at")]


def glue(interface: Interface) -> str:
    """Return the trusted functions, which ask the test, and the drivers of the OCALLs."""
    lines = [f'#include "{interface.name}_t.h"', "#include <string.h>"]
    lines += ["void got(const void *argument, size_t size);"]
    lines += ["void act(unsigned int index, void *result, size_t size);", ""]
    for index, ecall in enumerate(interface.ecalls):
        lines += _trusted_function(index, ecall)
    for ocall in interface.ocalls:
        lines += _driver(ocall)
    return "\n".join(lines)


def _trusted_function(index: int, ecall: Ecall) -> list[str]:
    head = f"{ecall.result} {ecall.name}({', '.join(parameters(ecall))})"
    body = [f"    got(&{item.name}, sizeof {item.name});" for item in ecall.parameters]
    if ecall.result.is_void:
        body.append(f"    act({index}, NULL, 0);")
    else:
        body.insert(0, f"    {ecall.result} answer__;")
        body.append(f"    act({index}, &answer__, sizeof answer__);")
        body.append("    return answer__;")
    return [head, "{", *body, "}", ""]


def _driver(ocall: Ocall) -> list[str]:
    body, names = [], []
    if not ocall.result.is_void:
        body.append("    void *retval__; memcpy(&retval__, at__, 8); at__ += 8;")
        names.append("retval__")
    for item in ocall.parameters:
        kind, name = (f"{item.type} " if item.by_value else "void *"), item.name
        body.append(
            f"    {kind}{name}; memcpy(&{name}, at__, sizeof {name}); at__ += sizeof {name};"
        )
        names.append(name)
    call = f"    return (int){ocall.name}({', '.join(names)});"
    return [f"int drive_{ocall.name}(const uint8_t *at__)", "{", *body, call, "}", ""]


class Machine:
    """One interface's bridges and the memory on both sides of them."""

    def __init__(
        self,
        interface: Interface,
        folder: Path,
        change: Callable[[str], str] = str,
        level: str = "-O2",
    ) -> None:
        """Compile in `folder`; `change` may put a fault into the generated code.

        Compilers may read twice what is written once, so `level` is that of real enclaves.
        """
        self.interface = interface
        self.layout = Layout(interface, HEADERS)
        self.library = ctypes.CDLL(str(_compile(interface, folder, change, level)))
        self._bind()
        self.failure: BaseException | None = None
        self._free = 0

    def _bind(self) -> None:
        library = self.library
        library.enclave_malloc.restype = ctypes.c_void_p
        library.block_size.restype = ctypes.c_int64
        if library.prepare():
            raise OSError("no memory for the enclave and its host")
        pointers = [
            ctypes.c_uint64.in_dll(library, name).value
            for name in ("enclave", "host_low", "host_high")
        ]
        self.enclave, self.low, self.high = pointers
        self._low, self._high = (
            ctypes.addressof(ctypes.c_char.in_dll(library, name))
            for name in ("low_content", "high_content")
        )
        self._events = (_Event * 4096).in_dll(library, "events")
        self._data = ctypes.addressof(ctypes.c_char.in_dll(library, "data"))
        self.arguments = ctypes.addressof(ctypes.c_char.in_dll(library, "arguments"))
        self.results = ctypes.addressof(ctypes.c_char.in_dll(library, "results"))
        self._host_kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_uint64)
        self._trusted_kind = ctypes.CFUNCTYPE(None, ctypes.c_uint)
        self._kept: dict[str, Any] = {}

    def reset(self) -> None:
        self.library.reset()
        self.failure = None
        self._free = 0

    def get(self, name: str) -> int:
        return ctypes.c_uint64.in_dll(self.library, name).value

    def set(self, name: str, value: int) -> None:
        ctypes.c_uint64.in_dll(self.library, name).value = value

    def set_failing(self, count: int) -> None:
        """Let the allocation fail that is the `count`th from here."""
        ctypes.c_int.in_dll(self.library, "failing").value = count

    def answer(self, content: bytes) -> None:
        """Let trusted functions return `content`, as far as their type goes."""
        ctypes.memmove(self.results, content, len(content))

    # Memory

    def is_outside(self, address: int, size: int) -> bool:
        last = address + max(size, 1) - 1
        return last < TOP and (last < self.enclave or address >= self.enclave + ENCLAVE)

    def is_inside(self, address: int, size: int) -> bool:
        return self.enclave <= address and address + max(size, 1) <= self.enclave + ENCLAVE

    def _content(self, address: int, size: int) -> int | None:
        for base, content in ((self.low, self._low), (self.high, self._high)):
            if base <= address and address + size <= base + HOST:
                return content + address - base
        return None

    def host_write(self, address: int, content: bytes) -> None:
        """Let the host write, where it has memory."""
        place = self._content(address, len(content))
        if place is not None:
            ctypes.memmove(place, content, len(content))

    def host_read(self, address: int, size: int) -> bytes:
        place = self._content(address, size)
        require(place is not None, f"the host was given {address:#x}, which is not its own")
        return ctypes.string_at(place or 0, size)

    def place(self, size: int) -> int:
        """Return memory of the host's for `size` bytes, its first again when that is used up."""
        if self._free + size > HOST:
            self._free = 0
        address = self.low + self._free
        self._free += size + 8 & ~7
        return address

    def read(self, address: int, size: int) -> bytes:
        require(self.is_inside(address, size), f"{address:#x} is not the enclave's")
        return ctypes.string_at(address, size)

    def write(self, address: int, content: bytes) -> None:
        require(self.is_inside(address, len(content)), f"{address:#x} is not the enclave's")
        ctypes.memmove(address, content, len(content))

    def allocate(self, content: bytes) -> int:
        """Return a block of the enclave's with `content`, 0 when there is no room."""
        address: int | None = self.library.enclave_malloc(ctypes.c_size_t(len(content)))
        if address is not None:
            ctypes.memmove(address, content, len(content))
        return address or 0

    def free(self, address: int) -> None:
        self.library.enclave_free(ctypes.c_void_p(address))

    def block_size(self, address: int) -> int:
        return int(self.library.block_size(ctypes.c_void_p(address)))

    # Calls

    def events(self) -> list[Event]:
        found = []
        for each in self._events[: self.get("event_count")]:
            kept = 0 if chr(each.kind) in "ftc" else each.size
            content = ctypes.string_at(self._data + each.at, kept)
            found.append(Event(chr(each.kind), each.address, each.size, content))
        return found

    def play(self, name: str, function: Callable[..., int | None]) -> None:
        """Let `function` be the `host` (index, structure) or what is `trusted` (index)."""

        def answer(*values: int) -> int | None:
            try:
                return function(*values)
            except BaseException as error:
                self.failure = error
                return 1

        kind = self._host_kind if name == "host" else self._trusted_kind
        self._kept[name] = kind(answer)
        self.set(name, ctypes.cast(self._kept[name], ctypes.c_void_p).value or 0)

    def ecall(self, index: int, structure: int) -> int:
        table = ctypes.addressof(ctypes.c_size_t.in_dll(self.library, "g_ecall_table"))
        entry = ctypes.c_void_p.from_address(table + 8 + 16 * index)
        return self._call(entry, ctypes.c_uint64(structure))

    def ocall(self, function: Function, arguments: bytes) -> int:
        entry = ctypes.cast(self.library[f"drive_{function.name}"], ctypes.c_void_p)
        return self._call(entry, ctypes.c_char_p(arguments))

    def _call(self, entry: ctypes.c_void_p, argument: Any) -> int:
        status = int(self.library.guarded(entry, argument))
        if self.failure is not None:
            raise self.failure
        place = self.get("fault_address")
        require(not self.get("faults"), f"it faulted at {place:#x} (signal {self.get('faults')})")
        self.check()
        return status

    def check(self) -> None:
        """Raise Finding when the run-time saw what no bridge may do."""
        broken = ctypes.c_char_p.in_dll(self.library, "broken").value
        require(broken is None, (broken or b"").decode())


def _compile(interface: Interface, folder: Path, change: Callable[[str], str], level: str) -> Path:
    files = dict(trusted_files(interface))
    source = f"{interface.name}_t.c"
    files[source] = change(files[source])
    files |= {"glue.c": glue(interface), "types.h": HEADER}
    for name, text in files.items():
        (folder / name).write_text(text)
    flags = [level, "-g", "-fPIC", "-w", f"-I{HERE.parent / 'include'}", f"-I{folder}"]
    checks = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    checks += ["-fno-sanitize=alignment", "-fsanitize-coverage=trace-pc"]
    renamed = [f"-D{name}=enclave_{name}" for name in ("malloc", "calloc", "free")]
    output = folder / "bridges.so"
    for command in (
        [*checks, *renamed, "-c", source, "-o", "bridges.o"],
        ["-c", "glue.c", "-o", "glue.o"],
        ["-D_GNU_SOURCE", "-c", str(HERE / "runtime.c"), "-o", "runtime.o"],
        ["-shared", "-o", str(output), "bridges.o", "glue.o", "runtime.o"],
    ):
        subprocess.run(["gcc", *flags, *command], check=True, cwd=folder)
    return output
