# SPDX-License-Identifier: Apache-2.0
"""Threads, exceptions, lost enclaves and ends: each has its own clear answer."""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ensconce.enclave import Enclave, ThreadPolicy, Untrusted, load
from ensconce.errors import (
    EnclaveCrashed,
    EnclaveError,
    EnclaveLost,
    OcallError,
    OutOfThreads,
)
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.keyrequest import KeyName, KeyRequest
from ensconce.isa.report import Report
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

Start = Callable[..., Enclave]


class Spinner:
    """Threads that stay inside an enclave until they are let go."""

    def __init__(self, enclave: Enclave, count: int = 1) -> None:
        self._enclave = enclave
        self._flag = Untrusted(8)
        self.address = self._flag.address
        self.tcss: list[int] = []
        self.results: list[object] = []
        self._threads = [threading.Thread(target=self._spin) for _ in range(count)]

    def _spin(self) -> None:
        try:
            self.tcss.append(self._enclave.who())
            self.results.append(self._enclave.spin(self.address))
        except EnclaveError as error:
            self.results.append(error)

    def __enter__(self) -> "Spinner":
        for thread in self._threads:
            thread.start()
        while len(self.tcss) + len(self.results) < len(self._threads):
            time.sleep(0.001)
        time.sleep(0.02)
        return self

    def release(self) -> None:
        self._flag.data[0] = 1

    def __exit__(self, *_: object) -> None:
        self.release()
        for thread in self._threads:
            thread.join()


def test_eight_threads_run_in_one_enclave_at_the_same_time(start: Start) -> None:
    with Spinner(start(threads=8), 8) as spinner:
        assert len(set(spinner.tcss)) == 8
    assert all(isinstance(result, int) for result in spinner.results)


def test_a_thread_keeps_its_tcs_while_it_lives(start: Start) -> None:
    enclave = start(threads=3)
    mine = enclave.who()
    with Spinner(enclave) as spinner:
        assert enclave.who() == mine
        assert spinner.tcss[0] != mine


def test_the_tcs_of_a_thread_that_ended_is_free_again(start: Start) -> None:
    enclave = start(threads=1)
    for _ in range(5):
        with Spinner(enclave) as spinner:
            spinner.release()
    assert enclave.who() == spinner.tcss[0]


def test_too_many_threads_are_out_of_threads(start: Start) -> None:
    enclave = start(threads=2)
    with Spinner(enclave, 2), pytest.raises(OutOfThreads, match="all 2 TCSs are in use"):
        enclave.nothing()
    assert enclave.add(1, 2) == 3


def test_an_ecall_can_wait_for_a_tcs(start: Start) -> None:
    enclave = start(threads=1, thread_wait=20)
    with Spinner(enclave) as spinner:
        threading.Timer(0.05, spinner.release).start()
        assert enclave.add(1, 2) == 3


def test_an_unbound_tcs_goes_back_after_each_ecall(start: Start) -> None:
    calls: list[int] = []
    enclave: Enclave = start(
        threads=1,
        thread_policy=ThreadPolicy.UNBIND,
        ocalls={"again": lambda value: enclave.add(value, 1)},
    )
    enclave.nothing()
    other = threading.Thread(target=lambda: calls.append(enclave.through(1)))
    other.start()
    other.join()
    assert calls == [2]
    assert enclave.through(2) == 3


def test_several_enclaves_live_side_by_side(start: Start) -> None:
    enclaves = [start() for _ in range(4)]
    assert len({enclave.base for enclave in enclaves}) == 4
    assert [enclave.add(index, 1) for index, enclave in enumerate(enclaves)] == [1, 2, 3, 4]


def test_one_enclaves_ocall_may_call_another(start: Start) -> None:
    other = start()
    first = start(ocalls={"twice": lambda value: other.add(value, 1)})
    assert first.relay(1) == 2


def test_an_exception_that_the_enclave_handles_is_resumed(start: Start) -> None:
    enclave = start()
    assert enclave.survive(100) == 100
    assert enclave.add(1, 2) == 3


def test_an_enclave_with_aex_notify_goes_on_by_itself(start: Start) -> None:
    flags = AttributeFlags.MODE64BIT | AttributeFlags.AEXNOTIFY
    enclave = start(attributes=Attributes(flags, Xfrm.LEGACY | Xfrm.AVX))
    assert enclave.survive_notified(100) == 100
    assert enclave.add(1, 2) == 3


CRASHES = [(0, 6, "#UD"), (1, 14, "#PF .* writing address 0x8"), (2, 14, "writing offset 0x0")]


@pytest.mark.parametrize(("how", "vector", "text"), CRASHES)
def test_a_crash_tells_the_exception(start: Start, how: int, vector: int, text: str) -> None:
    with pytest.raises(EnclaveCrashed, match=text) as caught:
        start().crash(how)
    assert caught.value.vector == vector
    assert caught.value.address == {1: 8, 2: caught.value.address}.get(how)


def test_a_crash_of_a_debug_enclave_tells_the_function(start: Start) -> None:
    with pytest.raises(EnclaveCrashed, match=r"in dispatch\+0x|in crash\+0x"):
        start(debug=True).crash(0)


def test_a_crash_in_the_exception_handler_is_a_crash(start: Start) -> None:
    with pytest.raises(EnclaveCrashed, match="#UD"):
        start().crash(3)


def test_a_crashed_enclave_takes_no_more_ecalls(start: Start) -> None:
    enclave = start()
    for _ in range(5):
        with pytest.raises(EnclaveCrashed, match="#UD"):
            enclave.crash(0)


def test_a_crash_within_an_ocall_ends_the_ecall_around_it(start: Start) -> None:
    enclave: Enclave = start(ocalls={"again": lambda _value: enclave.crash(0)})
    with pytest.raises(EnclaveCrashed, match="#UD"):
        enclave.through(1)


def test_an_ocall_that_hides_a_crash_does_not_bring_the_enclave_back(start: Start) -> None:
    def again(value: int) -> int:
        with pytest.raises(EnclaveCrashed):
            enclave.crash(0)
        return value

    enclave = start(ocalls={"again": again})
    with pytest.raises(EnclaveCrashed):
        enclave.through(1)


def test_a_lost_enclave_says_so_on_every_call(start: Start) -> None:
    enclave = start()
    lose(enclave)
    for _ in range(2):
        with pytest.raises(EnclaveLost, match=r"lost its memory.*load it again"):
            enclave.add(1, 2)


def test_losing_an_enclave_ends_the_threads_inside(start: Start) -> None:
    enclave = start()
    with Spinner(enclave) as spinner:
        lose(enclave)
    assert isinstance(spinner.results[0], EnclaveError)


def test_an_enclave_lost_during_an_ocall_is_lost_when_it_returns(start: Start) -> None:
    def twice(value: int) -> int:
        lose(enclave)
        return value

    enclave = start(ocalls={"twice": twice})
    with pytest.raises(EnclaveLost):
        enclave.relay(1)


def lose(enclave: Enclave) -> None:
    """Take an emulated enclave's memory away; real hardware is not put to sleep for a test."""
    device = enclave.device
    if not hasattr(device, "lose"):
        pytest.skip("a power transition of a real processor can't be tested here")
    device.lose()


def test_a_closed_enclave_is_lost(start: Start) -> None:
    enclave = start()
    enclave.close()
    enclave.close()
    with pytest.raises(EnclaveLost, match="was closed"):
        enclave.nothing()


def test_an_enclave_with_a_thread_inside_is_not_closed(start: Start) -> None:
    enclave = start()
    with Spinner(enclave):
        with pytest.raises(EnclaveError, match="1 threads are still inside"):
            enclave.close(timeout=0.05)
        assert enclave.add(1, 2) == 3
    enclave.close()


def test_an_enclave_can_be_closed_by_its_own_ocall(start: Start) -> None:
    def twice(value: int) -> int:
        enclave.close()
        return value

    enclave = start(ocalls={"twice": twice})
    with pytest.raises(EnclaveLost, match="was closed"):
        enclave.relay(1)


def test_a_forgotten_enclave_frees_its_memory(start: Start) -> None:
    enclave = start()
    device = enclave.device
    enclave.__del__()
    del enclave
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        device.ioctl(0, bytearray(8))


def test_an_interrupt_ends_an_ecall_that_does_not_return(start: Start) -> None:
    enclave, flag = start(), Untrusted(8)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            enclave.spin(flag.address)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert enclave.add(1, 2) == 3


def test_signal_handlers_run_while_an_ecall_goes_on(start: Start) -> None:
    enclave, flag = start(), Untrusted(8)
    seen: list[int] = []

    def tick(number: int, _frame: object) -> None:
        seen.append(number)
        flag.data[0] = len(seen) > 20

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        assert enclave.spin(flag.address) > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) > 20


def test_a_child_process_finds_the_enclave_lost_and_the_parent_does_not(start: Start) -> None:
    enclave = start()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            enclave.add(1, 2)
        except EnclaveLost:
            enclave.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert enclave.add(1, 2) == 3


@pytest.fixture
def crowded(image: Callable[..., Any]) -> Iterator[Callable[[], Enclave]]:
    """Load enclaves with a heap of 16 MiB each into an EPC of 12 MiB."""
    processor = Processor(Identity.generate(), epc_size=12 << 20)
    enclaves: list[Enclave] = []

    def make() -> Enclave:
        sample = image(size=1 << 25, heap_pages=4000)
        edl = Path(__file__).parent / "sample" / "sample.edl"
        enclave = load(sample, device=DriverModel(processor), edl=edl, types={"handle_t": 4})
        enclaves.append(enclave)
        return enclave

    yield make
    for enclave in enclaves:
        enclave.close()


def test_memory_survives_eviction_and_comes_back_as_it_was(
    crowded: Callable[[], Enclave],
) -> None:
    enclave = crowded()
    for seed in (1, 2):
        assert enclave.fill_heap(4000, seed) == 32000
        assert enclave.check_heap(4000, seed) == 32000


def test_threads_share_a_small_epc_without_a_wrong_result(
    crowded: Callable[[], Enclave],
) -> None:
    results: list[int] = []

    def work(enclave: Enclave, seed: int) -> None:
        enclave.fill_heap(4000, seed)
        results.append(enclave.check_heap(4000, seed))

    threads = [threading.Thread(target=work, args=(crowded(), seed)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [32000] * 3


def test_an_ocall_error_is_not_a_crash(start: Start) -> None:
    enclave = start(ocalls={"twice": lambda _value: 1 / 0})
    for _ in range(3):
        with pytest.raises(OcallError):
            enclave.relay(1)
    assert enclave.survive(3) == 3


def test_an_enclave_reports_on_itself_and_gets_its_keys(start: Start) -> None:
    enclave = start()
    output = bytearray(Report.SIZE)
    enclave.report(bytes(enclave.target_info()), b"data".ljust(64, b"\0"), output)
    report = Report.parse(output)
    assert report.body.mr_enclave == enclave.image.measure()
    assert report.body.report_data[:4] == b"data"
    assert report.body.attributes == enclave.target_info().attributes
    keys = [bytearray(16), bytearray(16)]
    for key in keys:
        request = KeyRequest(key_name=KeyName.REPORT, key_id=report.key_id)
        assert enclave.get_key(bytes(request), key) == 0
    assert keys[0] == keys[1] != bytes(16)
