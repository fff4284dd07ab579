# SPDX-License-Identifier: Apache-2.0
"""A service in a thread of the test's process, and ways to talk to it that no client would use."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ensconce.aesm.client import Client
from ensconce.aesm.daemon import Daemon
from ensconce.aesm.endpoint import Endpoint, take_socket
from ensconce.aesm.journal import Journal
from ensconce.aesm.limits import Limits
from ensconce.aesm.responder import Responder
from ensconce.aesm.wire import LENGTH


@dataclass
class Serving:
    """A running service."""

    path: Path
    journal: Journal
    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event
    thread: threading.Thread
    failures: list[BaseException]

    def client(self, **options: float) -> Client:
        return Client(self.path, **options)

    def stop(self) -> None:
        """Do what SIGTERM does, and wait for the end."""
        self.begin_stop()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def begin_stop(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.stopping.set)

    def count(self, sample: str, **labels: str) -> float:
        """Return a metric's value, 0 where there is none."""
        return self.journal.metrics.registry.get_sample_value(sample, labels) or 0.0

    def dropped(self, reason: str) -> float:
        return self.count("ensconce_aesm_connections_dropped_total", reason=reason)


@contextmanager
def serving(
    path: Path, responder: Responder, limits: Limits | None = None, endpoint: Endpoint | None = None
) -> Iterator[Serving]:
    """Run a service at a path for as long as the block runs."""
    service = start(path, responder, limits, endpoint)
    try:
        yield service
    finally:
        service.stop()


def start(
    path: Path, responder: Responder, limits: Limits | None = None, endpoint: Endpoint | None = None
) -> Serving:
    """Start a service."""
    journal, listening, made = Journal(), threading.Event(), []
    failures: list[BaseException] = []
    taken = endpoint or take_socket(path)

    async def run() -> None:
        stop = asyncio.Event()
        made.append((asyncio.get_running_loop(), stop))
        daemon = Daemon(taken, responder, limits=limits, journal=journal)
        await daemon.run(stop, ready=listening.set)

    def body() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # the test looks at it
            failures.append(error)
            listening.set()

    thread = threading.Thread(target=body)
    thread.start()
    assert listening.wait(30)
    return Serving(path, journal, *made[0], thread, failures)


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(str(path))
    return connection


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the service closes."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def exchange(path: Path, data: bytes) -> bytes:
    """Send bytes as they are; return the answer without its length, empty where there is none."""
    with connect(path) as connection:
        connection.sendall(data)
        answer = rest(connection)
    assert not answer or LENGTH.unpack(answer[:4])[0] == len(answer) - 4
    return answer[4:]


def eventually(holds: Callable[[], object]) -> bool:
    """Wait for something that the service does after it has answered."""
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
