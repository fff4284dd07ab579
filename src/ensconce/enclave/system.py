# SPDX-License-Identifier: Apache-2.0
"""The OCALLs of tee_libc.edl: what an enclave's C library may ask of this process.

They serve an enclave only if it imports them. Output, input, time and sleep are then given to
everyone; files and the network only as far as an `Allowance` goes. A host function of the same
name takes their place. Answers are those of Linux system calls: a result, or a negative errno.
"""

import errno
import functools
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["SYSTEM_OCALLS", "Allowance", "SystemOcalls"]

_OPEN_AT_MOST = 256
_STANDARD_FILES = 3
_LONGEST_SLEEP = 1 << 31  # seconds
_CLOCKS = range(8)
_TWO = struct.Struct("<2q")
_FACTS = struct.Struct("<4q")

_OPEN_FLAGS = os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND | os.O_SYNC
_LARGE_FILE = 0o100000  # what musl sets; for Python on x86-64 it is 0
_IGNORED_FLAGS = os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW | os.O_NONBLOCK | _LARGE_FILE
_FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_SOCKET_FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
_IPV4 = struct.Struct("!2xH4s")
_IPV6 = struct.Struct("!2xHI16sI")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an enclave's C library may use of the host: a folder, which is its root, the network.

    Links in the folder are not followed, and nothing but ordinary files is opened.
    """

    folder: str | os.PathLike[str] | None = None
    network: bool = False


@dataclass(slots=True)
class _Open:
    """A file or socket; it is closed when the last thread that uses it is done with it."""

    descriptor: int
    peer: socket.socket | None = None
    own: bool = True
    users: int = field(default=0)
    closed: bool = field(default=False)

    def end(self) -> None:
        """Close what the enclave has opened, but not the process's own files."""
        if self.peer is not None:
            self.peer.close()
        elif self.own:
            os.close(self.descriptor)


class _OpenFiles:
    """An enclave's open files, by its own numbers, so that it reaches none of the host's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = {each: _Open(each, own=False) for each in range(_STANDARD_FILES)}

    def add(self, opened: _Open) -> int:
        """Give a number to what was opened, the lowest that is free."""
        with self._lock:
            if len(self._open) < _OPEN_AT_MOST:
                number = next(each for each in range(_OPEN_AT_MOST) if each not in self._open)
                self._open[number] = opened
                return number
        opened.end()
        raise _error(errno.EMFILE)

    @contextmanager
    def use(self, number: int) -> Iterator[_Open]:
        """Give what has a number, which stays open meanwhile; OSError where nothing has it."""
        with self._lock:
            opened = self._open.get(number)
            if opened is None:
                raise _error(errno.EBADF)
            opened.users += 1
        try:
            yield opened
        finally:
            with self._lock:
                opened.users -= 1
                last = opened.closed and opened.users == 0
            if last:
                opened.end()

    @contextmanager
    def use_socket(self, number: int) -> Iterator[socket.socket]:
        """Give the socket that has a number; OSError for anything else."""
        with self.use(number) as opened:
            if opened.peer is None:
                raise _error(errno.ENOTSOCK)
            yield opened.peer

    def remove(self, number: int) -> None:
        """Forget a number; what it stood for is closed when nobody uses it any more."""
        with self.use(number) as opened, self._lock:
            if self._open.get(number) is opened:
                del self._open[number]
            opened.closed = True

    def close(self) -> None:
        """Forget all numbers."""
        for number in list(self._open):
            self.remove(number)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _answering(function: Callable[..., int | None]) -> Callable[..., int]:
    """Return a function that answers with its result, or with the negative errno."""

    @functools.wraps(function)
    def answer(*arguments: Any) -> int:
        try:
            return function(*arguments) or 0
        except OSError as error:
            return -(error.errno or errno.EIO)

    return answer


class SystemOcalls:
    """The C library's OCALLs for one enclave."""

    def __init__(self, allowance: Allowance | None = None) -> None:
        self._allowance = allowance or Allowance()
        self._files = _OpenFiles()

    def table(self) -> Mapping[str, Callable[..., int]]:
        """Return the functions by the names that EDL files import them by."""
        return {each: _answering(getattr(self, each)) for each in SYSTEM_OCALLS}

    def close(self) -> None:
        """Close what the enclave left open."""
        self._files.close()

    # --- what is open

    def tee_write(self, file: int, data: bytes | None, size: int) -> int:
        """Write; what Python has printed so far comes first."""
        with self._files.use(file) as opened:
            if not opened.own:
                with suppress(AttributeError, ValueError):  # none, or closed
                    sys.stdout.flush()
            return os.write(opened.descriptor, (data or b"")[:size])

    def tee_read(self, file: int, data: memoryview | None, size: int) -> int:
        """Read what is there."""
        with self._files.use(file) as opened:
            return os.readv(opened.descriptor, [data[:size]]) if data is not None else 0

    def tee_close(self, file: int) -> None:
        """Close."""
        self._files.remove(file)

    # --- files

    @contextmanager
    def _place(self, path: str) -> Iterator[tuple[int, str]]:
        """Give the allowed folder's descendant that holds a path's last part, and that part."""
        if self._allowance.folder is None:
            raise _error(errno.EACCES)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or not parts:
            raise _error(errno.EACCES if parts else errno.EISDIR)
        root = Path(self._allowance.folder)
        folder = os.open(root, _FOLDER_FLAGS & ~os.O_NOFOLLOW)
        try:
            for part in parts[:-1]:
                deeper = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
                os.close(folder)
                folder = deeper
            yield folder, parts[-1]
        finally:
            os.close(folder)

    def tee_open(self, path: str, flags: int, mode: int) -> int:
        """Open an ordinary file."""
        flags &= ~_IGNORED_FLAGS
        if flags & ~_OPEN_FLAGS:
            raise _error(errno.EINVAL)
        # A pipe must not hold up this thread, nor a terminal become the process's own.
        safe = flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
        with self._place(path) as (folder, name):
            descriptor = os.open(name, safe, mode & 0o777, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _error(errno.EACCES)
        return self._files.add(_Open(descriptor))

    def tee_lseek(self, file: int, offset: int, whence: int) -> int:
        """Set and tell a file's position."""
        with self._files.use(file) as opened:
            return os.lseek(opened.descriptor, offset, whence)

    def tee_fstat(self, file: int, facts: memoryview) -> None:
        """Tell a file's mode, size and time of modification."""
        with self._files.use(file) as opened:
            found = os.fstat(opened.descriptor)
        modified = divmod(found.st_mtime_ns, 10**9)
        _FACTS.pack_into(facts, 0, found.st_mode, found.st_size, *modified)

    def tee_unlink(self, path: str) -> None:
        """Remove a file."""
        with self._place(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def tee_rename(self, before: str, after: str) -> None:
        """Give a file another name."""
        with self._place(before) as (old, name), self._place(after) as (new, other):
            os.rename(name, other, src_dir_fd=old, dst_dir_fd=new)

    # --- time

    def tee_clock_gettime(self, clock: int, at: memoryview) -> None:
        """Tell a clock's seconds and nanoseconds."""
        if clock not in _CLOCKS:
            raise _error(errno.EINVAL)
        _TWO.pack_into(at, 0, *divmod(time.clock_gettime_ns(clock), 10**9))

    def tee_nanosleep(self, seconds: int, nanoseconds: int) -> None:
        """Sleep."""
        time.sleep(min(max(seconds, 0), _LONGEST_SLEEP) + max(nanoseconds, 0) / 10**9)

    # --- the network

    def tee_socket(self, domain: int, kind: int, protocol: int) -> int:
        """Make a socket for TCP or UDP."""
        if not self._allowance.network:
            raise _error(errno.EACCES)
        if domain not in (socket.AF_INET, socket.AF_INET6):
            raise _error(errno.EAFNOSUPPORT)
        if kind & ~_SOCKET_FLAGS not in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            raise _error(errno.EPROTONOSUPPORT)
        made = socket.socket(domain, kind & ~_SOCKET_FLAGS, protocol)
        return self._add(made, kind)

    def _add(self, made: socket.socket, flags: int) -> int:
        """Give a number to a socket; it waits unless the flags say otherwise."""
        made.setblocking(not flags & socket.SOCK_NONBLOCK)
        return self._files.add(_Open(made.fileno(), made))

    def tee_connect(self, file: int, address: bytes | None, size: int) -> None:
        """Connect a socket."""
        with self._files.use_socket(file) as peer:
            peer.connect(_address(peer, (address or b"")[:size]))

    def tee_bind(self, file: int, address: bytes | None, size: int) -> None:
        """Give a socket its address."""
        with self._files.use_socket(file) as own:
            own.bind(_address(own, (address or b"")[:size]))

    def tee_listen(self, file: int, waiting: int) -> None:
        """Let others connect."""
        with self._files.use_socket(file) as own:
            own.listen(max(waiting, 0))

    def tee_accept(self, file: int, flags: int) -> int:
        """Take the next connection."""
        with self._files.use_socket(file) as own:
            return self._add(own.accept()[0], flags)

    def tee_send(self, file: int, data: bytes | None, size: int, flags: int) -> int:
        """Send."""
        with self._files.use_socket(file) as peer:
            return peer.send((data or b"")[:size], flags | socket.MSG_NOSIGNAL)

    def tee_recv(self, file: int, data: memoryview | None, size: int, flags: int) -> int:
        """Receive what is there."""
        with self._files.use_socket(file) as peer:
            return peer.recv_into(data[:size], 0, flags) if data is not None else 0

    def tee_shutdown(self, file: int, how: int) -> None:
        """End one or both directions of a connection."""
        with self._files.use_socket(file) as peer:
            peer.shutdown(how)


SYSTEM_OCALLS = frozenset(each for each in vars(SystemOcalls) if each.startswith("tee_"))


def _address(own: socket.socket, raw: bytes) -> tuple[Any, ...]:
    """Return what Python calls a struct sockaddr_in or sockaddr_in6 of a socket's family."""
    layout = _IPV4 if own.family == socket.AF_INET else _IPV6
    if len(raw) < layout.size or int.from_bytes(raw[:2], "little") != own.family:
        raise _error(errno.EAFNOSUPPORT)
    if own.family == socket.AF_INET:
        port, host = _IPV4.unpack_from(raw)
        return socket.inet_ntop(socket.AF_INET, host), port
    port, flow, host, scope = _IPV6.unpack_from(raw)
    scope = int.from_bytes(scope.to_bytes(4, "big"), "little")  # the one field in host's order
    return socket.inet_ntop(socket.AF_INET6, host), port, flow, scope
