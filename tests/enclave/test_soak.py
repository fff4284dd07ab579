# SPDX-License-Identifier: Apache-2.0
"""A minute of everything at once: threads, OCALLs, exceptions and eviction in one enclave."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ensconce.enclave import Enclave, load
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

SECONDS = 60
THREADS = 8
PAGES = 200  # of the heap, shared by all threads: each writes what the others write


class Worker(threading.Thread):
    """Calls an enclave in every way it knows until the time is over; counts calls and faults."""

    def __init__(self, enclave: Enclave, seed: int, end: float) -> None:
        super().__init__()
        self._enclave = enclave
        self._random = random.Random(seed)  # noqa: S311  # nothing secret
        self._end = end
        self.calls = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        enclave, pick = self._enclave, self._random
        source = pick.randbytes(1 << 16)
        while time.monotonic() < self._end:
            size = pick.choice((1, 64, 5000, 1 << 16))
            target = bytearray(size)
            a, b = pick.randrange(1 << 40), pick.randrange(1 << 40)
            done = (
                enclave.add(a, b) == a + b
                and enclave.reverse(source, target, size) == size
                and target == source[:size][::-1]
                and enclave.relay(a) == 2 * a
                and enclave.through(b) == b + 100
                and enclave.survive(5) == 5
                and enclave.fill_heap(PAGES, 7) == PAGES * 8
                and enclave.check_heap(PAGES, 7) == PAGES * 8
            )
            self.calls += 8
            if not done:
                self.wrong.append((size, a, b))


@pytest.mark.slow
def test_eight_threads_run_for_a_minute_without_a_wrong_result(image: Callable[..., Any]) -> None:
    ocalls = {"twice": lambda value: 2 * value, "again": lambda value: enclave.add(value, 100)}
    enclave: Enclave = load(
        image(threads=THREADS, heap_pages=PAGES),
        device=DriverModel(Processor(Identity.generate(), epc_size=200 * 4096)),
        edl=Path(__file__).parent / "sample" / "sample.edl",
        types={"handle_t": 4},
        ocalls=ocalls,
    )
    end = time.monotonic() + SECONDS
    workers = [Worker(enclave, seed, end) for seed in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.wrong for worker in workers] == [[]] * THREADS
    assert all(worker.calls for worker in workers)
    enclave.close()
