# SPDX-License-Identifier: Apache-2.0
"""One EPC behind many names: what a node offers under each, and in which of two ways.

Each name has a share of the EPC's bytes, and the shares are 100 % at most, so no byte is counted
twice. A name in MiB is offered as devices, one a MiB, as the vendor's plugin does; where these
would be too many for the kubelet's message, and for Intel's name, which is in bytes, the figure
stands in the node's status, and the `enclave` device that the webhook adds to a pod brings the
device nodes along.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from ensconce.kube.deviceplugin.config import EPC_UNITS, MIB, Config
from ensconce.kube.deviceplugin.devices import DeviceList, Extent
from ensconce.kube.deviceplugin.discovery import Inventory, Section
from ensconce.kube.names import Platform, Resource

__all__ = ["Kind", "Offer", "Plan", "plan"]

_ALIBABA_SOCKET = "sgx.sock"
_VENDORS_FORM = 4096  # devices; with as few, any choice of them suits


class Kind(Enum):
    """What a container gets with a resource."""

    EPC = "epc"
    ENCLAVE = "enclave"
    PROVISION = "provision"


@dataclass(frozen=True, slots=True)
class Offer:
    """A resource that is offered as devices; `unit` is the bytes of EPC that one stands for."""

    resource: str
    kind: Kind
    devices: DeviceList
    unit: int = 0

    @property
    def socket(self) -> str:
        """The socket's name in the kubelet's folder, as the vendor has it."""
        if self.resource == Resource.EPC_ALIBABA:
            return _ALIBABA_SOCKET
        return self.resource.replace("/", "-") + ".sock"

    @property
    def prefers(self) -> bool:
        """Whether it matters which devices a container gets."""
        return self.unit > 0 and (self.devices.has_topology or self.devices.count > _VENDORS_FORM)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a node offers: as devices, and as figures for the capacity in its status."""

    offers: tuple[Offer, ...] = ()
    node_capacity: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_loose_mib(self) -> bool:
        """Whether containers get EPC in MiB without a device that says so."""
        return any(EPC_UNITS[Resource(name)] == MIB for name in self.node_capacity)


def plan(config: Config, inventory: Inventory) -> Plan:
    """Return what a node with this inventory offers."""
    if inventory.platform is Platform.NONE or not inventory.size:
        return Plan()
    offers, figures, start = [], {}, 0
    for name, share in config.epc.items():
        unit = EPC_UNITS[Resource(name)]
        count = inventory.size // unit * share // 100
        if unit == MIB and count <= config.max_devices:
            extents = tuple(_extents(inventory.sections, start, count, unit))
            offers.append(Offer(name, Kind.EPC, DeviceList(count, "", extents), unit))
        else:
            figures[str(name)] = count
        start += count * unit
    if config.enclave_limit:
        devices = DeviceList(config.enclave_limit, "sgx-enclave-")
        offers.append(Offer(Resource.ENCLAVE, Kind.ENCLAVE, devices))
    if config.provision_limit and config.provision_pods:
        devices = DeviceList(config.provision_limit, "sgx-provision-")
        offers.append(Offer(Resource.PROVISION, Kind.PROVISION, devices))
    return Plan(tuple(offers), figures)


def _extents(sections: tuple[Section, ...], start: int, count: int, unit: int) -> Iterable[Extent]:
    """Yield where `count` units lie, the first at byte `start` of all the sections."""
    end = 0
    for section in sections:
        end += section.size
        last = min(count, -((start - end) // unit))  # the units that begin before the section ends
        if last > 0:
            yield Extent(last, section.node)
