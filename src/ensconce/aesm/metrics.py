# SPDX-License-Identifier: Apache-2.0
"""What the service counts, for Prometheus. Every label has few values, whatever clients send."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ensconce.aesm.codes import code_label

__all__ = ["Metrics"]

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "ensconce_aesm_requests",
            "Requests that were answered, by kind and error code.",
            ("request", "code"),
            registry=self.registry,
        )
        self._dropped = Counter(
            "ensconce_aesm_connections_dropped",
            "Connections that got no answer, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "ensconce_aesm_request_seconds",
            "Time from a request's last byte to its answer's.",
            ("request",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._connections = Gauge(
            "ensconce_aesm_connections", "Connections that are open.", registry=self.registry
        )

    def answered(self, request: str, code: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(request, code_label(code)).inc()
        self._seconds.labels(request).observe(seconds)

    def dropped(self, reason: str) -> None:
        """Count a connection that got no answer."""
        self._dropped.labels(reason).inc()

    def open(self, connections: int) -> None:
        """Note how many connections there are."""
        self._connections.set(connections)

    def text(self) -> str:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry).decode()
