# SPDX-License-Identifier: Apache-2.0
"""How a node stands, for whoever is logged in on it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ensconce.kube.agent.grants import Grants
from ensconce.kube.agent.probe import probe_aesm
from ensconce.kube.deviceplugin import Config, discover_here
from ensconce.kube.deviceplugin.report import report
from ensconce.platform.allocations import Allocations

__all__ = ["node_status"]


def node_status(config: Config, folder: Path, aesm: Path) -> dict[str, Any]:
    """Return the node's EPC, its allocations on the emulated platform and AESM's answer."""
    standing = Grants(Allocations(folder)).look()
    found = probe_aesm(aesm)
    return report(config, discover_here(config)) | {
        "emulated_platform": asdict(standing) if standing else None,
        "attestation": asdict(found),
    }
