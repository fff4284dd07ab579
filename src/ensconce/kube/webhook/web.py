# SPDX-License-Identifier: Apache-2.0
"""The HTTP face of an admission webhook, an ASGI application."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ensconce.errors import FormatError
from ensconce.kube.webhook.configuration import EMULATED_PATH, MUTATE_PATH, VALIDATE_PATH
from ensconce.kube.webhook.metrics import Metrics
from ensconce.kube.webhook.mutate import Mutation, Refusal, mutate, validate
from ensconce.kube.webhook.policy import Policy, Where
from ensconce.kube.webhook.review import Review, answer, parse_review

__all__ = ["Application"]

_LOG = logging.getLogger(__name__)
_MOST = 8 << 20  # bytes; an API server takes objects of 3 MiB, here in JSON and within a review
_DEADLINE = 4.0  # seconds for a body, less than API servers wait for the answer
_ACTIONS = {MUTATE_PATH: mutate, VALIDATE_PATH: validate}


class Application:
    """The ASGI application. `policy` may be replaced at any time; `ready`: what /readyz says."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.ready = True
        self.metrics = Metrics()
        routes = [Route("/healthz", self._health), Route("/readyz", self._readiness)]
        routes.append(Route("/metrics", self._metrics))
        for prefix in ("", EMULATED_PATH):
            for path in _ACTIONS:
                self.metrics.start(prefix + path)
                handler = self._handler(path, emulated=bool(prefix))
                routes.append(Route(prefix + path, handler, methods=["POST"]))
        self._app = Starlette(routes=routes)
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request (ASGI)."""
        await self._app(scope, receive, send)

    def _handler(self, path: str, *, emulated: bool) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers the reviews of a path."""
        label = (EMULATED_PATH if emulated else "") + path

        async def review(request: Request) -> Response:
            start = time.perf_counter()
            try:
                asked = parse_review(await _body(request))
            except FormatError as error:
                self.metrics.reviews.labels(label, "malformed").inc()
                _LOG.warning("review malformed", extra={"facts": {"reason": str(error)}})
                return Response(f"{error}\n", 400, media_type="text/plain")
            result = _ACTIONS[path](asked.pod, Where(asked.namespace, emulated), self.policy)
            self._count(label, asked, result)
            response = Response(answer(asked, result), media_type="application/json")
            self.metrics.seconds.labels(label).observe(time.perf_counter() - start)
            return response

        return review

    def _count(self, label: str, asked: Review, result: Mutation | Refusal) -> None:
        """Count an answer, and log a refusal."""
        if isinstance(result, Refusal):
            word = "refused"
            facts = {"namespace": asked.namespace, "uid": asked.uid, "reason": result.message}
            _LOG.info("pod refused", extra={"facts": facts})
        else:
            word = "mutated" if result.patch else "unchanged"
        self.metrics.reviews.labels(label, word).inc()

    async def _health(self, _request: Request) -> Response:
        """Answer that the process serves."""
        return Response("ok\n", media_type="text/plain")

    async def _readiness(self, _request: Request) -> Response:
        """Answer whether reviews should come here."""
        if self.ready:
            return Response("ok\n", media_type="text/plain")
        return Response("stopping\n", 503, media_type="text/plain")

    async def _metrics(self, _request: Request) -> Response:
        """Answer with the metrics."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")


async def _body(request: Request) -> bytes:
    """Return a request's body, neither too large nor too slow; FormatError."""
    found = bytearray()
    try:
        async with asyncio.timeout(_DEADLINE):
            async for part in request.stream():
                found += part
                if len(found) > _MOST:
                    raise FormatError(f"the review has more than {_MOST} bytes", source="review")
    except (TimeoutError, ClientDisconnect) as error:
        raise FormatError("the review did not come in time", source="review") from error
    return bytes(found)
