# SPDX-License-Identifier: Apache-2.0
"""Eight threads in one enclave, with signals, kicks, leaves and page faults, for a while."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.core.rig import EENTER, PAGE, STORAGE, Rig

THREADS = 8
ROUNDS = 3000
COUNTER = STORAGE + 0x100


class Worker(threading.Thread):
    """Counts in its own page of the enclave until `end`, and notes what was not as it must be."""

    def __init__(self, rig: Rig, number: int, end: float) -> None:
        super().__init__()
        self.rig, self.number, self.end = rig, number, end
        self.turns = 0
        self.wrong: list[tuple[str, int, int]] = []

    def run(self) -> None:
        call, tcs = self.rig.new_call(), self.rig.tcs(self.number)
        while time.monotonic() < self.end:
            outcome = call.enter(EENTER, tcs, self.rig.symbols["count"], ROUNDS)
            if (outcome, call.rsi) != (0, ROUNDS):
                self.wrong.append(("count", outcome, call.vector))
            outcome = call.enter(EENTER, tcs, self.rig.symbols["leaf"], 1)
            if (outcome, call.r9) != (0, 0):
                self.wrong.append(("leaf", outcome, call.vector))
            self.turns += 1

    def counted(self) -> int:
        view = self.rig.memory.alias_view(self.rig.tcs_offset(self.number) + COUNTER, 8)
        return int.from_bytes(view, "little")


@contextmanager
def ringing() -> Iterator[list[int]]:
    """Have SIGALRM every millisecond."""
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        yield rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def soak(make_rig: Callable[..., Rig], seconds: float) -> None:
    """Evict the threads' pages under them, and kick them; no count may be lost."""

    def load(address: int, _error_code: int, _function: int) -> bool:
        rig.memory.protect(address - rig.base, PAGE, 3)
        return True

    rig = make_rig(threads=THREADS, leaf=lambda _frame: None, fault=load)
    end = time.monotonic() + seconds
    workers = [Worker(rig, number, end) for number in range(THREADS)]
    with ringing() as rung:
        for worker in workers:
            worker.start()
        while time.monotonic() < end:
            for number in range(THREADS):
                rig.memory.protect(rig.tcs_offset(number) + STORAGE, PAGE, 0)
            rig.enclave.kick()
            time.sleep(0.0005)
        for worker in workers:
            worker.join()
    assert rung
    assert [worker.wrong for worker in workers] == [[]] * THREADS
    assert [worker.counted() for worker in workers] == [ROUNDS * w.turns for w in workers]


def test_eight_threads_soak_for_a_moment(make_rig: Callable[..., Rig]) -> None:
    soak(make_rig, 1.0)


@pytest.mark.slow
def test_eight_threads_soak_for_a_minute(make_rig: Callable[..., Rig]) -> None:
    soak(make_rig, 60.0)
