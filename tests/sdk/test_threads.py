# SPDX-License-Identifier: Apache-2.0
"""Locks, condition variables and CPUID inside the enclave, with the host's threads."""

import errno
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ensconce import _core, enclave
from ensconce.image.config import EnclaveConfig
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain
from ensconce.sdk.toolchain_archives import INCLUDE

_FOLDER = Path(__file__).parent / "threads"
_THREADS = 4


@pytest.fixture(scope="module")
def threads(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    folder, edl = tmp_path_factory.mktemp("threads"), _FOLDER / "threads.edl"
    image = build([_FOLDER / "threads.c"], edl, folder / "threads.so", toolchain=toolchain)
    config = EnclaveConfig(tcs_num=_THREADS, tcs_min_pool=_THREADS - 1)
    sign(image, folder / "threads.signed.so", signing_key, config=config)
    with enclave.load(folder / "threads.signed.so", edl=edl, search_paths=[INCLUDE]) as loaded:
        yield loaded


@pytest.mark.parametrize("recursive", [0, 1])
def test_a_mutex_lets_no_increment_get_lost(threads: Any, recursive: int) -> None:
    rounds = 5000
    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(threads.count_up, rounds, recursive) for _ in range(_THREADS)]:
            done.result()
    assert threads.counted() == rounds * _THREADS


def test_readers_never_see_half_of_a_write(threads: Any) -> None:
    rounds = 2000
    with ThreadPoolExecutor(_THREADS) as pool:
        writers = [pool.submit(threads.write_both, rounds) for _ in range(2)]
        readers = [pool.submit(threads.read_both, rounds) for _ in range(2)]
        assert [reader.result() for reader in readers] == [0, 0]
        assert max(writer.result() for writer in writers) == 2 * rounds


def test_what_is_produced_is_consumed_once(threads: Any) -> None:
    count = 500
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = [pool.submit(threads.consume, count) for _ in range(2)]
        made = [pool.submit(threads.produce, count) for _ in range(2)]
        assert [each.result() for each in made] == [count, count]
        assert sum(each.result() for each in sums) == count * (count + 1)


def test_a_broadcast_wakes_every_waiter(threads: Any) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = [pool.submit(threads.wait_for_flag) for _ in range(_THREADS - 1)]
        assert threads.raise_flag() == 0
        assert [each.result() for each in waiting] == [0] * (_THREADS - 1)


def test_misuse_is_answered_and_not_the_end(threads: Any) -> None:
    assert threads.misuse() == 0


def test_without_the_ocalls_of_pthread_there_are_no_new_threads(threads: Any) -> None:
    assert threads.make_thread() == errno.ENOSYS


def test_cpuid_is_the_hosts_answer(threads: Any) -> None:
    registers = bytearray(16)
    assert threads.cpuid_agrees(registers, 7, 0) == 0
    (_, ebx, _, _) = struct.unpack("<4I", registers)
    assert ebx & 1 == _core.cpuid(7, 0)[1] & 1
