# SPDX-License-Identifier: Apache-2.0
"""Metrics and health over HTTP, for a plugin that runs by itself."""

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ensconce.errors import ConfigError
from ensconce.kube.deviceplugin.plugins import DevicePlugins

__all__ = ["serve_http"]

_StartResponse = Callable[[str, list[tuple[str, str]]], Any]
_SECONDS = 10.0  # that a client may take


class _Server(ThreadingMixIn, WSGIServer):
    """A server with a thread for each request."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """A handler that gives up on slow clients and logs nothing."""

    timeout = _SECONDS

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve_http(address: str, plugins: DevicePlugins) -> int:
    """Serve /metrics and /healthz at HOST:PORT from threads; return the port.

    A node without SGX is healthy: only a plugin that no longer looks at its node is not.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise ConfigError(f"listen is {address!r} and has to be HOST:PORT, such as 127.0.0.1:9465")

    def application(environ: dict[str, Any], start: _StartResponse) -> Iterable[bytes]:
        status, kind, body = _answer(environ.get("PATH_INFO", ""), plugins)
        start(f"{status.value} {status.phrase}", [("Content-Type", kind)])
        return [body.encode()]

    try:
        server = make_server(
            host.strip("[]"), int(port), application, server_class=_Server, handler_class=_Handler
        )
    except OSError as error:
        raise ConfigError(f"{address} can't be listened at: {error.strerror}") from error
    Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_port)


def _answer(path: str, plugins: DevicePlugins) -> tuple[HTTPStatus, str, str]:
    """Return status, type and body for a path."""
    if path == "/metrics":
        return HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", plugins.metrics.text()
    if path == "/healthz":
        state = plugins.state
        facts = {"ready": state.ready, "reason": state.reason, "message": state.message}
        status = HTTPStatus.OK if plugins.alive else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json", json.dumps(facts)
    return HTTPStatus.NOT_FOUND, "text/plain", "there are /metrics and /healthz\n"
