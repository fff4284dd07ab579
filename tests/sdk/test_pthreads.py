# SPDX-License-Identifier: Apache-2.0
"""pthread inside the enclave: the host's threads that meet there, and the enclave's own."""

import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.hosts import build_host

from ensconce import _core, enclave
from ensconce.enclave import Status
from ensconce.errors import EnclaveCrashed, EnclaveError
from ensconce.image import SdkImage
from ensconce.image.config import EnclaveConfig
from ensconce.isa.leaves import Enclu
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_FOLDER = Path(__file__).parent / "threads"
_EDL = _FOLDER / "pthreads.edl"
_TCS = 5
_THREADS = 4
_KINDS = {"plain": 0, "recursive": 1, "standard": 2, "read_write": 3, "semaphore": 4}
_BIND, _UNBIND = 0, 1
_RUN_THREAD = -6
_SECONDS = 30

Load = Callable[..., Any]


class _Events:
    """The host's part of sleeping and waking; it counts, and it may be hostile."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.asleep = 0
        self.loses_wakes = False
        self.wakes_at_random = False
        self._events: defaultdict[int, threading.Semaphore] = defaultdict(
            lambda: threading.Semaphore(0)
        )
        self._lock = threading.Lock()

    def _event(self, tcs: int) -> threading.Semaphore:
        with self._lock:
            return self._events[tcs]

    def _count(self, what: str, asleep: int = 0) -> None:
        with self._lock:
            self.calls[what] += 1
            self.asleep += asleep

    def sgx_thread_wait_untrusted_event_ocall(self, own: int) -> int:
        if self.wakes_at_random and random.random() < 0.7:  # noqa: S311
            return 0
        self._count("wait", 1)
        timeout = 0.01 if self.wakes_at_random else _SECONDS
        woken = self._event(own).acquire(timeout=timeout)
        with self._lock:
            self.asleep -= 1
        assert woken or self.wakes_at_random
        return 0

    def sgx_thread_set_untrusted_event_ocall(self, other: int) -> int:
        self._count("set")
        if not self.loses_wakes:
            self._event(other).release()
        return 0

    def wake_everybody(self) -> None:
        for each in self._events.values():
            each.release()

    def wait_for_sleepers(self, count: int) -> None:
        until = time.monotonic() + _SECONDS
        while self.asleep != count:
            assert time.monotonic() < until, f"{self.asleep} sleep, not {count}"
            time.sleep(0.001)


class _Doors(_Events):
    """A host whose `outside` waits for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.opened = threading.Semaphore(0), threading.Semaphore(0)

    def outside(self) -> None:
        self.entered.release()
        assert self.opened.acquire(timeout=_SECONDS)


@pytest.fixture(scope="module")
def image(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pthreads")
    return build([_FOLDER / "pthreads.c"], _EDL, folder / "e.so", toolchain=toolchain)


@pytest.fixture(scope="module", params=[_BIND, _UNBIND], ids=["bound", "unbound"])
def signed(request: pytest.FixtureRequest, image: Path, signing_key: SigningKey) -> Path:
    output = image.parent / f"{request.param}.signed.so"
    config = EnclaveConfig(tcs_num=_TCS, tcs_min_pool=_TCS - 1, tcs_policy=request.param)
    sign(image, output, signing_key, config=config)
    return output


@pytest.fixture
def load(signed: Path) -> Iterator[Load]:
    loaded: list[Any] = []

    def do(ocalls: object = None, thread_wait: float = 0) -> Any:
        policy = "bind" if signed.name[0] == "0" else "unbind"
        host = {"outside": lambda: time.sleep(0.05), "inside_again": lambda: loaded[0].leave(0)}
        names = (name for name in dir(ocalls) if not name.startswith("_"))
        host |= {name: getattr(ocalls, name) for name in names if name in _OCALLS}
        made = enclave.load(
            signed,
            edl=_EDL,
            ocalls=host,
            thread_policy=policy,
            thread_wait=thread_wait,
        )
        loaded.append(made)
        return made

    yield do
    for each in loaded:
        each.close()


_OCALLS = {
    "outside",
    "inside_again",
    "sgx_thread_wait_untrusted_event_ocall",
    "sgx_thread_set_untrusted_event_ocall",
    "pthread_create_ocall",
    "pthread_wait_timeout_ocall",
}


def _together(*calls: Callable[[], Any]) -> list[Any]:
    """Make calls at the same time; return their results in order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result(_SECONDS) for each in [pool.submit(call) for call in calls]]


@pytest.mark.parametrize("kind", _KINDS.values(), ids=_KINDS)
def test_a_lock_of_each_kind_lets_no_increment_get_lost(load: Load, kind: int) -> None:
    loaded, rounds = load(), 3000
    _together(*[lambda: loaded.count_up(rounds, kind)] * _THREADS)
    assert loaded.counted() == rounds * _THREADS


@pytest.mark.parametrize("kind", _KINDS.values(), ids=_KINDS)
def test_a_host_that_wakes_at_random_breaks_no_lock(load: Load, kind: int) -> None:
    events, rounds = _Events(), 500
    events.wakes_at_random = True
    loaded = load(events)
    _together(*[lambda: loaded.count_up(rounds, kind)] * _THREADS)
    assert loaded.counted() == rounds * _THREADS


def test_readers_never_see_half_of_a_write(load: Load) -> None:
    loaded, rounds = load(), 1000
    write, read = (lambda: loaded.write_both(rounds)), (lambda: loaded.read_both(rounds))
    written = _together(write, read, write, read)
    assert written[1::2] == [0, 0]
    assert max(written[::2]) == 2 * rounds


@pytest.mark.parametrize("hostile", [False, True])
def test_what_is_produced_is_consumed_once(load: Load, hostile: bool) -> None:
    events, count = _Events(), 200
    events.wakes_at_random = hostile
    loaded = load(events)
    make, use = (lambda: loaded.produce(count)), (lambda: loaded.consume(count))
    results = _together(make, use, make, use)
    assert results[::2] == [count, count]
    assert sum(results[1::2]) == count * (count + 1)
    assert events.calls["wait"] > 0


def test_as_many_pass_a_semaphore_as_there_were_posts(load: Load) -> None:
    loaded = load()
    wait, post = (lambda: loaded.wait_for_posts(300)), (lambda: loaded.post(200))
    left = _together(wait, post, wait, post, post)
    assert left[1::2] == [0, 0]
    assert min(left[::2]) == 0
    assert loaded.wait_for_posts(0) == 0


def test_nobody_leaves_a_barrier_before_all_have_come(load: Load) -> None:
    loaded = load()
    calls = [lambda own=own: loaded.meet(own, _THREADS, 100) for own in range(_THREADS)]
    assert _together(*calls) == [0] * _THREADS


def test_what_is_to_happen_once_happens_once_and_others_wait_for_it(load: Load) -> None:
    events = _Events()
    loaded = load(events)
    assert _together(*[loaded.once] * _THREADS) == [1] * _THREADS
    assert events.calls["wait"] == events.calls["set"] == _THREADS - 1


def test_who_waits_for_a_mutex_sleeps_until_it_is_given_back(load: Load) -> None:
    doors = _Doors()
    loaded = load(doors)
    with ThreadPoolExecutor(3) as pool:
        holder = pool.submit(loaded.hold)
        assert doors.entered.acquire(timeout=_SECONDS)
        others = [pool.submit(loaded.pass_by) for _ in range(2)]
        doors.wait_for_sleepers(2)
        assert (doors.calls["wait"], doors.calls["set"]) == (2, 0)
        doors.opened.release()
        assert holder.result(_SECONDS) == 0
        assert sorted(each.result(_SECONDS) for each in others) == [2, 3]
    assert doors.calls["set"] >= 2


def test_a_wake_up_that_never_comes_keeps_its_thread_only(load: Load) -> None:
    doors = _Doors()
    loaded = load(doors)
    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(loaded.hold)
        assert doors.entered.acquire(timeout=_SECONDS)
        sleeper = pool.submit(loaded.pass_by)
        doors.wait_for_sleepers(1)
        doors.loses_wakes = True
        doors.opened.release()
        assert holder.result(_SECONDS) == 0
        assert [loaded.pass_by() for _ in range(3)] == [2, 3, 4]
        assert not sleeper.done()
        doors.wake_everybody()
        assert sleeper.result(_SECONDS) == 5


def test_a_wait_of_a_second_is_the_hosts_to_end(load: Load) -> None:
    class Host:
        waits: list[int]

        def pthread_wait_timeout_ocall(self, _own: int, seconds: int) -> int:
            self.waits.append(seconds)
            return int(Status.UNEXPECTED)

    host = Host()
    host.waits = []
    assert load(host).wait_a_second() == 0
    assert host.waits == [1]


def test_a_limit_that_no_clock_can_tell_is_not_accepted(load: Load) -> None:
    assert load().mind_time() == errno.EINVAL


def test_threads_of_the_enclaves_own_are_made_and_joined(load: Load) -> None:
    loaded = load()
    for _ in range(20):  # each round needs the TCSs of the one before
        assert loaded.spawn(_TCS - 1, 50) == (_TCS - 1) * 50


@pytest.mark.parametrize("what", ["lifecycle", "keys", "standard_c", "robust"])
def test_a_thread_begins_and_ends_as_posix_and_c_have_it(load: Load, what: str) -> None:
    loaded = load()
    assert [getattr(loaded, what)() for _ in range(3)] == [0, 0, 0]


def test_detached_threads_leave_nothing_behind(load: Load) -> None:
    loaded = load()
    assert loaded.detached(100) == 0  # the heap has room for few control blocks at a time


def test_a_thread_too_many_is_refused_and_the_others_go_on(load: Load) -> None:
    loaded = load()
    assert loaded.exhaust(_TCS + 2) == _TCS - 1
    assert loaded.exhaust(2) == 2


def test_threads_that_are_refused_to_one_ecall_are_not_missing_in_another(load: Load) -> None:
    loaded = load(thread_wait=_SECONDS)
    for _ in range(20):
        made = _together(*[lambda: loaded.crowd(3)] * 3)
        assert all(0 <= each <= 3 for each in made)
        assert loaded.counted() == sum(each * (each + 1) // 2 for each in made)


def test_an_ecalls_thread_may_end_itself(load: Load) -> None:
    loaded = load()
    with pytest.raises(EnclaveError, match="pthread_exit") as caught:
        loaded.leave(0)
    assert caught.value.status == Status.PTHREAD_EXIT
    assert loaded.destroyed() == 1000


def test_a_thread_cannot_end_under_an_ocall(load: Load) -> None:
    loaded = load()
    with pytest.raises(EnclaveCrashed):
        loaded.leave(1)


def test_values_of_keys_go_when_their_thread_does(load: Load, signed: Path) -> None:
    loaded = load()
    assert loaded.remember(3) == 5
    assert loaded.destroyed() == (3 if signed.name[0] == "1" else 0)


class _Raw:
    """A host that enters with whatever it likes, by a TCS of its own."""

    def __init__(self, loaded: Any) -> None:
        image = loaded.image
        assert isinstance(image, SdkImage)
        self.base = loaded.base
        self.tcs = loaded.base + list(image.threads())[-1].offset
        self.core = _core.Call(_core.emulated_enter_address())
        self.memory = enclave.Untrusted(16)

    def enter(self, ms: int | None = None, tcs: int | None = None) -> int:
        address = self.memory.address if ms is None else ms
        assert self.core.enter(int(Enclu.EENTER), tcs or self.tcs, _RUN_THREAD, address, 0) == 0
        assert self.core.rdi == (1 << 64) - 1
        return self.core.rsi & 0xFFFFFFFF


def test_an_entry_that_was_not_asked_for_is_refused(load: Load) -> None:
    loaded = load()
    raw = _Raw(loaded)
    for _ in range(3):
        assert raw.enter() == Status.ECALL_NOT_ALLOWED
    assert loaded.spawn(2, 10) == 20
    assert raw.enter() == Status.ECALL_NOT_ALLOWED


def test_a_job_runs_once_however_often_the_host_enters(load: Load) -> None:
    class Host:
        raw: _Raw
        answers: list[int]

        def pthread_create_ocall(self, _own: int) -> int:
            self.answers = [self.raw.enter(ms) for ms in (self.raw.base, 1, 3, None, None, None)]
            return int(Status.OUT_OF_TCS)

    host = Host()
    loaded = load(host)
    host.raw = _Raw(loaded)
    assert loaded.create_one() == 0  # it has run, whatever the host says
    bad, refused = int(Status.INVALID_PARAMETER), int(Status.ECALL_NOT_ALLOWED)
    assert host.answers[0] == bad
    assert host.answers[1:3] == [bad, bad]
    assert host.answers[3:] == [0, refused, refused]
    assert loaded.join_one() == 1
    assert loaded.counted() == 1


def test_a_host_that_sends_a_thread_late_delays_no_more_than_that(load: Load) -> None:
    class Host:
        def pthread_create_ocall(self, _own: int) -> int:
            return 0

    loaded = load(Host())
    raw = _Raw(loaded)
    assert loaded.create_one() == 0
    assert loaded.counted() == 0
    assert raw.enter() == 0
    assert raw.enter() == Status.ECALL_NOT_ALLOWED
    assert (loaded.join_one(), loaded.counted()) == (1, 1)


def test_a_host_that_refuses_is_believed_and_the_job_is_gone(load: Load) -> None:
    class Host:
        def pthread_create_ocall(self, _own: int) -> int:
            return int(Status.OUT_OF_TCS)

    loaded = load(Host())
    assert loaded.create_one() == errno.EAGAIN
    assert _Raw(loaded).enter() == Status.ECALL_NOT_ALLOWED
    assert loaded.counted() == 0


def test_a_thread_cannot_be_sent_by_a_tcs_that_is_in_an_ocall(load: Load) -> None:
    class Host:
        raw: _Raw
        answer: int

        def pthread_create_ocall(self, own: int) -> int:
            self.answer = self.raw.enter(tcs=own)
            return int(Status.OUT_OF_TCS)

    host = Host()
    loaded = load(host)
    host.raw = _Raw(loaded)
    assert loaded.create_one() == errno.EAGAIN
    assert host.answer == Status.ECALL_NOT_ALLOWED


def test_threads_of_the_cxx_library_run_and_destroy_what_is_theirs(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path: Path
) -> None:
    source = _FOLDER / "std.cpp"
    image = build([source], _FOLDER / "std.edl", tmp_path / "e.so", toolchain=toolchain)
    config = EnclaveConfig(tcs_num=_TCS, tcs_min_pool=_TCS - 1, heap_max_size=0x400000)
    sign(image, tmp_path / "signed.so", signing_key, config=config)
    with enclave.load(tmp_path / "signed.so", edl=_FOLDER / "std.edl") as loaded:
        assert [loaded.run(_TCS - 1) for _ in range(5)] == [0] * 5
        assert loaded.too_many(_TCS + 1) == _TCS - 1
        loaded.destroyed()
        assert loaded.destroyed() == 1000  # unbound: an ECALL's own go with it


@pytest.fixture(scope="module")
def app(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_host(toolchain, _FOLDER / "app.c", _EDL, tmp_path_factory.mktemp("app"))


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A platform of the test's own and its service."""
    place = tmp_path / "run" / "service.sock"
    chosen = {"ENSCONCE_SERVICE": str(place), "ENSCONCE_PLATFORM": str(tmp_path / "platform")}
    command = [sys.executable, "-c", "from ensconce.cli import main; main()", "platform", "serve"]
    with subprocess.Popen(command, env=os.environ | chosen, stderr=subprocess.DEVNULL) as service:
        while not place.exists():
            assert service.poll() is None
            time.sleep(0.01)
        yield os.environ | chosen
        service.terminate()


def test_a_host_in_c_serves_pthread_too(
    app: Path, signed: Path, environment: dict[str, str]
) -> None:
    rounds = os.environ.get("ENSCONCE_THREAD_ROUNDS", "2")
    command = [str(app), str(signed), rounds]
    limit = _SECONDS * int(rounds)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=limit, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
