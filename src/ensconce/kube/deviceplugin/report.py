# SPDX-License-Identifier: Apache-2.0
"""What a node would offer, and why: for a person, or for a program."""

from typing import Any

from ensconce.kube.deviceplugin.config import Config
from ensconce.kube.deviceplugin.discovery import Inventory
from ensconce.kube.deviceplugin.enforcement import MiscCgroup, rung
from ensconce.kube.deviceplugin.offers import plan

__all__ = ["report"]


def report(config: Config, inventory: Inventory) -> dict[str, Any]:
    """Return an inventory and the plan that follows from it."""
    made = plan(config, inventory)
    return {
        "platform": inventory.platform,
        "healthy": inventory.healthy,
        "reason": inventory.reason,
        "fault": inventory.fault,
        "epc_bytes": inventory.size,
        "sections": [f"{each.size >> 20} MiB on node {each.node}" for each in inventory.sections],
        "device_nodes": {each.path: each.host_path for each in inventory.devices},
        "devices": {offer.resource: offer.devices.count for offer in made.offers},
        "enforcement": rung(inventory.platform, MiscCgroup.find(config.root)),
        "node_capacity": dict(made.node_capacity),
    }
