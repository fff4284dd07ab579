# SPDX-License-Identifier: Apache-2.0
"""A test enclave's bridges, built natively over a run-time that the test plays."""

import ctypes
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ensconce.edl import Interface, loads
from ensconce.edl.layout import Field, Layout
from ensconce.sdk.bridges import trusted_files

HERE = Path(__file__).parent
HARNESS = HERE / "harness"
SUCCESS, UNEXPECTED, INVALID_PARAMETER, OUT_OF_MEMORY = range(4)


class TestEnclave:
    """Calls bridges with marshalling structures as raw as a hostile host could make them."""

    __test__ = False

    def __init__(self, library: ctypes.CDLL, interface: Interface) -> None:
        self.library = library
        self.interface = interface
        self.layout = Layout(interface)
        self._keep: list[Any] = []
        library.enclave_malloc.restype = ctypes.c_void_p
        library.reset()

    # Memory

    def outside(self, content: bytes) -> int:
        """Return the address of a copy of `content` in the host's memory."""
        block = ctypes.create_string_buffer(content, max(1, len(content)))
        self._keep.append(block)
        return ctypes.addressof(block)

    def inside(self, content: bytes) -> int:
        """Return the address of a copy of `content` in the enclave's memory."""
        address: int = self.library.enclave_malloc(ctypes.c_size_t(len(content)))
        ctypes.memmove(address, content, len(content))
        self.set("live", 0)
        return address

    def read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)

    def write(self, address: int, content: bytes) -> None:
        ctypes.memmove(address, content, len(content))

    @property
    def enclave_base(self) -> int:
        return ctypes.addressof(ctypes.c_char.in_dll(self.library, "enclave_memory"))

    def is_inside(self, address: int | None) -> bool:
        return address is not None and 0 <= address - self.enclave_base < 1 << 20

    # State of the run-time

    def set(self, name: str, value: int) -> None:
        ctypes.c_int.in_dll(self.library, name).value = value

    def get(self, name: str) -> int:
        return ctypes.c_int.in_dll(self.library, name).value

    def set_pointer(self, name: str, value: int | None) -> None:
        ctypes.c_void_p.in_dll(self.library, name).value = value

    def table(self, name: str, size: int) -> bytes:
        """Return the first `size` bytes of a table that the run-time reads."""
        return self.read(ctypes.addressof(ctypes.c_char.in_dll(self.library, name)), size)

    @property
    def events(self) -> str:
        return ctypes.string_at(
            ctypes.addressof(ctypes.c_char.in_dll(self.library, "events"))
        ).decode()

    @property
    def last_seen(self) -> int | None:
        return ctypes.c_void_p.in_dll(self.library, "last_seen").value

    # Calls

    def bridge(self, name: str) -> Callable[[int | None], int]:
        """Return the entry of g_ecall_table for an ECALL."""
        number = [ecall.name for ecall in self.interface.ecalls].index(name)
        table = ctypes.addressof(ctypes.c_size_t.in_dll(self.library, "g_ecall_table"))
        entry = ctypes.c_void_p.from_address(table + 8 + 16 * number).value
        assert entry is not None
        return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(entry)

    def ecall(self, name: str, **fields: int) -> tuple[int, int | None]:
        """Make an ECALL; return its status and ms_retval (None where there is none)."""
        function = next(item for item in self.interface.ecalls if item.name == name)
        layout = self.layout.marshalling(function)
        assert layout is not None
        content = bytearray(layout.size)
        for field, value in fields.items():
            place = layout.fields[f"ms_{field}"]
            content[place.offset : place.offset + place.size] = _bytes(value, place.size)
        address = self.outside(bytes(content))
        status = self.bridge(name)(address)
        result = layout.fields.get("ms_retval")
        if result is None:
            return status, None
        return status, int.from_bytes(self.read(address + result.offset, result.size), "little")

    def fields(self, name: str, address: int) -> dict[str, int]:
        """Return the fields of an OCALL's marshalling structure as numbers."""
        return {
            key: int.from_bytes(self.read(address + place.offset, place.size), "little")
            for key, place in self.places(name).items()
        }

    def places(self, name: str) -> Mapping[str, Field]:
        function = next(item for item in self.interface.ocalls if item.name == name)
        layout = self.layout.marshalling(function)
        assert layout is not None
        return layout.fields

    def play_host(self, function: Callable[[int, int], int]) -> None:
        """Let `function` (index, address of the structure) be the host's side of OCALLs."""

        def answer(index: int, ms: int | None) -> int:
            return function(index, ms or 0)

        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
        callback = kind(answer)
        self._keep.append(callback)
        pointer = ctypes.cast(callback, ctypes.c_void_p)
        ctypes.c_void_p.in_dll(self.library, "host").value = pointer.value

    def ocall(self, name: str, *arguments: int) -> int:
        """Call the trusted proxy of an OCALL with arguments of 64 bits; return the status."""
        status: int = self.library[name](
            *(ctypes.c_uint64(value & (1 << 64) - 1) for value in arguments)
        )
        return status


def _bytes(value: int, size: int) -> bytes:
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


@pytest.fixture(scope="session")
def bridges_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("bridges")
    interface = loads((HARNESS / "Enclave.edl").read_text())
    for name, text in trusted_files(interface).items():
        (folder / name).write_text(text)
    renamed = [f"-D{name}=enclave_{name}" for name in ("malloc", "calloc", "free")]
    flags = ["-O2", "-g", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{HERE / 'include'}"]
    checks = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    sources = [str(folder / "Enclave_t.c"), str(HARNESS / "enclave.c")]
    subprocess.run(
        ["gcc", *flags, *checks, *renamed, f"-I{folder}", "-c", *sources], check=True, cwd=folder
    )
    subprocess.run(["gcc", *flags, "-c", str(HARNESS / "runtime.c")], check=True, cwd=folder)
    objects = ["Enclave_t.o", "enclave.o", "runtime.o"]
    subprocess.run(["gcc", "-shared", "-o", "bridges.so", *objects], check=True, cwd=folder)
    return ctypes.CDLL(str(folder / "bridges.so"))


@pytest.fixture
def enclave(bridges_library: ctypes.CDLL) -> Iterator[TestEnclave]:
    made = TestEnclave(bridges_library, loads((HARNESS / "Enclave.edl").read_text()))
    yield made
    assert made.get("live") == 0, "a bridge left memory allocated"
    assert made.get("open_frames") == 0, "a proxy left untrusted memory allocated"
