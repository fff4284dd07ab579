# SPDX-License-Identifier: Apache-2.0
"""Run a PCCS: the application under uvicorn, with its regular refresh beside it."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping

import uvicorn

from ensconce.errors import EnsconceError
from ensconce.pccs.config import Settings
from ensconce.pccs.service import Mode, Service
from ensconce.pccs.web import Application

__all__ = ["application", "refresh_regularly", "serve"]

_LOG = logging.getLogger(__name__)
_HOUR = 3600.0
_MOST_AT_ONCE = 512
_HEADER_BYTES = 16 << 10
_KEEP_ALIVE, _GRACE = 60, 10


def application(settings: Settings, service: Service) -> Application:
    """Return the ASGI application; ConfigError if a token is missing or weak."""
    user, admin = settings.tokens()
    return Application(service, user=user, admin=admin, max_body=settings.max_body)


async def refresh_regularly(service: Service, hours: float) -> None:
    """Fetch everything anew every so many hours, replicas not all at once; failures are logged."""
    while True:
        await asyncio.sleep(hours * _HOUR * random.uniform(0.9, 1.1))  # noqa: S311 # not a secret
        try:
            result = await service.refresh()
        except EnsconceError as error:
            _LOG.error("refresh=failed reason=%r", str(error))
        else:
            _LOG.info("refresh=done renewed=%d failed=%d", len(result.renewed), len(result.failed))


async def serve(settings: Settings, ready: Callable[[Mapping[str, str]], None]) -> None:
    """Serve until a signal says otherwise; `ready` is told where, once it listens."""
    tls = settings.check_exposure()
    settings.tokens()  # before anything is opened
    service = settings.service()
    config = uvicorn.Config(
        application(settings, service),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.cert or None,
        ssl_keyfile=settings.key or None,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=_MOST_AT_ONCE,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    tasks = [asyncio.ensure_future(_announce(server, settings, ready, tls=tls))]
    if settings.refresh_hours and service.mode is not Mode.OFFLINE:
        tasks.append(asyncio.ensure_future(refresh_regularly(service, settings.refresh_hours)))
    try:
        await server.serve()
    finally:
        for task in tasks:
            task.cancel()
        service.store.close()


async def _announce(
    server: uvicorn.Server,
    settings: Settings,
    ready: Callable[[Mapping[str, str]], None],
    *,
    tls: bool,
) -> None:
    """Say where the server listens, once it does."""
    while not server.started:
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    scheme = "https" if tls else "http"
    ready({"url": f"{scheme}://{name}:{port}/sgx/certification/v4/", "mode": settings.filling})
