# SPDX-License-Identifier: Apache-2.0
"""What a plugin says of itself to whoever runs it: a node agent, or a health check."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ensconce.kube.deviceplugin.discovery import Inventory
from ensconce.kube.names import Platform

__all__ = ["ResourceState", "State"]


@dataclass(frozen=True, slots=True)
class ResourceState:
    """One resource that is offered as devices; `fault` is empty once a kubelet has it."""

    name: str
    devices: int
    healthy: bool
    registered: bool
    fault: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """A plugin's state at one moment; equal states say the same.

    `node_capacity` is to stand in the node's status (`/status/capacity`) as it is, zeros included:
    the kubelet keeps figures that no device plugin gives it, copies them to what is allocatable,
    and zeroes them only where its device checkpoint is gone. `counted` are those of them that the
    kubelet still has as devices of before; their figures are zero until it has forgotten.
    """

    inventory: Inventory
    resources: tuple[ResourceState, ...] = ()
    node_capacity: Mapping[str, int] = field(default_factory=dict)
    counted: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether a pod could get EPC here: the platform is sound and the kubelet has all of it."""
        registered = all(each.registered for each in self.resources)
        return self.inventory.healthy and registered and not self.counted

    @property
    def reason(self) -> str:
        """Why, in one word in CamelCase."""
        if self.inventory.healthy and not self.ready:
            return "NotRegistered"
        if self.inventory.healthy and self.inventory.exhausted:
            return "EpcExhausted"
        return self.inventory.reason

    @property
    def message(self) -> str:
        """Why, in a sentence."""
        if not self.inventory.healthy:
            return self.inventory.fault
        missing = [each for each in self.resources if not each.registered]
        if missing:
            return f"the kubelet has no {missing[0].name}: {missing[0].fault or 'no stream yet'}"
        if self.counted:
            return (
                f"the kubelet still counts {self.counted[0]} as devices; it forgets them five "
                "minutes after their plugin has gone"
            )
        if self.inventory.exhausted:
            return "all EPC is in use; enclaves page, and free devices are held back"
        emulated = self.inventory.platform is Platform.EMULATED
        kind = "emulated EPC, which protects nothing" if emulated else "EPC"
        return f"{self.inventory.size >> 20} MiB of {kind}"
