# SPDX-License-Identifier: Apache-2.0
"""Host signals reach the host's handlers, on the host's own state, and the enclave goes on."""

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from tests.core.rig import EENTER, SSA, THREAD, Rig

from ensconce import _core

ROOT = Path(__file__).parents[2]
Handler = Callable[[int, FrameType | None], None]


def script(body: str, *, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program that has a Rig, and return how it ended."""
    start = "import os, signal, threading, time\nfrom tests.core.rig import Rig\nrig = Rig()\n"
    path = os.pathsep.join(map(str, (ROOT, ROOT / "src")))
    return subprocess.run(
        [sys.executable, "-c", first + start + body],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def alarm() -> Iterator[Callable[[float, Handler], None]]:
    """Install a SIGALRM handler that a repeating timer calls."""
    before = signal.getsignal(signal.SIGALRM)

    def start(interval: float, handler: Handler) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, interval, interval)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_handler_installed_later_runs_during_an_enclave(
    rig: Rig, alarm: Callable[[float, Handler], None]
) -> None:
    rung: list[int] = []

    def ring(_number: int, _frame: FrameType | None) -> None:
        rung.append(rig.word(8))
        rig.set_word(0, len(rung) >= 5)

    alarm(0.002, ring)
    assert rig.run("spin") == 0
    assert len(rung) >= 5
    assert rung == sorted(rung)  # the enclave went on in between
    assert rig.call.rsi >= rung[4]


def test_a_handler_installed_before_the_core_started_runs_too() -> None:
    early = """
import signal
def ring(*_):
    rung.append(1)
    rig.set_word(0, 1)
signal.signal(signal.SIGALRM, ring)
"""
    body = """
rung = []
signal.setitimer(signal.ITIMER_REAL, 0.05)
assert rig.run("spin") == 0
assert rung == [1]
"""
    done = script(body, first=early)
    assert done.returncode == 0, done.stderr


def test_an_exception_from_a_handler_ends_the_entry(
    rig: Rig, alarm: Callable[[float, Handler], None]
) -> None:
    def fail(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("enough")

    alarm(0.01, fail)
    with pytest.raises(TimeoutError, match="enough"):
        rig.run("spin")
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert rig.enclave.tcs(rig.tcs_offset())[:2] == (1, False)
    assert rig.gpr().exit_info == 0
    rig.set_word(0, 1)
    assert rig.call.enter(3, rig.tcs()) == 0  # and it can go on where it was


def test_a_keyboard_interrupt_ends_an_enclave_that_never_returns() -> None:
    done = script("""
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has it ignored
threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    rig.run("spin")
except KeyboardInterrupt:
    print("interrupted", rig.cssa())
""")
    assert (done.returncode, done.stdout) == (0, "interrupted 1\n"), done.stderr


def test_no_signal_is_lost_between_the_check_and_the_entry(
    rig: Rig, alarm: Callable[[float, Handler], None]
) -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        rig.set_word(0, 1)

    alarm(0.0005, stop)
    for _ in range(1000):  # each would spin for ever if its only signal came too early
        rig.set_word(0, 0)
        signal.setitimer(signal.ITIMER_REAL, 0.00005, 0.05)
        assert rig.run("spin") == 0


def test_a_signal_is_taken_even_on_a_bad_stack(
    rig: Rig, alarm: Callable[[float, Handler], None]
) -> None:
    rung: list[int] = []
    alarm(0.0003, lambda number, _frame: rung.append(number))
    while len(rung) < 20:
        assert rig.run("bad_stack") == 0


def test_signals_do_not_disturb_leaves(
    make_rig: Callable[..., Rig], alarm: Callable[[float, Handler], None]
) -> None:
    rung: list[int] = []
    rig = make_rig(leaf=lambda _frame: None)
    alarm(0.0002, lambda number, _frame: rung.append(number))
    while len(rung) < 200:
        assert rig.run("leaf", 1) == 0
        assert rig.call.r9 == 0


def test_a_handler_sees_the_host_and_may_run_an_enclave(
    make_rig: Callable[..., Rig], alarm: Callable[[float, Handler], None]
) -> None:
    outcomes: list[int] = []

    def nested(_number: int, _frame: FrameType | None) -> None:
        call = rig.new_call()
        outcomes.append(call.enter(EENTER, rig.tcs(1), rig.symbols["count"], 10))
        rig.set_word(0, len(outcomes) >= 3)

    rig = make_rig(threads=2)
    alarm(0.003, nested)
    assert rig.run("spin") == 0
    assert outcomes[:3] == [0, 0, 0]


def test_getting_a_handler_gives_what_was_set() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    action = (ctypes.c_ulong * 20)()
    ctypes.CDLL(None).sigaction(signal.SIGUSR1, None, action)
    assert action[0] == int(signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP])
def test_a_fault_of_the_host_still_kills_it(number: signal.Signals) -> None:
    done = script(f"rig.run('leave')\nos.kill(os.getpid(), {int(number)})\ntime.sleep(9)\n")
    assert done.returncode == -number


def test_a_bad_access_of_the_host_still_kills_it() -> None:
    done = script("import ctypes\nrig.run('leave')\nctypes.string_at(8)\n")
    assert done.returncode == -signal.SIGSEGV


def test_faulthandler_still_reports_faults_of_the_host() -> None:
    done = script("""
import ctypes, faulthandler
rig.run("leave")
faulthandler.enable()
rig.run("leave")
ctypes.string_at(8)
""")
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr
    assert "string_at" in done.stderr


def test_a_fatal_signal_kills_a_process_inside_an_enclave() -> None:
    done = script("""
threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
rig.run("spin")
""")
    assert done.returncode == -signal.SIGTERM


def test_faulthandler_takes_the_alternate_stack_and_nothing_breaks(rig: Rig) -> None:
    rig.run("leave")
    was = faulthandler.is_enabled()
    faulthandler.enable()
    with Path(os.devnull).open("w") as sink:
        faulthandler.dump_traceback_later(0.01, repeat=True, file=sink)
        for _ in range(100):
            assert rig.run("undefined") == 1
            rig.reset()
        faulthandler.cancel_dump_traceback_later()
    if not was:
        faulthandler.disable()


@pytest.mark.parametrize("flags", [0, 2])  # another stack, none
def test_a_thread_without_the_cores_alternate_stack_is_known(rig: Rig, flags: int) -> None:
    libc = ctypes.CDLL(None)
    stack = ctypes.create_string_buffer(1 << 16)

    class Stack(ctypes.Structure):
        _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    old = Stack()
    rig.run("leave")
    new = Stack(ctypes.addressof(stack), flags, len(stack))
    assert libc.sigaltstack(ctypes.byref(new), ctypes.byref(old)) == 0
    try:
        assert rig.run("leave") == 0
        assert rig.run("divide") == 1
        rig.reset()
    finally:
        libc.sigaltstack(ctypes.byref(old), None)
    assert rig.run("leave") == 0


def test_a_forked_child_lives_on_without_the_enclave() -> None:
    done = script("""
from ensconce.errors import EnclaveLost
rig.run("leave")
view = rig.memory.alias_view(0, 8)
child = os.fork()
if child == 0:
    assert bytes(view) == bytes(8)
    hits = []
    signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.05)
    assert hits
    try:
        assert rig.run("leave") == 1
        rig.memory.alias_view(0, 8)
    except EnclaveLost:
        other = Rig()
        assert other.run("system_call") == 1
        assert other.call.vector == 6
        os._exit(7)
    os._exit(8)
status = os.waitpid(child, 0)[1]
assert os.waitstatus_to_exitcode(status) == 7, status
assert bytes(view) != bytes(8)
assert rig.run("leave") == 0
""")
    assert done.returncode == 0, done.stderr


def test_a_fork_in_a_leaf_callback_loses_the_enclave_in_the_child() -> None:
    done = script("""
from ensconce.errors import EnclaveLost
children = []
def leaf(frame):
    children.append(os.fork())
rig = Rig(leaf=leaf)
try:
    assert rig.run("leaf") == 0
except EnclaveLost:
    os._exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 5
""")
    assert done.returncode == 0, done.stderr


def test_a_subprocess_starts_while_an_enclave_runs(rig: Rig) -> None:
    worker = threading.Thread(target=rig.run, args=("spin",))
    worker.start()
    while rig.word(8) == 0:
        pass
    done = subprocess.run(
        ["sh", "-c", "kill -s USR1 $$; echo no"], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGUSR1
    rig.set_word(0, 1)
    worker.join()


def test_setuid_reaches_a_thread_inside_an_enclave(rig: Rig) -> None:
    worker = threading.Thread(target=rig.run, args=("spin",))
    worker.start()
    while rig.word(8) == 0:
        pass
    os.setuid(os.getuid())  # the C library signals every thread
    time.sleep(0.01)
    rig.set_word(0, 1)
    worker.join()


def test_kick_makes_every_running_thread_enter_anew(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(threads=3)
    workers = [
        threading.Thread(
            target=rig.new_call().enter, args=(EENTER, rig.tcs(thread), rig.symbols["spin"])
        )
        for thread in range(3)
    ]
    for worker in workers:
        worker.start()
    while not all(rig.enclave.tcs(rig.tcs_offset(thread))[1] for thread in range(3)):
        pass
    epoch = rig.enclave.advance_epoch()
    assert rig.enclave.epoch == epoch
    assert rig.enclave.inside_before(epoch) == 3
    rig.enclave.kick()
    assert rig.enclave.inside_before(epoch) == 0
    assert [rig.enclave.tcs(rig.tcs_offset(thread))[2] for thread in range(3)] == [epoch] * 3
    rig.set_word(0, 1)
    for worker in workers:
        worker.join()


def test_an_absent_ssa_page_after_a_kick_is_asked_for(make_rig: Callable[..., Rig]) -> None:
    asked: list[int] = []

    def load(address: int, _error_code: int, _function: int) -> bool:
        asked.append(address - rig.base)
        rig.memory.protect(THREAD + SSA, 4096, 3)
        rig.set_word(0, 1)
        return True

    rig = make_rig(fault=load)
    worker = threading.Thread(target=rig.run, args=("spin",))
    worker.start()
    while rig.word(8) == 0:
        pass
    rig.memory.protect(THREAD + SSA, 4096, 0)
    rig.enclave.kick()
    worker.join()
    assert asked == [THREAD + SSA]


def test_capabilities_are_facts() -> None:
    found = _core.capabilities()
    assert set(found) == {"fsgsbase", "syscall_user_dispatch", "cpuid_faulting"}
    assert found["fsgsbase"]
