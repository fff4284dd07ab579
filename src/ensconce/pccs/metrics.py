# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of a PCCS; those of items are read from the database when asked for."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ensconce.pccs.service import Service

__all__ = ["Metrics"]

_DAY = 86400.0


class Metrics:
    """Counters of a process's requests, and gauges of the database's contents."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry(auto_describe=False)
        self.requests = Counter(
            "ensconce_pccs_requests",
            "Requests answered, by path and status code",
            ["path", "code"],
            registry=self._registry,
        )
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format; it reads the database."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that registering reads no database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that are read when asked for."""
        with self._service.store.reading() as rows:
            items, platforms = rows.items(), rows.count_platforms()
        now = self._service.now()
        days = GaugeMetricFamily(
            "ensconce_pccs_item_days_to_expiry",
            "Days until an item of collateral expires, negative once it has",
            labels=["kind", "name"],
        )
        numbers = GaugeMetricFamily(
            "ensconce_pccs_item_number",
            "The TCB evaluation's or the CRL's number of an item",
            labels=["kind", "name"],
        )
        for item in items:
            labels = [item.key.kind.value, item.key.name]
            days.add_metric(labels, (item.expires - now) / _DAY)
            numbers.add_metric(labels, item.number)
        yield days
        yield numbers
        yield GaugeMetricFamily(
            "ensconce_pccs_platforms", "Platforms with PCK certificates", value=platforms
        )
        upstream = CounterMetricFamily(
            "ensconce_pccs_upstream_requests", "Requests upstream, by outcome", labels=["outcome"]
        )
        if self._service.upstream is not None:
            for outcome, count in self._service.upstream.outcomes.items():
                upstream.add_metric([outcome], count)
        yield upstream
