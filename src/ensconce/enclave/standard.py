# SPDX-License-Identifier: Apache-2.0
"""The OCALLs that the vendor's untrusted library brings along: events, threads, CPUID.

Their names and meanings are those of sgx_tstdc.edl and sgx_pthread.edl. A host function of the
same name takes their place.
"""

import contextlib
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from ensconce.enclave.features import Cpuid
from ensconce.enclave.memory import Untrusted
from ensconce.enclave.pool import Pool
from ensconce.enclave.status import Status
from ensconce.enclave.thread import Command, TrustedThread
from ensconce.errors import EnsconceError, OutOfThreads

__all__ = ["StandardOcalls"]

_WORD = struct.Struct("<Q")

# What a thread that the enclave saw end may need to be out of it, and of its TCS.
_LEAVING = 0.1  # seconds


class StandardOcalls:
    """The vendor's own OCALLs for one enclave; each TCS has an event that others set."""

    def __init__(self, pool: Pool, cpuid: Cpuid) -> None:
        self._pool = pool
        self._cpuid = cpuid
        self._events: defaultdict[int, threading.Semaphore] = defaultdict(
            lambda: threading.Semaphore(0)
        )
        self._lock = threading.Lock()
        self._ended = False
        self._running = 0  # threads of the enclave's own

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the functions by the names that EDL files import them by."""
        return {
            "sgx_oc_cpuidex": self.cpuidex,
            "sgx_thread_wait_untrusted_event_ocall": self.wait,
            "sgx_thread_set_untrusted_event_ocall": self.set,
            "sgx_thread_setwait_untrusted_events_ocall": self.set_and_wait,
            "sgx_thread_set_multiple_untrusted_events_ocall": self.set_many,
            "pthread_create_ocall": self.create_thread,
            "pthread_wait_timeout_ocall": self.wait_for,
            "pthread_wakeup_ocall": self.set,
        }

    def wake_all(self) -> None:
        """Let every waiting thread go, because the enclave is being destroyed."""
        with self._lock:
            self._ended = True
            for event in self._events.values():
                event.release()

    def _event(self, tcs: int) -> threading.Semaphore:
        """Return a TCS's event; nobody waits for one of an enclave that has ended."""
        with self._lock:
            return threading.Semaphore(1) if self._ended else self._events[tcs]

    def cpuidex(self, registers: memoryview, leaf: int, subleaf: int) -> None:
        """Store EAX, EBX, ECX and EDX of a CPUID leaf."""
        answer = self._cpuid(leaf & 0xFFFFFFFF, subleaf & 0xFFFFFFFF)
        struct.pack_into("<4I", registers, 0, *answer)

    def wait(self, own: int) -> int:
        """Wait until the TCS's event is set."""
        self._event(own).acquire()
        return 0

    def wait_for(self, own: int, seconds: int) -> int:
        """Wait for the TCS's event, no longer than the given seconds."""
        limit = min(seconds, threading.TIMEOUT_MAX)
        return 0 if self._event(own).acquire(timeout=limit) else int(Status.UNEXPECTED)

    def set(self, other: int) -> int:
        """Set another TCS's event."""
        self._event(other).release()
        return 0

    def set_and_wait(self, other: int, own: int) -> int:
        """Set another TCS's event, then wait for one's own."""
        self.set(other)
        return self.wait(own)

    def set_many(self, others: bytes, total: int) -> int:
        """Set the events of several TCSs."""
        for (other,) in _WORD.iter_unpack(others[: total * _WORD.size]):
            self.set(other)
        return 0

    def create_thread(self, own: int) -> int:
        """Start a host thread that runs what the enclave has prepared for a new thread."""
        del own
        try:
            thread = self._pool.take(_LEAVING if self._running else 0)
        except OutOfThreads:
            return int(Status.OUT_OF_TCS)
        runner = threading.Thread(target=self._run, args=(thread,), daemon=True)
        self._count(1)
        try:
            runner.start()
        except RuntimeError:
            self._count(-1)
            self._pool.put(thread)
            return int(Status.UNEXPECTED)
        return 0

    def _count(self, change: int) -> None:
        with self._lock:
            self._running += change

    def _run(self, thread: TrustedThread) -> None:
        """Be a thread of the enclave's own; free its TCS, then wake who waits for its end."""
        waiter = Untrusted(_WORD.size)
        try:
            # When the enclave is gone, whoever calls it next is told why.
            with contextlib.suppress(EnsconceError), self._pool.lend(thread):
                thread.ecall(Command.ECALL_PTHREAD, waiter.address)
        finally:
            self._count(-1)
            (joined,) = _WORD.unpack_from(waiter.data)
            waiter.close()
            if joined:
                self.set(joined)
