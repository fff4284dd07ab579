# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of a webhook's process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["ANSWERS", "Metrics"]

ANSWERS = ("unchanged", "mutated", "refused", "malformed")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """What a webhook counts: each answer from the start, so that a rate shows the first."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry(auto_describe=False)
        self.reviews = Counter(
            "ensconce_webhook_reviews",
            "Admission reviews answered, by path and answer",
            ["path", "answer"],
            registry=registry,
        )
        self.seconds = Histogram(
            "ensconce_webhook_review_seconds",
            "Seconds from an admission review's headers to its answer",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.certificate_end = Gauge(
            "ensconce_webhook_certificate_end_seconds",
            "When the serving certificate ends, in seconds since 1970",
            registry=registry,
        )
        self.settings_good = Gauge(
            "ensconce_webhook_settings_good",
            "1 if the settings and the CA could be read when they were last looked at",
            registry=registry,
        )

    def start(self, path: str) -> None:
        """Show a path's metrics before it is first asked."""
        for answer in ANSWERS:
            self.reviews.labels(path, answer)
        self.seconds.labels(path)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
