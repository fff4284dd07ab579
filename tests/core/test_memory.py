# SPDX-License-Identifier: Apache-2.0
"""Enclave memory: reservations, the two mappings, and what outlives what."""

import ctypes
import hashlib
import mmap
import os
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.rig import DATA, PAGE, Rig

from ensconce import _core
from ensconce.errors import EnclaveError
from ensconce.isa import measurement

KIB64 = 1 << 16


@pytest.mark.parametrize("size", [4096, KIB64, 1 << 30, 1 << 36])
def test_a_reservation_is_naturally_aligned(size: int) -> None:
    base = _core.reserve(size)
    assert base % size == 0
    _core.release(base, size)


@pytest.mark.parametrize("size", [0, 1, 4095, 12288, 1 << 47, (1 << 20) + 4096])
def test_a_size_that_is_no_power_of_two_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        _core.reserve(size)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError):
        _core.reserve("4096")  # type: ignore[arg-type] # on purpose
    with pytest.raises(OSError, match="argument"):
        _core.release(1, 1)


def test_memory_reads_as_zero_and_through_both_mappings(rig: Rig) -> None:
    view = rig.memory.alias_view(DATA, 16)
    assert bytes(view) == bytes(16)
    view[:8] = b"12345678"
    assert bytes(_core.view(rig.base + DATA, 8)) == b"12345678"
    _core.view(rig.base + DATA, 8)[:2] = b"ab"
    assert bytes(view[:8]) == b"ab345678"
    assert os.fstat(rig.memory.fd).st_size == rig.memory.size
    assert rig.memory.alias != rig.memory.base == rig.base


def test_discarded_pages_read_as_zero(rig: Rig) -> None:
    rig.memory.alias_view(DATA, 4)[:] = b"data"
    used = os.fstat(rig.memory.fd).st_blocks
    rig.memory.discard(DATA, PAGE)
    assert bytes(rig.memory.alias_view(DATA, 4)) == bytes(4)
    rig.memory.discard(DATA, PAGE)
    assert os.fstat(rig.memory.fd).st_blocks <= used


@pytest.mark.parametrize(
    ("offset", "length"),
    [(1, PAGE), (0, 1), (0, 0), (1 << 20, PAGE), (0, 1 << 40), (2**64 - PAGE, 2 * PAGE)],
)
def test_ranges_outside_are_refused(rig: Rig, offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="pages within"):
        rig.memory.protect(offset, length, 3)
    with pytest.raises(ValueError, match="pages within"):
        rig.memory.discard(offset, length)


@pytest.mark.parametrize(("offset", "length"), [(1 << 20, 1), (0, 1 << 40), (8, 2**64 - 8)])
def test_views_outside_are_refused(rig: Rig, offset: int, length: int) -> None:
    with pytest.raises(ValueError, match="within the enclave"):
        rig.memory.alias_view(offset, length)


def test_an_odd_base_or_size_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4096"):
        _core.Memory(123, 4096)
    with pytest.raises(ValueError, match="multiples of 4096"):
        _core.Memory(1 << 20, 0)


def test_a_view_outlives_its_closed_memory_and_reads_as_zero() -> None:
    base = _core.reserve(KIB64)
    memory = _core.Memory(base, KIB64)
    view = memory.alias_view(0, 8)
    view[:] = b"secret!!"
    memory.close()
    assert bytes(view) == bytes(8)
    with pytest.raises(ValueError, match="closed"):
        memory.alias_view(0, 8)
    view.release()
    memory.close()
    _core.release(base, KIB64)


def test_closed_memory_leaves_no_access_at_elrange() -> None:
    base = _core.reserve(KIB64)
    memory = _core.Memory(base, KIB64)
    memory.protect(0, KIB64, 3)
    memory.close()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mincore(ctypes.c_void_p(base), PAGE, ctypes.create_string_buffer(1)) == 0
    with open("/proc/self/maps") as maps:  # noqa: PTH123 # a file of the kernel's
        line = next(line for line in maps if line.startswith(f"{base:x}-"))
    assert "---p" in line
    _core.release(base, KIB64)


def test_memory_of_an_open_enclave_is_not_closed(rig: Rig) -> None:
    with pytest.raises(EnclaveError, match="close the enclave first"):
        rig.memory.close()


def test_a_large_enclave_costs_only_what_it_touches() -> None:
    size = 1 << 36
    base = _core.reserve(size)
    memory = _core.Memory(base, size)
    memory.protect(0, size, 3)
    memory.alias_view(size - PAGE, 4)[:] = b"last"
    assert bytes(_core.view(base + size - PAGE, 4)) == b"last"
    assert os.fstat(memory.fd).st_blocks * 512 <= 1 << 22
    memory.close()
    _core.release(base, size)


def test_enclaves_and_their_callbacks_are_collected() -> None:
    class Owner:
        def __init__(self) -> None:
            self.base = _core.reserve(KIB64)
            self.memory = _core.Memory(self.base, KIB64)
            self.enclave = _core.Enclave(self.memory, 1, 0, 4, 3, self.leaf, self.fault)

        def leaf(self, _frame: _core.Frame) -> None: ...

        def fault(self, _address: int, _error_code: int, _function: int) -> bool:
            return False

    import gc

    owner = Owner()
    count = sys.getrefcount(owner)
    assert count >= 4  # its bound methods are the enclave's
    del owner
    gc.collect()
    assert not [found for found in gc.get_objects() if isinstance(found, Owner)]


def test_a_device_is_mapped_over_a_reservation() -> None:
    base = _core.reserve(KIB64)
    fd = os.memfd_create("device")
    os.truncate(fd, KIB64)
    os.pwrite(fd, b"page two", PAGE)
    _core.map_device(fd, base, PAGE, mmap.PROT_READ | mmap.PROT_WRITE, PAGE)
    assert bytes(_core.view(base, 8)) == b"page two"
    with pytest.raises(OSError, match="Bad file"):
        _core.map_device(-1, base, PAGE, 3, 0)
    _core.release(base, KIB64)
    os.close(fd)


def reference(offset: int, flags: int, pages: bytes | None, count: int) -> bytes:
    out = bytearray()
    for page in range(count):
        at = offset + page * PAGE
        out += b"EADD\0\0\0\0" + at.to_bytes(8, "little") + flags.to_bytes(8, "little") + bytes(40)
        for chunk in range(0, PAGE if pages is not None else 0, 256):
            out += b"EEXTEND\0" + (at + chunk).to_bytes(8, "little") + bytes(48)
            out += (pages or b"")[page * PAGE + chunk :][:256]
    return bytes(out)


@given(
    offset=st.integers(0, 2**40).map(lambda page: page * PAGE),
    flags=st.integers(0, 2**64 - 1),
    count=st.integers(0, 3),
    seed=st.one_of(st.none(), st.binary(min_size=1, max_size=8)),
)
def test_the_measurement_records_are_the_manuals(
    offset: int, flags: int, count: int, seed: bytes | None
) -> None:
    pages = None if seed is None else hashlib.shake_128(seed).digest(count * PAGE)
    out = bytearray(5184 * 3 + 7)
    written = _core.fill_measurement(out, offset, flags, pages, count)
    assert bytes(out[:written]) == reference(offset, flags, pages, count)
    assert bytes(out[written:]) == bytes(len(out) - written)
    other = bytearray(len(out))
    assert measurement.fill_measurement(other, offset, flags, pages, count) == written
    assert other == out


@pytest.mark.parametrize(
    ("size", "pages", "count"),
    [(63, None, 1), (5183, bytes(PAGE), 1), (1 << 20, bytes(PAGE), 2), (1 << 20, b"", 1)],
)
def test_records_that_do_not_fit_are_refused(size: int, pages: bytes | None, count: int) -> None:
    with pytest.raises(ValueError, match="page"):
        _core.fill_measurement(bytearray(size), 0, 0, pages, count)
    with pytest.raises(ValueError, match="page"):
        _core.fill_measurement(bytearray(size), 0, 0, pages, 2**63)


def test_records_go_into_writable_buffers_only() -> None:
    with pytest.raises(TypeError):
        _core.fill_measurement(bytes(64), 0, 0, None, 1)  # type: ignore[arg-type] # on purpose


def test_the_processor_identifies_itself() -> None:
    assert _core.cpuid(0, 0)[0] >= 0xD
    assert _core.xcr0() & 3 == 3
    assert _core.emulated_enter_address() > 0
    assert _core.vdso_enter_address() >= 0


def test_a_negative_view_is_refused(make_rig: Callable[..., Rig]) -> None:
    with pytest.raises(ValueError, match="negative"):
        _core.view(make_rig().base, -1)
