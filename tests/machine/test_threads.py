# SPDX-License-Identifier: Apache-2.0
"""Threads inside enclaves while pages leave and come back under them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.machine.building import (
    DATA,
    HEAP,
    LEAF,
    PAGE,
    PEEK,
    POKE,
    RW,
    SPIN,
    TCS,
    Loaded,
    Memory,
    Parts,
    basic_parts,
    request,
    tcs,
)
from tests.machine.conftest import Builder

from ensconce import _core
from ensconce.errors import DeviceError
from ensconce.isa.keyrequest import KeyName, KeyRequest
from ensconce.isa.leaves import Enclu
from ensconce.isa.secinfo import PageType
from ensconce.machine import uapi
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

COUNT = DATA * PAGE
FIRST_TCS = 48
THREADS = 3


def count(loaded: Loaded) -> int:
    """Return what the spinning thread has counted to, without asking the enclave."""
    return int.from_bytes(loaded.device.debug_read(loaded.base + COUNT, 8), "little")


def stop(loaded: Loaded) -> None:
    """Let the spinning thread leave."""
    with loaded.device.processor.lock:
        if loaded.secs.epcm.get(DATA) is not None:
            loaded.secs.alias[COUNT + 8] = 1


@contextmanager
def spinning(loaded: Loaded) -> Iterator[list[int]]:
    """Run a thread that counts inside; yield a list that gets what its entry returned."""
    answers: list[int] = []
    thread = threading.Thread(
        target=lambda: answers.append(loaded.enter(SPIN, loaded.base + COUNT))
    )
    thread.start()
    while not count(loaded):
        time.sleep(0.001)
    yield answers
    while thread.is_alive():
        stop(loaded)
        thread.join(0.01)


def test_a_thread_goes_on_while_its_pages_leave(identity: Identity, load: Builder) -> None:
    cpu = Processor(identity, epc_size=16 * PAGE)
    loaded = load(cpu, heap=20)
    with spinning(loaded) as answers:
        for _ in range(20):
            before = count(loaded)
            for page in range(HEAP, HEAP + 20):
                loaded.device.debug_read(loaded.at(page), 8)
            deadline = time.monotonic() + 10
            while count(loaded) == before and time.monotonic() < deadline:
                time.sleep(0.001)
            assert count(loaded) > before
    assert answers == [0]
    assert loaded.device.statistics.evicted > 100


def test_a_file_can_not_be_closed_under_a_thread(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    with spinning(loaded), pytest.raises(DeviceError, match="inside"):
        loaded.device.close()


def test_a_power_transition_throws_threads_out(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    answers: list[int] = []
    thread = threading.Thread(
        target=lambda: answers.append(loaded.enter(SPIN, loaded.base + COUNT))
    )
    thread.start()
    while not count(loaded):
        time.sleep(0.001)
    loaded.device.lose()
    thread.join(10)
    assert answers == [1]
    assert loaded.call.vector == 14
    assert loaded.call.function == 3


def test_tracking_waits_for_threads_that_are_inside(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    with spinning(loaded) as answers:
        argument = uapi.EnclaveModifyTypes((DATA + 1) * PAGE, 3 * PAGE, PageType.TRIM)
        done = request(loaded.device, uapi.MODIFY_TYPES, argument)
        assert isinstance(done, uapi.EnclaveModifyTypes)
        assert done.count == 3 * PAGE
        before = count(loaded)
        while count(loaded) == before:
            time.sleep(0.001)
    assert answers == [0]


def threads() -> Parts:
    """Return the basic parts and three more TCSs with their SSA and a page each."""
    made = basic_parts()
    for index in range(THREADS):
        at = FIRST_TCS + 4 * index
        made.append((at, TCS, bytes(tcs(ossa=(at + 1) * PAGE, nssa=1))))
        asked = bytes(KeyRequest(KeyName.SEAL)).ljust(PAGE, b"\0")
        made += [(at + 1, RW, bytes(PAGE)), (at + 2, RW, asked)]
    return made


def test_threads_of_one_enclave_work_while_it_pages(identity: Identity, load: Builder) -> None:
    cpu = Processor(identity, epc_size=28 * PAGE)
    loaded = load(cpu, threads(), heap=20)
    loaded.device.mmap(loaded.at(FIRST_TCS), 12 * PAGE, 3)
    wrong: list[object] = []

    def work(index: int) -> None:
        entry = FIRST_TCS + 4 * index
        call, memory = _core.Call(loaded.device.enter_address), Memory(PAGE)
        scratch = loaded.at(entry + 2)
        words = (Enclu.EGETKEY, scratch, scratch + 512, 0)
        memory[0:32] = b"".join(word.to_bytes(8, "little") for word in words)
        for turn in range(150):
            page = HEAP + (turn * 7 + index) % 20
            for what, rdi in ((POKE, loaded.at(page)), (LEAF, memory.address), (PEEK, scratch)):
                answer = call.enter(2, loaded.at(entry), rdi, what, 0)
                if answer or (what == LEAF and call.rdi):
                    wrong.append((what, answer, call.vector, hex(call.address), call.rdi))
        memory.close()

    workers = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert loaded.device.statistics.evicted
