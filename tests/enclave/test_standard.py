# SPDX-License-Identifier: Apache-2.0
"""The vendor's own OCALLs, and the memory that calls are built in."""

import struct
import threading
import time
from collections.abc import Callable

import pytest

from ensconce.enclave import Enclave, Status, Untrusted, describe, pinned
from ensconce.enclave.memory import Space
from ensconce.enclave.pool import Pool, ThreadPolicy
from ensconce.enclave.standard import StandardOcalls

Start = Callable[..., Enclave]


@pytest.fixture
def standard() -> StandardOcalls:
    pool = Pool("test", ThreadPolicy.BIND, grow=lambda: False)
    return StandardOcalls(pool, lambda leaf, subleaf: (leaf, subleaf, 3, 4))


def test_a_set_event_lets_its_thread_go_on_once(standard: StandardOcalls) -> None:
    assert standard.set(0x1000) == 0
    assert standard.wait(0x1000) == 0
    assert standard.wait_for(0x1000, 0) == Status.UNEXPECTED
    assert standard.set(0x1000) == 0
    assert standard.wait_for(0x1000, (1 << 64) - 1) == 0


def test_a_thread_waits_until_another_sets_its_event(standard: StandardOcalls) -> None:
    done: list[int] = []
    waiter = threading.Thread(target=lambda: done.append(standard.wait(1)))
    waiter.start()
    standard.set_many(struct.pack("<2Q", 1, 2), 2)
    waiter.join(5)
    assert done == [0]
    assert standard.set_and_wait(3, 2) == 0


def test_the_end_of_an_enclave_wakes_who_waits(standard: StandardOcalls) -> None:
    waiters = [threading.Thread(target=standard.wait, args=(each,)) for each in (1, 2)]
    for waiter in waiters:
        waiter.start()
    while any(waiter.is_alive() for waiter in waiters):
        standard.wake_all()
        time.sleep(0.001)


def test_cpuid_is_answered_in_place(standard: StandardOcalls) -> None:
    registers = memoryview(bytearray(16))
    standard.cpuidex(registers, -1, 7)
    assert struct.unpack("<4I", registers) == (0xFFFFFFFF, 7, 3, 4)


def test_a_new_thread_without_a_free_tcs_is_refused(standard: StandardOcalls) -> None:
    assert standard.create_thread(1) == Status.OUT_OF_TCS


def test_more_than_the_space_holds_is_given_memory_of_its_own(start: Start) -> None:
    enclave = start()
    assert enclave.length("x" * 300_000) == 300_000 * 1000 + 300_001
    assert enclave.length("x") == 1002


def test_a_space_is_left_as_it_was_found() -> None:
    space = Space(4096)
    address, view = space.room(100)
    assert address % 64 == 0
    assert len(view) == 100
    assert space.put(b"x" * 8192) != address
    space.pin(bytearray(3), writable=True)
    space.release(0, 0, 0)
    assert (space.top, space.held, space.after) == (0, [], [])


def test_a_pinned_buffer_has_its_own_address() -> None:
    memory = Untrusted(10)
    with pinned(memory.data, writable=True) as pin:
        assert (pin.address, pin.size) == (memory.address, 4096)
    with pytest.raises(BufferError), pinned(b"fixed", writable=True):
        pass


def test_codes_are_described_by_name_and_mend() -> None:
    assert describe(0x1003).startswith("SGX_ERROR_OUT_OF_TCS (0x1003): every TCS")
    assert describe(0) == "SGX_SUCCESS (0x0000)"
    assert describe(0x7777) == "status 0x7777"
