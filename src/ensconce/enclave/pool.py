# SPDX-License-Identifier: Apache-2.0
"""Which host thread uses which TCS.

Bound: a host thread keeps its TCS, and with it the enclave's thread-local variables, until it
ends. Unbound: a TCS goes back after each ECALL that was not made within an OCALL.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from ensconce.enclave.ecalls import Caller
from ensconce.enclave.memory import Space
from ensconce.enclave.thread import TrustedThread
from ensconce.errors import OutOfThreads

__all__ = ["Pool", "ThreadPolicy"]


class ThreadPolicy(StrEnum):
    """How long a host thread keeps a TCS (TCSPolicy of an enclave's configuration)."""

    BIND = "bind"
    UNBIND = "unbind"


class _Binding:
    """A host thread's hold on a TCS; it goes when the thread ends."""

    __slots__ = ("pool", "thread")

    def __init__(self, pool: "Pool", thread: TrustedThread) -> None:
        self.pool = pool
        self.thread = thread

    def __del__(self) -> None:
        self.pool.put(self.thread)


class _Floating:
    """A host thread that takes a TCS for each of its outermost ECALLs."""

    __slots__ = ("_pool", "_thread", "space")

    def __init__(self, pool: "Pool", thread: TrustedThread | None = None) -> None:
        self._pool = pool
        self._thread = thread
        self.space = Space()

    def ecall(self, number: int, ms: int) -> None:
        """Make an ECALL on the TCS that is in use here, else on a free one."""
        if self._thread is not None:
            self._thread.ecall(number, ms)
            return
        self._thread = self._pool.take()
        try:
            self._thread.ecall(number, ms)
        finally:
            self._pool.put(self._thread)
            self._thread = None


class _Local(threading.local):
    """What a host thread holds; an attribute exists while it holds something."""

    binding: _Binding
    thread: TrustedThread
    floating: _Floating


class Pool:
    """The TCSs of one enclave.

    `grow` makes another TCS at run time and adds it, or returns False. `wait` is how many
    seconds to wait for a TCS before `OutOfThreads`.
    """

    def __init__(
        self, source: str, policy: ThreadPolicy, *, grow: Callable[[], bool], wait: float = 0
    ) -> None:
        self._source = source
        self._grow = grow
        self._wait = wait
        self._free: list[TrustedThread] = []
        self._available = threading.Condition()
        self._local = _Local()
        self.threads: list[TrustedThread] = []
        self.current: Callable[[], Caller] = (
            self._bound if policy is ThreadPolicy.BIND else self._unbound
        )

    def add(self, thread: TrustedThread) -> None:
        """Add a TCS."""
        self.threads.append(thread)
        self.put(thread)

    def put(self, thread: TrustedThread) -> None:
        """Take a TCS back; one that was given up stays out."""
        if thread.given_up is None:
            with self._available:
                self._free.append(thread)
                self._available.notify()

    def take(self, wait: float | None = None) -> TrustedThread:
        """Return a free TCS, made for the purpose or waited for, for `wait` seconds."""
        deadline = time.monotonic() + (self._wait if wait is None else wait)
        while True:
            with self._available:
                if self._free:
                    return self._free.pop()
            if self._grow():
                continue
            with self._available:
                if not self._free and not self._available.wait(deadline - time.monotonic()):
                    raise OutOfThreads(self._exhausted())

    @contextmanager
    def lend(self, thread: TrustedThread) -> Iterator[None]:
        """Let the calling thread make its ECALLs by a taken TCS, then take that back."""
        local = self._local
        local.thread = thread
        local.floating = _Floating(self, thread)
        try:
            yield
        finally:
            local.__dict__.clear()
            self.put(thread)

    def _bound(self) -> TrustedThread:
        """Return the calling thread's TCS, taking a free one when it has none."""
        local = self._local
        try:
            thread = local.thread
        except AttributeError:
            pass
        else:
            if thread.given_up is None or thread.busy:
                return thread
            local.__dict__.clear()
        local.thread = thread = self.take()
        local.binding = _Binding(self, thread)
        return thread

    def _unbound(self) -> _Floating:
        """Return what takes a TCS for each of the calling thread's ECALLs."""
        try:
            return self._local.floating
        except AttributeError:
            self._local.floating = _Floating(self)
            return self._local.floating

    def _exhausted(self) -> str:
        """Return the sentence for a pool without a free TCS."""
        lost = sum(thread.given_up is not None for thread in self.threads)
        given_up = f" ({lost} of them gone in an interrupt or a crash)" if lost else ""
        return (
            f"{self._source}: all {len(self.threads)} TCSs are in use{given_up}; call from fewer "
            "threads, load with thread_wait=SECONDS, or raise TCSNum and sign again"
        )
