# SPDX-License-Identifier: Apache-2.0
"""Reading the process's memory by address, whatever the address."""

import errno
import mmap
import os
from collections.abc import Iterator

import pytest
from tests.machine.building import PAGE, Memory, refuses

from ensconce.machine.user_memory import copy_from_user, copy_to_file, untouched


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory(4 * PAGE)
    yield memory
    memory.close()


def test_bytes_are_read_where_they_are(memory: Memory) -> None:
    memory[100:105] = b"hello"
    assert copy_from_user(memory.address + 100, 5) == b"hello"


@pytest.mark.parametrize(
    "address", [0, 1, 1 << 46, 1 << 47, 1 << 63, (1 << 64) - PAGE, 1 << 64, -1]
)
def test_a_bad_address_is_efault(address: int) -> None:
    with refuses(errno.EFAULT):
        copy_from_user(address, 64)


def test_a_range_that_ends_in_the_open_is_efault(memory: Memory) -> None:
    memory.forbid(2 * PAGE)
    with refuses(errno.EFAULT):
        copy_from_user(memory.address + 2 * PAGE - 8, 16)
    assert len(copy_from_user(memory.address + 2 * PAGE - 8, 8)) == 8


def test_a_copy_ends_at_the_first_bad_address(memory: Memory) -> None:
    memory.forbid(3 * PAGE)
    file = os.memfd_create("test")
    assert copy_to_file(memory.address, 4 * PAGE, file, 0) == 3 * PAGE
    os.close(file)


def test_private_anonymous_memory_is_untouched_until_it_is_written(memory: Memory) -> None:
    assert untouched(memory.address, 4 * PAGE)
    memory[PAGE : PAGE + 1] = b"\1"
    assert not untouched(memory.address, 4 * PAGE)
    assert untouched(memory.address + 2 * PAGE, 2 * PAGE)


def test_shared_and_foreign_memory_is_never_taken_for_untouched(memory: Memory) -> None:
    shared = Memory(PAGE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    assert not untouched(shared.address, PAGE)
    assert not untouched(1 << 46, PAGE)
    memory.forbid(2 * PAGE)
    assert not untouched(memory.address, 4 * PAGE)
    shared.close()
