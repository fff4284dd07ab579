# SPDX-License-Identifier: Apache-2.0
"""Who has which devices, by the file in which the kubelet keeps that for its own restarts.

It is in the folder that device plugins have anyway, is written before a container starts, and
names init containers too, which the pod-resources socket leaves out. It keeps pods that have ended
until the kubelet looks again, so what is not in it is free for sure.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensconce.errors import DeviceError

__all__ = ["Holder", "read_holders"]

_NAME = "kubelet_internal_checkpoint"
_MOST = 64 << 20


@dataclass(frozen=True, slots=True)
class Holder:
    """A container's devices of one resource."""

    pod_uid: str
    container: str
    resource: str
    devices: frozenset[str]


def read_holders(folder: Path) -> list[Holder]:
    """Return who has what. Raises DeviceError where the kubelet's file can't be read."""
    path = folder / _NAME
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_MOST))
        entries = data["Data"]["PodDeviceEntries"] or []
        return [
            Holder(
                str(each["PodUID"]),
                str(each["ContainerName"]),
                str(each["ResourceName"]),
                frozenset(_devices(each["DeviceIDs"])),
            )
            for each in entries
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeviceError(
            f"{path} does not say who has which device ({error!r}); this kubelet keeps it another "
            "way than those up to 1.34"
        ) from error


def _devices(found: Any) -> list[str]:
    """Return device IDs, which newer kubelets keep by NUMA node."""
    if isinstance(found, dict):
        return [str(name) for names in found.values() for name in names or ()]
    return [str(name) for name in found or ()]
