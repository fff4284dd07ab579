# SPDX-License-Identifier: Apache-2.0
"""The service: takes connections, reads one request of each, answers, closes.

Nothing that a client does or leaves undone holds up another one: reading and writing have
deadlines, sizes have limits, and so has each client's share of the connections.
"""

import asyncio
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from ensconce.aesm.codes import Code
from ensconce.aesm.endpoint import Endpoint, Peer, peer_of
from ensconce.aesm.journal import Journal
from ensconce.aesm.limits import Connections, Limits
from ensconce.aesm.responder import Reply, Responder
from ensconce.aesm.wire import (
    LENGTH,
    MOST_REQUEST,
    Question,
    frame,
    make_answer,
    parse_request,
)
from ensconce.errors import ConfigError, ProtocolError

__all__ = ["Daemon"]

_BACKLOG = 1024
# from 3.13 on asyncio would remove the socket's path, which may be the supervisor's
_KEEP_SOCKET: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
# steps of the event loop in which what it has accepted becomes a task of ours; a server that is
# closed before that drops it
_ACCEPT_STEPS = 10
_CANCELLED = {
    "evicted": "the connection was slow to send its request, and had to make room",
    "stopped": "the service stopped, and the connection took longer than it could wait",
}
_LOOK_AGAIN = 2.0  # seconds between looks at whether the socket is still ours


class _Dropped(Exception):
    """A connection gets no answer; `reason` is a metric's label."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class Daemon:
    """Serves one socket with one responder."""

    def __init__(
        self,
        endpoint: Endpoint,
        responder: Responder,
        *,
        limits: Limits | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._responder = responder
        self._limits = limits or Limits()
        self._journal = journal or Journal()
        self._connections = Connections(self._limits)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None] | None = None) -> None:
        """Serve until `stop`; then answer everybody who has connected, and return.

        Raises ConfigError when another service takes the socket away.
        """
        server = await asyncio.start_unix_server(
            self._connected,
            sock=self._endpoint.listener,
            limit=MOST_REQUEST,
            backlog=_BACKLOG,
            **_KEEP_SOCKET,
        )
        self._journal.event("serving", socket=str(self._endpoint.path))
        if ready is not None:
            ready()
        try:
            await self._until_stopped(stop)
            self._journal.event("draining", connections=len(self._connections))
            await self._take_last()
        finally:
            server.close()
            self._endpoint.withdraw()
            self._endpoint.close()
            await self._drain()
            self._responder.close()
        self._journal.event("stopped")

    async def _until_stopped(self, stop: asyncio.Event) -> None:
        """Wait for the end; see now and then whether clients still come here."""
        while not stop.is_set():
            if self._endpoint.lost():
                raise ConfigError(
                    f"somebody removed or replaced {self._endpoint.path}: another AESM service, "
                    "such as the vendor's aesmd, runs on this node; keep one of them"
                )
            try:
                await asyncio.wait_for(stop.wait(), _LOOK_AGAIN)
            except TimeoutError:
                continue

    async def _take_last(self) -> None:
        """Hide the socket, take the connections that wait in it already, and no more.

        Those in a passed socket wait for whoever serves it next.
        """
        listener = self._endpoint.listener
        if not self._endpoint.passed:
            self._endpoint.withdraw()
            waiting = select.poll()
            waiting.register(listener, select.POLLIN)
            deadline = time.monotonic() + self._limits.drain
            while waiting.poll(0) and time.monotonic() < deadline:
                await asyncio.sleep(0)
        asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_ACCEPT_STEPS):
            await asyncio.sleep(0)

    async def _drain(self) -> None:
        """Give the connections that are open their time."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._limits.drain)
            self._stopping = True
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be a connection's task; whatever goes wrong in it ends it and nothing else."""
        task = asyncio.current_task()
        if task is None:  # never: this is one
            return
        connection: socket.socket = writer.get_extra_info("socket")
        peer = peer_of(connection)
        number = self._connections.admit(peer, lambda: _cancel(task))
        if number is None:
            writer.transport.abort()
            self._journal.dropped(peer, "quota", "this process or user has too many connections")
            return
        self._tasks.add(task)
        self._journal.metrics.open(len(self._connections))
        try:
            await self._exchange(reader, writer, peer, number)
        except _Dropped as error:
            if error.reason != "empty":  # whoever only looks whether somebody is there
                self._journal.dropped(peer, error.reason, str(error))
        except asyncio.CancelledError:
            why = "stopped" if self._stopping else "evicted"
            self._journal.dropped(peer, why, _CANCELLED[why])
        except (ConnectionError, BrokenPipeError):
            self._journal.dropped(peer, "closed", "the client went away before its answer")
        except Exception:
            self._journal.failed("connection_failed", uid=peer.uid, pid=peer.pid)
        finally:
            writer.transport.abort()
            self._connections.gone(number)
            self._tasks.discard(task)
            self._journal.metrics.open(len(self._connections))

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer,
        number: int,
    ) -> None:
        """Read a request, answer it."""
        question = await self._receive(reader)
        self._connections.has_read(number)
        start = time.monotonic()
        reply = await self._respond(question, peer)
        await self._send(writer, reply.data)
        seconds = time.monotonic() - start
        self._journal.answered(peer, question.kind.name, reply.code, reply.reason, seconds)

    async def _receive(self, reader: asyncio.StreamReader) -> Question:
        """Read a request within its deadline and size."""
        limit = self._limits.receive
        try:
            async with asyncio.timeout(limit):
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                if length > MOST_REQUEST:
                    raise _Dropped(
                        "too_long", f"a request has {length} bytes, and may have {MOST_REQUEST}"
                    )
                return parse_request(await reader.readexactly(length))
        except TimeoutError:
            raise _Dropped("deadline", f"no whole request came within {limit:g} s") from None
        except asyncio.IncompleteReadError as error:
            if not error.partial and error.expected == LENGTH.size:
                raise _Dropped("empty", "no request came") from None
            raise _Dropped("truncated", "the client ended in the middle of its request") from None
        except ProtocolError as error:
            raise _Dropped("malformed", str(error)) from None

    async def _respond(self, question: Question, peer: Peer) -> Reply:
        """Have a request answered, in the time that the client has."""
        limit = self._limits.work
        if question.timeout:
            limit = min(limit, question.timeout)
        try:
            async with asyncio.timeout(limit):
                return await self._responder.respond(question, peer)
        except TimeoutError:
            reason = f"there was no answer within {limit:g} s"
        except Exception:
            self._journal.failed("request_failed", request=question.kind.name)
            code, reason = Code.UNEXPECTED_ERROR, "the service failed; its log has the exception"
            return Reply(make_answer(question.kind, code), code, reason)
        return Reply(make_answer(question.kind, Code.BUSY), Code.BUSY, reason)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Send an answer; the client has to take all of it within its deadline."""
        limit = self._limits.send
        writer.transport.set_write_buffer_limits(high=0)
        try:
            async with asyncio.timeout(limit):
                writer.write(frame(data))
                await writer.drain()
        except TimeoutError:
            raise _Dropped(
                "deadline", f"the client did not take its answer in {limit:g} s"
            ) from None


def _cancel(task: asyncio.Task[None]) -> None:
    """End a connection's task."""
    task.cancel()
