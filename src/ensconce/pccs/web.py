# SPDX-License-Identifier: Apache-2.0
"""The HTTP face of a PCCS, an ASGI application over `Service`.

Answers that are the same for the same question are remembered until they expire, or until the
database changes, which is looked at once a second; so a replica serves what another one changed a
second later at the latest.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ensconce.errors import EnsconceError, FormatError, VerificationError
from ensconce.pccs.endpoints import ENDPOINTS, Asked, Endpoint, Reply
from ensconce.pccs.metrics import Metrics
from ensconce.pccs.openapi import document
from ensconce.pccs.service import Service
from ensconce.pccs.statuses import V3_WARNING, Status, StatusError
from ensconce.pccs.tokens import TokenHash

__all__ = ["Application", "read_query"]

_LOG = logging.getLogger(__name__)
_LOOK_EVERY = 1.0
_MOST_REMEMBERED = 2048
_BODY_DEADLINE = 15.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_HEX_PARAMETERS = {"qeid", "cpusvn", "pcesvn", "pceid", "encrypted_ppid", "fmspc"}
_Headers = list[tuple[bytes, bytes]]


class Application:
    """The ASGI application. `user` and `admin` are None on a PCCS that nobody may change."""

    def __init__(
        self,
        service: Service,
        *,
        user: TokenHash | None,
        admin: TokenHash | None,
        max_body: int = 2 << 20,
    ) -> None:
        self._service = service
        self._tokens = {"user": user, "admin": admin}
        self._max_body = max_body
        self.metrics = Metrics(service)
        self._remembered: dict[tuple[str, bytes], tuple[int, _Headers, bytes]] = {}
        self._changes, self._looked = (-1, -1), 0.0
        self._hashing = asyncio.Semaphore(1)
        self._app = Starlette(
            routes=[*self._routes()],
            exception_handlers={HTTPException: _http_error},
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        extra: _Headers = [(b"request-id", _request_id(scope))]
        if "/v3/" in scope["path"]:
            extra.append((b"warning", V3_WARNING.encode()))
        ready = await self._remember(scope)
        if ready is not None:
            headers, body = ready
            start = {"type": "http.response.start", "status": 200, "headers": headers + extra}
            await send(start)
            await send({"type": "http.response.body", "body": body})
            self._count(scope["path"], 200)
            return

        async def send_more(message: object) -> None:
            if isinstance(message, dict) and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *extra]
                self._count(scope["path"], message["status"])
            await send(message)  # type: ignore[arg-type]  # a message that was let through

        await self._app(scope, receive, send_more)

    async def _remember(self, scope: Scope) -> tuple[_Headers, bytes] | None:
        """Return a remembered answer that still holds."""
        if scope["method"] != "GET":
            return None
        if (
            time.monotonic() - self._looked > _LOOK_EVERY
            or self._changes[1] != self._service.changed
        ):
            self._looked = time.monotonic()
            changed = self._service.changed
            try:
                number = await asyncio.to_thread(self._service.store.change_number)
            except SQLAlchemyError as error:
                _LOG.error("database=unreachable reason=%r", str(error))
                number = self._changes[0]  # what is remembered was checked and holds
            if (number, changed) != self._changes:
                self._remembered.clear()
                self._changes = (number, changed)
        found = self._remembered.get((scope["path"], scope["query_string"]))
        if found is None or found[0] <= self._service.now():
            return None
        return found[1], found[2]

    def _routes(self) -> list[Route]:
        """Return the routes: each endpoint at each of its paths, and the service's own."""
        routes = [
            Route(path, self._handler(endpoint, version), methods=[endpoint.method])
            for endpoint in ENDPOINTS
            for path, version in endpoint.paths()
        ]
        merged: dict[str, dict[str, Callable[[Request], Awaitable[Response]]]] = {}
        for route in routes:
            by_method = merged.setdefault(route.path, {})
            for method in route.methods or ():
                by_method.setdefault(method, route.endpoint)
        return [
            *(
                Route(path, _by_method(by_method), methods=sorted(by_method))
                for path, by_method in merged.items()
            ),
            Route("/healthz", self._health),
            Route("/metrics", self._metrics),
            Route("/openapi.json", _openapi),
        ]

    def _handler(
        self, endpoint: Endpoint, version: int
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers an endpoint's requests."""

        async def answer(request: Request) -> Response:
            before = self._changes
            try:
                await self._authorize(endpoint, request)
                asked = await self._asked(endpoint, version, request)
                reply = await endpoint.handler(self._service, asked)
            except StatusError as error:
                return _failed(request, error.status, error)
            except FormatError as error:
                return _failed(request, Status.INVALID_REQUEST, error)
            except VerificationError as error:
                return _failed(request, Status.INTEGRITY, error)
            except (EnsconceError, SQLAlchemyError) as error:
                return _failed(request, Status.INTERNAL, error)
            return self._respond(request, reply, before)

        return answer

    def _respond(self, request: Request, reply: Reply, before: tuple[int, int]) -> Response:
        """Return an answer, and remember it if it holds for a while and nothing changed since."""
        response = Response(reply.body, media_type=reply.media, headers=dict(reply.headers))
        unchanged = before == self._changes and before[1] == self._service.changed
        if reply.fresh and unchanged and request.method == "GET":
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            key = (request.scope["path"], request.scope["query_string"])
            self._remembered[key] = (reply.fresh, list(response.raw_headers), reply.body)
        return response

    async def _authorize(self, endpoint: Endpoint, request: Request) -> None:
        """Refuse a request without the token that the endpoint wants."""
        if not endpoint.token:
            return
        wanted = self._tokens[endpoint.token]
        given = request.headers.get(f"{endpoint.token}-token", "")
        if wanted is not None and given and len(given) <= 1024:
            if wanted.remembers(given):
                return
            async with self._hashing:  # one at a time, for it takes a core
                if await asyncio.to_thread(wanted.matches, given):
                    return
        why = "has none set" if wanted is None else "was not given, or another one was"
        raise StatusError(Status.UNAUTHORIZED, f"the {endpoint.token} token {why}")

    async def _asked(self, endpoint: Endpoint, version: int, request: Request) -> Asked:
        """Return what is asked for, once each parameter is known, well-formed and there once."""
        tee = request.scope["path"].split("/")[1]
        query = read_query(endpoint, request.scope["query_string"])
        body = await self._body(request) if endpoint.takes_body else b""
        return Asked(version, tee, query, body)

    async def _body(self, request: Request) -> bytes:
        """Return a request's body, neither too large nor too slow."""
        found = bytearray()
        try:
            async with asyncio.timeout(_BODY_DEADLINE):
                async for part in request.stream():
                    found += part
                    if len(found) > self._max_body:
                        raise StatusError(
                            Status.TOO_LARGE, f"the body has more than {self._max_body} bytes"
                        )
        except (TimeoutError, ClientDisconnect) as error:
            raise StatusError(Status.INVALID_REQUEST, "the body did not come in time") from error
        return bytes(found)

    async def _health(self, _request: Request) -> Response:
        """Answer whether the database can be read."""
        try:
            await asyncio.to_thread(self._service.store.change_number)
        except SQLAlchemyError as error:
            _LOG.error("health=bad reason=%r", str(error))
            return Response(Status.UNAVAILABLE.text, 503, media_type="text/plain")
        return Response("ok\n", media_type="text/plain")

    async def _metrics(self, _request: Request) -> Response:
        """Answer with the metrics."""
        text = await asyncio.to_thread(self.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4")

    def _count(self, path: str, code: int) -> None:
        """Count an answer; paths that are none share a label, so that clients can't make more."""
        known = path if code not in (404, 405) or path in _PATHS else "other"
        self.metrics.requests.labels(known, code).inc()


def _by_method(
    handlers: dict[str, Callable[[Request], Awaitable[Response]]],
) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a path's requests of all methods; HEAD is GET without a body."""

    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return answer


def read_query(endpoint: Endpoint, raw: bytes) -> dict[str, str]:
    """Return a query's parameters; those that nobody knows are let pass, as PCCSs do."""
    known = {parameter.name: parameter for parameter in endpoint.parameters}
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise StatusError(Status.INVALID_REQUEST, "the query is no percent-encoded text") from error
    for name, value in pairs:
        if name not in known:
            continue
        if name in found:
            raise StatusError(Status.INVALID_REQUEST, f"{name} is given twice")
        if not re.fullmatch(known[name].pattern, value, re.IGNORECASE | re.ASCII):
            raise StatusError(
                Status.INVALID_REQUEST, f"{name} does not match {known[name].pattern}"
            )
        found[name] = value.upper() if name in _HEX_PARAMETERS else value
    missing = [
        each.name for each in endpoint.parameters if each.required and each.name not in found
    ]
    if missing:
        raise StatusError(Status.INVALID_REQUEST, f"{missing[0]} is missing")
    return found


def _request_id(scope: Scope) -> bytes:
    """Return the identifier that a client gave its request, or a new one."""
    for name, value in scope["headers"]:
        if name == b"request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return uuid.uuid4().hex.encode()


def _failed(request: Request, status: Status, error: Exception) -> Response:
    """Return the answer of a request that failed; the reason is for the log, not for strangers."""
    level = logging.ERROR if status.code >= 500 else logging.INFO
    _LOG.log(level, "path=%s status=%d reason=%r", request.scope["path"], status.code, str(error))
    return Response(status.text, status.code, media_type="text/plain")


async def _http_error(_request: Request, error: Exception) -> Response:
    """Return the answer of a path or method that there is not."""
    code = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    status = {404: Status.NOT_FOUND, 405: Status.METHOD}.get(code, Status.INTERNAL)
    return Response(status.text, code, headers=headers, media_type="text/plain")


async def _openapi(_request: Request) -> Response:
    """Answer with the OpenAPI document."""
    return Response(json.dumps(document()), media_type="application/json")


_PATHS = {path for endpoint in ENDPOINTS for path, _ in endpoint.paths()}
