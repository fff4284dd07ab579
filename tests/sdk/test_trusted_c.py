# SPDX-License-Identifier: Apache-2.0
"""Parts of the trusted runtime that make sense outside an enclave, compiled for this machine."""

import ctypes
import errno
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.sdk.toolchain_archives import INCLUDE, TRUSTED

_PAGE = 4096
_TOP = 1 << 64


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("native") / "trusted.so"
    sources = ["tstdc/pages.c", "tstdc/safecrt.c", "trts/bounds.c"]
    folders = [INCLUDE, TRUSTED / "trts", TRUSTED / "tstdc"]
    subprocess.run(
        ["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        + [f"-I{folder}" for folder in folders]
        + ["-o", library, *(TRUSTED / source for source in sources)],
        check=True,
    )
    found = ctypes.CDLL(str(library))
    found.pages_take.restype = ctypes.c_void_p
    return found


class _Pages(ctypes.Structure):
    _fields_ = [
        ("map", ctypes.c_void_p),
        ("base", ctypes.c_void_p),
        *((name, ctypes.c_size_t) for name in ("count", "top", "hint", "used", "peak")),
    ]


class _Heap:
    """A heap full of ones, as a host might leave it, with a model of who owns which page."""

    def __init__(self, native: ctypes.CDLL, pages: int) -> None:
        self.native = native
        self.memory = ctypes.create_string_buffer(b"\xff" * ((pages + 1) * _PAGE))
        start = -ctypes.addressof(self.memory) % _PAGE + ctypes.addressof(self.memory)
        self.pages = _Pages()
        self.owned: dict[int, int] = {}
        opened = native.pages_open(
            ctypes.byref(self.pages), ctypes.c_void_p(start), ctypes.c_size_t(pages * _PAGE)
        )
        assert opened == 0

    def take(self, count: int) -> int | None:
        at = self.native.pages_take(ctypes.byref(self.pages), ctypes.c_size_t(count))
        if at is None:
            return None
        assert isinstance(at, int)
        first = (at - (self.pages.base or 0)) // _PAGE
        assert 0 <= first <= self.pages.count - count
        for other, size in self.owned.items():
            assert first + count <= other or other + size <= first
        self.owned[first] = count
        return first

    def give(self, first: int, count: int) -> int:
        address = ctypes.c_void_p((self.pages.base or 0) + first * _PAGE)
        status: int = self.native.pages_give(
            ctypes.byref(self.pages), address, ctypes.c_size_t(count)
        )
        return status


@given(st.integers(2, 300), st.lists(st.integers(-20, 90), max_size=60))
def test_pages_are_lent_to_one_owner_at_a_time(
    native: ctypes.CDLL, size: int, steps: list[int]
) -> None:
    heap = _Heap(native, size)
    for step in steps:
        if step > 0:
            heap.take(step)
        elif heap.owned:
            first = sorted(heap.owned)[step % len(heap.owned)]
            assert heap.give(first, heap.owned.pop(first)) == 0
        assert heap.pages.used == sum(heap.owned.values()) <= heap.pages.peak
    for first in list(heap.owned):
        assert heap.give(first, heap.owned.pop(first)) == 0
    assert heap.pages.top == heap.pages.used == 0
    assert heap.take(heap.pages.count) == 0


def test_pages_that_nobody_owns_cannot_be_given_back(native: ctypes.CDLL) -> None:
    heap = _Heap(native, 100)
    assert heap.take(10) == 0
    assert heap.give(10, 1) == -1
    assert heap.give(9, 2) == -1
    assert heap.give(_TOP // _PAGE - 1, 1) == -1
    assert heap.give(0, _TOP // _PAGE - 1) == -1
    assert heap.give(3, 4) == 0
    assert heap.give(3, 4) == -1
    heap.owned = {0: 3, 7: 3}
    assert heap.take(5) == 10
    assert heap.take(4) == 3


def test_a_run_larger_than_the_heap_is_refused(native: ctypes.CDLL) -> None:
    heap = _Heap(native, 100)
    assert heap.take(0) is None
    assert heap.take(heap.pages.count + 1) is None
    assert heap.take(_TOP // 2) is None
    assert heap.take(heap.pages.count) == 0
    assert heap.take(1) is None


@given(
    base=st.integers(1, 2**47 // _PAGE).map(lambda page: page * _PAGE),
    size=st.integers(12, 40).map(lambda power: 1 << power),
    start=st.integers(0, _TOP - 1),
    length=st.integers(0, _TOP - 1) | st.integers(0, 64),
    near=st.integers(-64, 64) | st.none(),
)
def test_a_range_is_inside_or_outside_only_when_all_of_it_is(
    native: ctypes.CDLL, base: int, size: int, start: int, length: int, near: int | None
) -> None:
    ctypes.c_uint64.in_dll(native, "tee_base").value = base
    ctypes.c_uint64.in_dll(native, "tee_size").value = size
    if near is not None:
        start = base + (size if start % 2 else 0) + near
    last = start + max(length, 1) - 1
    arguments = ctypes.c_void_p(start), ctypes.c_size_t(length)
    inside = last < _TOP and base <= start and last < base + size
    outside = last < _TOP and (last < base or start >= base + size)
    assert native.sgx_is_within_enclave(*arguments) == inside
    assert native.sgx_is_outside_enclave(*arguments) == outside


@pytest.mark.parametrize("name", ["memcpy_s", "memmove_s", "memcpy_verw_s", "memmove_verw_s"])
@given(source=st.binary(max_size=70), room=st.integers(0, 80), offset=st.integers(0, 9))
def test_a_checked_copy_copies_all_or_leaves_zeros(
    native: ctypes.CDLL, name: str, source: bytes, room: int, offset: int
) -> None:
    buffer = ctypes.create_string_buffer(b"\xaa" * 128, 128)
    target = ctypes.addressof(buffer) + offset
    status = getattr(native, name)(
        ctypes.c_void_p(target), ctypes.c_size_t(room), source, ctypes.c_size_t(len(source))
    )
    fits = len(source) <= room
    assert status == (0 if fits else errno.ERANGE)
    written = source if fits else bytes(room)
    assert buffer.raw == b"\xaa" * offset + written + b"\xaa" * (128 - offset - len(written))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 24))
def test_an_overlapping_copy_for_the_host_is_right(
    native: ctypes.CDLL, start: int, end: int, size: int
) -> None:
    data = bytes(range(64))
    buffer = ctypes.create_string_buffer(data, 64)
    at = ctypes.addressof(buffer)
    native.memmove_verw(
        ctypes.c_void_p(at + end), ctypes.c_void_p(at + start), ctypes.c_size_t(size)
    )
    assert buffer.raw[end : end + size] == data[start : start + size]


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_buffers_are_compared_as_a_whole(native: ctypes.CDLL, left: bytes, right: bytes) -> None:
    size = min(len(left), len(right))
    equal = native.consttime_memequal(left, right, ctypes.c_size_t(size))
    assert equal == (left[:size] == right[:size])
    assert native.consttime_memequal(left, bytes(left), ctypes.c_size_t(len(left))) == 1


def test_a_copy_without_a_source_or_destination_is_an_error(native: ctypes.CDLL) -> None:
    buffer = ctypes.create_string_buffer(b"abc")
    size = ctypes.c_size_t(3)
    assert native.memcpy_s(None, size, b"abc", size) == errno.EINVAL
    assert native.memcpy_s(buffer, size, None, size) == errno.EINVAL
    assert buffer.raw == bytes(4)
    assert native.memset_s(buffer, size, 7, ctypes.c_size_t(9)) == errno.EOVERFLOW
    assert buffer.raw == b"\7\7\7\0"


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_threads_that_wait_by_the_futex_race_for_nothing(tmp_path: Path, sanitizer: str) -> None:
    own = Path(__file__).parent / "native"
    folders = [own / "libc", INCLUDE, TRUSTED / "trts", TRUSTED / "tstdc"]
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Werror", f"-fsanitize={sanitizer}"]
    command += [f"-I{folder}" for folder in folders]
    command += ["-pthread", "-o", str(tmp_path / "futex")]
    subprocess.run([*command, own / "futex.c", TRUSTED / "tstdc" / "futex.c"], check=True)
    done = subprocess.run(
        [tmp_path / "futex"], capture_output=True, text=True, timeout=120, check=False
    )
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("the compiler's thread sanitizer does not know this kernel's address layout")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_no_trusted_source_is_longer_than_500_lines() -> None:
    for path in TRUSTED.rglob("*"):
        if path.is_file():
            lines = path.read_text().splitlines()
            assert len(lines) < 500, path
            assert "SPDX-License-Identifier: Apache-2.0" in lines[0], path
