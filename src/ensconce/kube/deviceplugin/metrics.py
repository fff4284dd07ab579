# SPDX-License-Identifier: Apache-2.0
"""What a plugin counts, for Prometheus. Labels are resources, NUMA nodes and this node's pods."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

__all__ = ["Metrics", "PodEpc"]

PodEpc = Mapping[tuple[str, str, str], int]  # bytes by resource, namespace and pod
_PREFIX = "ensconce_device_plugin"


class Metrics:
    """The figures of one node; `registry` is the agent's where it has one."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._capacity = self._gauge("epc_capacity_bytes", "EPC of a NUMA node.", "numa_node")
        self._healthy = self._gauge("healthy", "1 if enclaves can run here.", "platform")
        self._devices = self._gauge(
            "devices",
            "Devices offered, by state: healthy, unhealthy, allocated.",
            "resource",
            "state",
        )
        self._figures = self._gauge(
            "node_capacity", "Figures for the node's status, in the resource's unit.", "resource"
        )
        self._pods = self._gauge(
            "pod_epc_bytes", "EPC that a pod was given.", "resource", "namespace", "pod"
        )
        self._registrations = self._counter(
            "registrations", "Registrations with the kubelet.", "resource", "result"
        )
        self._allocations = self._counter(
            "allocations", "Containers that were given devices.", "resource"
        )
        self._errors = self._counter(
            "errors", "Allocations and starts that were refused or failed.", "resource"
        )

    def capacity(self, nodes: Mapping[str, int]) -> None:
        """Note the bytes of EPC of each NUMA node."""
        self._capacity.clear()
        for node, size in nodes.items():
            self._capacity.labels(node).set(size)

    def health(self, platform: str, *, healthy: bool) -> None:
        """Note whether enclaves can run."""
        self._healthy.clear()
        self._healthy.labels(platform).set(healthy)

    def devices(self, resource: str, *, healthy: int, unhealthy: int) -> None:
        """Note how many devices are offered."""
        self._devices.labels(resource, "healthy").set(healthy)
        self._devices.labels(resource, "unhealthy").set(unhealthy)

    def figures(self, capacity: Mapping[str, int]) -> None:
        """Note what stands in the node's status."""
        for resource, figure in capacity.items():
            self._figures.labels(resource).set(figure)

    def pods(self, epc: PodEpc, allocated: Mapping[str, int]) -> None:
        """Note what the node's pods have: bytes of EPC, and devices of each resource."""
        self._pods.clear()
        for labels, size in epc.items():
            self._pods.labels(*labels).set(size)
        for resource, count in allocated.items():
            self._devices.labels(resource, "allocated").set(count)

    def registered(self, resource: str, *, accepted: bool) -> None:
        """Count a registration."""
        self._registrations.labels(resource, "accepted" if accepted else "refused").inc()

    def allocated(self, resource: str) -> None:
        """Count a container that was given devices."""
        self._allocations.labels(resource).inc()

    def refused(self, resource: str) -> None:
        """Count what was refused."""
        self._errors.labels(resource).inc()

    def text(self) -> str:
        """Return everything in Prometheus's text format."""
        return generate_latest(self.registry).decode()

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", about, labels, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", about, labels, registry=self.registry)
