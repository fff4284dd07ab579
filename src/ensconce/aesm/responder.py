# SPDX-License-Identifier: Apache-2.0
"""Where answers come from: a backend on this node, or another AESM service."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ensconce.aesm.answers import Fields, answer, asks_backend
from ensconce.aesm.backend import Backend
from ensconce.aesm.codes import Code, Refusal
from ensconce.aesm.endpoint import Peer
from ensconce.aesm.limits import Limits
from ensconce.aesm.wire import (
    LENGTH,
    MOST_ANSWER,
    Question,
    code_of,
    frame,
    make_answer,
)
from ensconce.errors import ProtocolError

__all__ = ["BackendResponder", "ProxyResponder", "Reply", "Responder"]

_UPSTREAM_CONNECTIONS = 16  # the vendor's service lets 32 wait
_RETRY_AFTER = 0.2


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's bytes, and what the log says of them."""

    data: bytes
    code: int = Code.SUCCESS
    reason: str = ""


class Responder(Protocol):
    """Answers requests; raises nothing but Refusal and TimeoutError."""

    async def respond(self, question: Question, peer: Peer) -> Reply:
        """Answer a request."""

    def close(self) -> None:
        """Wait for nothing more."""


class Turns:
    """Lets requests through so that each process has a few under way, and all in its order."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._semaphores: dict[Peer, asyncio.Semaphore] = {}
        self._users: Counter[Peer] = Counter()

    @asynccontextmanager
    async def turn(self, peer: Peer) -> AsyncIterator[None]:
        """Wait for a process's turn."""
        semaphore = self._semaphores.setdefault(peer, asyncio.Semaphore(self._each))
        self._users[peer] += 1
        try:
            async with semaphore:
                yield
        finally:
            self._users[peer] -= 1
            if not self._users[peer]:
                del self._users[peer], self._semaphores[peer]


class BackendResponder:
    """Answers from a backend. A slow one gets a thread, and clients take turns at it."""

    def __init__(self, backend: Backend, limits: Limits | None = None) -> None:
        self._backend = backend
        self._turns = Turns((limits or Limits()).turns)
        self._thread = ThreadPoolExecutor(1, "aesm-backend") if backend.slow else None

    async def respond(self, question: Question, peer: Peer) -> Reply:
        """Answer a request; see `Responder`."""
        try:
            if self._thread is None or not asks_backend(question):
                fields = answer(question, self._backend)
            else:
                fields = await self._in_thread(self._thread, question, peer)
        except Refusal as error:
            return Reply(make_answer(question.kind, error.code), error.code, error.reason)
        return Reply(make_answer(question.kind, Code.SUCCESS, **fields))

    async def _in_thread(
        self, thread: ThreadPoolExecutor, question: Question, peer: Peer
    ) -> Fields:
        """Ask a slow backend when it is this client's turn."""
        async with self._turns.turn(peer):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(thread, answer, question, self._backend)

    def close(self) -> None:
        """Leave the thread to itself; see `Responder`."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)


class ProxyResponder:
    """Passes requests on to another service, each byte as it came, and its answers back.

    That service sees whole requests only, and few at a time: slow clients don't reach it.
    """

    def __init__(self, target: Path, limits: Limits | None = None) -> None:
        self._target = target
        self._turns = Turns((limits or Limits()).turns)
        self._slots = asyncio.Semaphore(_UPSTREAM_CONNECTIONS)

    async def respond(self, question: Question, peer: Peer) -> Reply:
        """Pass a request on; see `Responder`."""
        try:
            async with self._turns.turn(peer), self._slots:
                data = await self._ask_twice(question.raw)
            code = code_of(data, question.kind)
        except OSError as error:
            reason = f"the service at {self._target} can't be reached: {error.strerror or error}"
            return self._refuse(question, Code.SERVICE_UNAVAILABLE, reason)
        except (ProtocolError, EOFError) as error:
            reason = f"the service at {self._target} gave no answer that can be read: {error}"
            return self._refuse(question, Code.UNEXPECTED_ERROR, reason)
        return Reply(data, code, f"the service at {self._target} says so" if code else "")

    async def _ask_twice(self, request: bytes) -> bytes:
        """Ask, and once more after a moment, should the service be restarting."""
        try:
            return await self._ask(request)
        except (ConnectionError, FileNotFoundError, EOFError):
            await asyncio.sleep(_RETRY_AFTER)
            return await self._ask(request)

    async def _ask(self, request: bytes) -> bytes:
        """Carry out one exchange with the other service."""
        reader, writer = await asyncio.open_unix_connection(self._target)
        try:
            writer.write(frame(request))
            await writer.drain()
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            if length > MOST_ANSWER:
                raise ProtocolError(f"it has {length} bytes, and may have {MOST_ANSWER}")
            return await reader.readexactly(length)
        finally:
            writer.transport.abort()

    def _refuse(self, question: Question, code: Code, reason: str) -> Reply:
        """Answer in the other service's place."""
        return Reply(make_answer(question.kind, code), code, reason)

    def close(self) -> None:
        """Do nothing: connections end with their requests; see `Responder`."""
