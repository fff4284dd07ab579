# SPDX-License-Identifier: Apache-2.0
"""A node's emulated platform: one identity, and an EPC and a process for each allocation.

This process only listens. The first program that connects to an allocation's socket has a child
forked, which serves that allocation until it has been idle for a while. The child has an EPC as
large as the allocation, from which nothing is evicted; no right to anything but its descriptors;
and a limit to its memory. So whatever a container sends, and whatever it uses up, stays with it.

What a program makes of the socket's other end does not matter: nothing here looks at its user or
process id, which mean something else in its namespaces. The enclave's memory crosses as a file.
"""

import contextlib
import fcntl
import gc
import logging
import os
import resource
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ensconce.errors import ConfigError
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor
from ensconce.platform.allocations import Allocation, Allocations
from ensconce.platform.control import LONGEST, Standing, Use
from ensconce.platform.quote_session import Quoting
from ensconce.platform.quoting import Quoter
from ensconce.platform.service import Service

__all__ = ["NodePlatform"]

_TICK = 0.5
_IDLE = 60.0
_BACKLOG = 64
_USE = struct.Struct("<QQQ")  # bytes used, most so far, enclaves
_FIRST_USER = 1 << 30  # of no account
_NOBODY = 65534
_FILES = 4096
_CHILD_MEMORY = 1 << 30  # of its own; the enclaves' pages are not in it
_CHILD_OOM_SCORE = 1000  # before anything else on the node

_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Served:
    """An allocation's listening socket and, while somebody uses it, the process behind it."""

    allocation: Allocation
    listener: socket.socket
    number: int
    inode: int
    process: int = 0
    line: socket.socket | None = None
    use: Use = field(default_factory=lambda: Use(0, 0, 0, 0))


class NodePlatform:
    """Serves the allocations under a folder, as records come and go.

    `epc` is the node's EPC in bytes: allocations beyond it are not served. `quoter` makes the
    quotes; `idle` is after how many seconds without a program a child ends.
    """

    def __init__(
        self,
        identity: Identity,
        allocations: Allocations,
        *,
        epc: int,
        quoter: Quoter | None = None,
        idle: float = _IDLE,
    ) -> None:
        self._identity = identity
        self._allocations = allocations
        self._epc = epc
        self._quoter = quoter
        self._idle = idle
        self._selector = selectors.DefaultSelector()
        self._served: dict[str, _Served] = {}
        self._refused: set[str] = set()
        self._numbers = 0
        self._stopping = False
        self._lock, self._control = self._take_folder()

    def _take_folder(self) -> tuple[int, socket.socket]:
        """Be the only platform of the folder. Raises ConfigError, OSError."""
        self._allocations.prepare()
        path = self._allocations.control
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(
                f"{self._allocations.folder} is served by another platform already"
            ) from None
        return lock, _listen(path, 0o600)

    def stop(self) -> None:
        """Have `run` return soon."""
        self._stopping = True

    def run(self) -> None:
        """Serve until stopped. Enclaves end with it; programs meet SGX_ERROR_ENCLAVE_LOST."""
        gc.collect()
        gc.freeze()  # children share what is there now
        self._selector.register(self._control, selectors.EVENT_READ, self._converse)
        _logger.info("event=platform_listens folder=%s epc=%d", self._allocations.folder, self._epc)
        due = 0.0
        while not self._stopping:
            if time.monotonic() >= due:
                self.follow()
                due = time.monotonic() + _TICK
            for key, _ in self._selector.select(max(due - time.monotonic(), 0)):
                handler: Callable[[], None] = key.data
                handler()
        for name in list(self._served):
            self._drop(name)
        self._control.close()
        os.close(self._lock)

    # --- allocations

    def follow(self) -> None:
        """Make sockets for new allocations and drop those that are gone."""
        wanted = {each.id: each for each in self._allocations.list()}
        for name, served in list(self._served.items()):
            kept = name in wanted and not wanted[name].same
            if not kept or not self._still_there(served):
                self._drop(name)
        for name, allocation in wanted.items():
            if allocation.same:
                self._link(allocation)
                continue
            known = self._served.get(name)
            if known is not None:
                self._settle(known, allocation)
            elif self._fits(allocation):
                try:
                    self._add(allocation)
                except OSError as error:
                    _logger.warning("event=allocation_failed id=%s reason=%s", name, error)

    def _fits(self, allocation: Allocation) -> bool:
        """Return whether the node has EPC for an allocation besides the others."""
        others = sum(
            each.allocation.epc or 0
            for each in self._served.values()
            if each.allocation.id != allocation.id
        )
        fits = others + (allocation.epc or 0) <= self._epc
        if fits:
            self._refused.discard(allocation.id)
        elif allocation.id not in self._refused:
            self._refused.add(allocation.id)
            _logger.warning(
                "event=allocation_refused id=%s epc=%s others=%d node=%d",
                allocation.id,
                allocation.epc,
                others,
                self._epc,
            )
        return fits

    def _still_there(self, served: _Served) -> bool:
        """Return whether a socket is where its container looks for it."""
        try:
            return self._allocations.socket(served.allocation.id).stat().st_ino == served.inode
        except OSError:
            return False

    def _add(self, allocation: Allocation) -> None:
        """Listen for an allocation's container."""
        path = self._allocations.socket(allocation.id)
        listener = _listen(path, 0o666)
        self._numbers += 1
        served = _Served(allocation, listener, self._numbers, path.stat().st_ino)
        self._served[allocation.id] = served
        if allocation.epc is not None:
            self._watch(served)
        _logger.info("event=allocation_served id=%s epc=%s", allocation.id, allocation.epc)

    def _link(self, allocation: Allocation) -> None:
        """Let an allocation's container reach the one that it is a second name of."""
        target = self._allocations.socket(allocation.same)
        link = self._allocations.socket(allocation.id)
        try:
            if link.exists() and link.samefile(target):
                return
            link.unlink(missing_ok=True)
            link.hardlink_to(target)
        except OSError as error:  # the other is not served yet, or no longer
            _logger.debug("event=link_failed id=%s reason=%s", allocation.id, error)

    def _settle(self, served: _Served, allocation: Allocation) -> None:
        """Begin to serve an allocation whose size has become known."""
        if served.allocation.epc is None and allocation.epc is not None and self._fits(allocation):
            served.allocation = allocation
            self._watch(served)

    def _watch(self, served: _Served) -> None:
        """Wait for the next program that connects."""
        self._selector.register(served.listener, selectors.EVENT_READ, lambda: self._start(served))

    def _drop(self, name: str) -> None:
        """End an allocation and its enclaves."""
        served = self._served.pop(name)
        if served.process:
            with contextlib.suppress(OSError):  # it ends by itself too, as its line does
                os.kill(served.process, signal.SIGKILL)
            self._reap(served)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(served.listener)
        served.listener.close()
        _logger.info("event=allocation_dropped id=%s", name)

    # --- their processes

    def _start(self, served: _Served) -> None:
        """Fork the process that serves an allocation."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            process = os.fork()
        except OSError as error:
            _logger.warning("event=fork_failed id=%s reason=%s", served.allocation.id, error)
            time.sleep(0.1)
            return
        if not process:
            self._be_child(served, theirs, (ours,))
        theirs.close()
        ours.settimeout(0)
        served.process, served.line = process, ours
        self._selector.unregister(served.listener)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(served))

    def _hear(self, served: _Served) -> None:
        """Note what a child uses, or its end."""
        assert served.line is not None  # noqa: S101  # it was just readable
        try:
            message = served.line.recv(_USE.size)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if len(message) == _USE.size:
            served.use = Use(served.allocation.epc or 0, *_USE.unpack(message))
        elif not message:
            self._reap(served)
            self._watch(served)

    def _reap(self, served: _Served) -> None:
        """Forget a child that has ended, or is about to."""
        if served.line is not None:
            self._selector.unregister(served.line)
            served.line.close()
        _, status = os.waitpid(served.process, 0)
        if status:
            _logger.warning("event=child_ended id=%s status=%d", served.allocation.id, status)
        served.process, served.line = 0, None
        served.use = Use(0, 0, served.use.peak, 0)

    def _be_child(
        self, served: _Served, line: socket.socket, ours: tuple[socket.socket, ...]
    ) -> None:
        """Serve one allocation; never return."""
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            self._forget_others(served, ours)
            _renounce(served.number)
            _serve(self._identity, self._quoter, served, line, self._idle)
        except BaseException:
            _logger.exception("event=child_failed id=%s", served.allocation.id)
        finally:
            os._exit(0)

    def _forget_others(self, served: _Served, ours: tuple[socket.socket, ...]) -> None:
        """Close in a child what belongs to the parent and to other allocations."""
        self._selector.close()
        for each in ours:
            each.close()
        self._control.close()
        os.close(self._lock)
        for other in self._served.values():
            if other is not served:
                other.listener.close()
            if other.line is not None:
                other.line.close()

    # --- the administrator

    def _converse(self) -> None:
        """Answer whoever has connected to the control socket, which only root can."""
        try:
            connection, _ = self._control.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(1.0)
            try:
                if connection.recv(LONGEST):
                    self.follow()
                    connection.send(bytes(self.standing()))
            except OSError as error:
                _logger.info("event=control_failed reason=%s", error)

    def standing(self) -> Standing:
        """Return how the platform stands now."""
        uses = {
            name: Use(each.allocation.epc or 0, each.use.used, each.use.peak, each.use.enclaves)
            for name, each in self._served.items()
        }
        return Standing(self._identity.platform_id.hex(), self._epc, uses)


def _listen(path: Path, mode: int) -> socket.socket:
    """Listen at a path, in place of whoever did before."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(old)
    listener.listen(_BACKLOG)
    return listener


def _renounce(number: int) -> None:
    """Give up root's rights, and bound what a process may take of the node."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_CHILD_OOM_SCORE))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_DATA, (_CHILD_MEMORY, _CHILD_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it has the platform's keys
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        _become(_FIRST_USER + number)
    except PermissionError:
        _logger.warning("event=root_kept reason=no CAP_SETUID and CAP_SETGID to give it up")
    except OSError:  # a user namespace that is not as large
        _become(_NOBODY)


def _become(user: int) -> None:
    """Take a user's and group's id for good."""
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _serve(
    identity: Identity, quoter: Quoter | None, served: _Served, line: socket.socket, idle: float
) -> None:
    """Be the processor of one container until it is idle, or the parent is gone."""
    processor = Processor(identity, epc_size=served.allocation.epc, evicts=False)
    quoting = None if quoter is None else Quoting(lambda: quoter)
    service = Service(processor, served.listener, quoting=quoting, idle=idle, any_user=True)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    threading.Thread(target=_report, args=(line, processor), daemon=True).start()
    service.run()


def _end_with(line: socket.socket) -> None:
    """End this process when its parent has."""
    while True:
        try:
            if not line.recv(1):
                break
        except InterruptedError:
            continue
        except OSError:
            break
    os._exit(0)


def _report(line: socket.socket, processor: Processor) -> None:
    """Tell the parent what is used, whenever that has changed."""
    last = b""
    while True:
        with processor.lock:
            epc = processor.epc
            told = _USE.pack(epc.used << 12, epc.peak << 12, len(processor.enclaves))
        if told != last:
            with contextlib.suppress(OSError):
                line.send(told)
                last = told
        time.sleep(_TICK)
