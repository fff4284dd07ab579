# SPDX-License-Identifier: Apache-2.0
"""The platform service: the emulated processor of programs that are not Python.

It listens on a socket that only its user can reach, and takes connections of that user's
processes; on a cluster's node (`ensconce.platform.node`) the socket is a container's. An enclave
lives as long as the connection it was loaded over.
"""

import contextlib
import fcntl
import logging
import os
import socket
import struct
import threading
import time
from pathlib import Path

from ensconce.errors import ConfigError, EnsconceError, ProtocolError
from ensconce.machine.processor import Processor
from ensconce.platform.quote_session import Quoting
from ensconce.platform.remote import DEADLINE
from ensconce.platform.session import Session
from ensconce.platform.wire import HELLO_SIZE, Hello, Kind

__all__ = ["Service", "own_lock", "take_socket"]

_BACKLOG = 64
_MOST_CONNECTIONS = 1024
_GREETING_DEADLINE = 10.0
_TICK = 0.25
_CREDENTIALS = struct.Struct("3i")  # struct ucred

_logger = logging.getLogger(__name__)


def take_socket(path: Path) -> tuple[socket.socket, int]:
    """Listen at a path that no other service has; return the socket and its lock's descriptor.

    The lock's file tells the service's process, for whoever has to end it; `own_lock` writes that.

    Raises ConfigError where a service is there already, or the folder is not the user's own.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = path.parent.stat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o022:
        raise ConfigError(
            f"{path.parent} must belong to this user and be writable by nobody else; "
            "chmod it to 700, or set ENSCONCE_SERVICE"
        )
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"a platform service listens at {path} already") from None
        path.unlink(missing_ok=True)
        old = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(old)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        os.close(lock)
        raise
    return listener, lock


def own_lock(lock: int) -> None:
    """Write this process's id into a lock that `take_socket` returned."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


class Service:
    """Serves one processor at a listening socket.

    With `idle` seconds it ends after so long without a connection. A client has `deadline` seconds
    to carry out a command. `quoting` is the quoting role of the same processor, where there is one.
    With `any_user` whoever reaches the socket is served: then the folder it is in decides.
    """

    def __init__(
        self,
        processor: Processor,
        listener: socket.socket,
        *,
        quoting: Quoting | None = None,
        idle: float = 0,
        deadline: float = DEADLINE,
        any_user: bool = False,
    ) -> None:
        self._any_user = any_user
        self._processor = processor
        self._listener = listener
        self._quoting = quoting
        self._idle = idle
        self._deadline = deadline
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}
        self._connections = 0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Have `run` return soon."""
        self._stopping.set()

    def run(self) -> None:
        """Take connections until stopped or idle."""
        self._listener.settimeout(_TICK)
        quiet_since = time.monotonic()
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                if self._connections:
                    quiet_since = time.monotonic()
                elif self._idle and time.monotonic() - quiet_since > self._idle:
                    return
                continue
            except OSError as error:  # no descriptors left: it passes as clients go
                _logger.warning("event=accept_failed reason=%s", error)
                time.sleep(_TICK)
                continue
            quiet_since = time.monotonic()
            self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        """Start a thread for a connection, if it may be served."""
        _, user, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        allowed = self._any_user or user == os.getuid()
        if not allowed or self._connections >= _MOST_CONNECTIONS:
            _logger.warning("event=connection_refused uid=%d", user)
            connection.close()
            return
        with self._lock:
            self._connections += 1
        try:
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except RuntimeError:  # no more threads
            self._gone(connection)

    def _gone(self, connection: socket.socket) -> None:
        """Note the end of a connection."""
        connection.close()
        with self._lock:
            self._connections -= 1

    def _serve(self, connection: socket.socket) -> None:
        """Be a connection's thread. Whatever goes wrong in it ends it and nothing else."""
        try:
            connection.settimeout(_GREETING_DEADLINE)
            data, files, flags, _ = socket.recv_fds(connection, HELLO_SIZE + 1, 1)
            try:
                if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
                    raise ProtocolError("the greeting brings more than it may")
                hello = Hello.parse(data)
                if hello.kind is Kind.LOAD:
                    self._load(connection, hello, files)
                elif hello.kind is Kind.ATTACH:
                    self._attach(connection, hello)
                else:
                    self._quote(connection, files)
            finally:
                for file in files:
                    os.close(file)
        except (EnsconceError, OSError) as error:
            _logger.info("event=connection_ended reason=%s", error)
        except Exception:
            _logger.exception("event=connection_failed")
        finally:
            self._gone(connection)

    def _load(self, connection: socket.socket, hello: Hello, files: list[int]) -> None:
        """Hold an enclave for a client."""
        if not files:
            raise ProtocolError("the greeting brings no enclave file")
        session = Session(self._processor, connection, self._deadline)
        with self._lock:
            self._sessions[session.token] = session
        try:
            if session.load(hello, files[0]):
                _logger.info("event=enclave_loaded name=%s", hello.name)
                session.wait()
        finally:
            with self._lock:
                del self._sessions[session.token]
            session.close()

    def _attach(self, connection: socket.socket, hello: Hello) -> None:
        """Serve a thread of a client's enclave."""
        with self._lock:
            session = self._sessions.get(hello.token)
        if session is None or not session.attach(connection):
            raise ProtocolError("there is no enclave of that token")
        session.serve(connection)

    def _quote(self, connection: socket.socket, files: list[int]) -> None:
        """Serve a client that wants quotes."""
        if self._quoting is None:
            raise ProtocolError("this service makes no quotes")
        if files:
            raise ProtocolError("a greeting for quotes brings a file")
        self._quoting.serve(connection, self._deadline)

    def close(self) -> None:
        """Close the listening socket."""
        with contextlib.suppress(OSError):
            self._listener.close()
