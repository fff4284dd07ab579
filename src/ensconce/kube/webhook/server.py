# SPDX-License-Identifier: Apache-2.0
"""Run an admission webhook: the application under uvicorn, over TLS with certificates of its CA.

Settings and CA are looked at again every few seconds, so that what the cluster mounts anew counts
without a restart; if they can't be read any more, the last good ones stay.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from ensconce.errors import ConfigError, EnsconceError
from ensconce.kube.webhook.certificate import Authority, Issued
from ensconce.kube.webhook.policy import Policy, parse_policy
from ensconce.kube.webhook.web import Application

__all__ = ["Settings", "serve"]

_LOG = logging.getLogger(__name__)
_MOST_AT_ONCE = 1024  # connections
_HEADER_BYTES = 16 << 10
_HEADERS_WITHIN = 5.0
_KEEP_ALIVE = 120  # longer than API servers keep an idle connection, so that they close it
_GRACE = 10
_LOOK_EVERY = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a webhook is served. `authority`: the folder of its CA; `policy`: a TOML file, or none.

    `names`: what API servers call it by. `drain`: seconds that it serves on after it has said that
    it is not ready any more, for the cluster to send reviews elsewhere.
    """

    authority: Path
    policy: Path | None = None
    names: tuple[str, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104 # API servers come from other machines, over TLS
    port: int = 8443
    drain: float = 5.0

    def read_policy(self) -> Policy:
        """Return the policy in the file; ConfigError."""
        if self.policy is None:
            return Policy()
        try:
            return parse_policy(self.policy.read_text("utf-8"), str(self.policy))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.policy} can't be read: {error}") from error


class _Protocol(H11Protocol):
    """HTTP/1.1 whose requests have to be there soon once they have begun."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; wait for the rest of a request that is not whole."""
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if cycle is None or cycle.response_complete:
            self._wait()
        else:
            self._stop()

    def _wait(self) -> None:
        """Close the connection unless a request comes."""
        if self._timer is None:
            self._timer = self.loop.call_later(_HEADERS_WITHIN, self.transport.close)

    def _stop(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Server(uvicorn.Server):
    """A server that says it is not ready, serves on for a while, and then ends."""

    def __init__(self, config: uvicorn.Config, application: Application, drain: float) -> None:
        super().__init__(config)
        self._application, self._drain = application, drain
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End soon at the first signal, and at once at the second."""
        if not self._application.ready or not self._drain:
            super().handle_exit(sig, frame)
            return
        self._application.ready = False
        _LOG.info("stopping", extra={"facts": {"drain": self._drain}})
        self._loop.call_soon_threadsafe(
            self._loop.call_later, self._drain, super().handle_exit, sig, frame
        )


class _Refresher:
    """Keeps a server's policy and certificate as its files say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        self.application = Application(settings.read_policy())
        self.authority = Authority.load(settings.authority)
        self._issued = self._issue()

    def look(self) -> None:
        """Take over what has changed."""
        good = True
        try:
            self.application.policy = self._settings.read_policy()
            authority = Authority.load(self._settings.authority)
            if authority.pem != self.authority.pem or self._issued.is_due(_now()):
                self.authority = authority
                self._issued = self._issue()
        except EnsconceError as error:
            good = False
            _LOG.error("settings unusable", extra={"facts": {"reason": str(error)}})
        self.application.metrics.settings_good.set(good)

    async def look_regularly(self) -> None:
        """Look every few seconds."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            await asyncio.to_thread(self.look)

    def _issue(self) -> Issued:
        """Have a new key signed, and serve with it from now on."""
        issued = self.authority.issue(self._settings.names, _now())
        _load(self.context, issued)
        self.application.metrics.certificate_end.set(issued.ends.timestamp())
        self.application.metrics.settings_good.set(1)
        _LOG.info("certificate made", extra={"facts": {"ends": issued.ends.isoformat()}})
        return issued


async def serve(settings: Settings, ready: Callable[[Mapping[str, Any]], None]) -> None:
    """Serve until a signal says otherwise; `ready` is told where, once it listens."""
    if not settings.names:
        raise ConfigError("the webhook has no name for its certificate; give one")
    refresher = _Refresher(settings)
    config = uvicorn.Config(
        refresher.application,
        host=settings.host,
        port=settings.port,
        http=_Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=_MOST_AT_ONCE,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )
    config.load()
    config.ssl = refresher.context
    server = _Server(config, refresher.application, settings.drain)
    tasks = [
        asyncio.ensure_future(refresher.look_regularly()),
        asyncio.ensure_future(_announce(server, ready)),
    ]
    try:
        await server.serve()
    finally:
        for task in tasks:
            task.cancel()


async def _announce(server: uvicorn.Server, ready: Callable[[Mapping[str, Any]], None]) -> None:
    """Say where the server listens, once it does."""
    while not server.started:
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    ready({"url": f"https://{f'[{host}]' if ':' in host else host}:{port}"})


def _load(context: ssl.SSLContext, issued: Issued) -> None:
    """Give a context a certificate and its key, which no disk gets to see."""
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(file, issued.key + issued.chain)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
