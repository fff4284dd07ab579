# SPDX-License-Identifier: Apache-2.0
"""What a node agent counts, beside its device plugins."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge

from ensconce.kube.agent.desired import Said
from ensconce.platform.control import Standing

__all__ = ["Metrics"]


class Metrics:
    """The figures, in the device plugins' registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._conditions = Gauge(
            "ensconce_node_condition",
            "1 if the condition holds.",
            ["type", "reason"],
            registry=registry,
        )
        self._platform_up = Gauge(
            "ensconce_emulated_platform_up",
            "1 if the emulated platform answers.",
            registry=registry,
        )
        self._epc = Gauge(
            "ensconce_emulated_epc_bytes",
            "Emulated EPC of the containers here: given to them, used now.",
            ["state"],
            registry=registry,
        )
        self._enclaves = Gauge(
            "ensconce_emulated_enclaves", "Enclaves of the containers here.", registry=registry
        )

    def conditions(self, said: Iterable[Said]) -> None:
        """Note the node's conditions."""
        self._conditions.clear()
        for each in said:
            self._conditions.labels(each.type, each.reason).set(each.status)

    def standing(self, standing: Standing | None) -> None:
        """Note how the emulated platform stands."""
        self._platform_up.set(standing is not None)
        uses = list(standing.allocations.values()) if standing else []
        self._epc.labels("given").set(sum(use.epc for use in uses))
        self._epc.labels("used").set(sum(use.used for use in uses))
        self._enclaves.set(sum(use.enclaves for use in uses))
