# SPDX-License-Identifier: Apache-2.0
"""What a container gets for its devices: the vendors' environment, device nodes and mounts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ensconce.kube.deviceplugin import v1beta1_pb2 as api
from ensconce.kube.deviceplugin.config import Config
from ensconce.kube.deviceplugin.discovery import DeviceNode, Inventory
from ensconce.kube.deviceplugin.offers import Kind, Offer
from ensconce.kube.deviceplugin.visible import visible_devices

__all__ = ["Allocation", "Injection", "Injector", "Mount", "answer"]

_INTELS_NODES = {Kind.ENCLAVE: "/dev/sgx_enclave", Kind.PROVISION: "/dev/sgx_provision"}


@dataclass(frozen=True, slots=True)
class Allocation:
    """Devices of one resource that a container gets; `epc` is how many bytes they stand for.

    Who it is for, the kubelet does not say here. `epc` is 0 for a resource that is no EPC.
    """

    resource: str
    kind: Kind
    devices: tuple[str, ...]
    epc: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of the host in a container."""

    container: str
    host: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Injection:
    """What the node adds to a container, such as an emulated platform's socket and libraries."""

    environment: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)


class Injector(Protocol):
    """Adds to what containers get. An EnsconceError refuses them, with its sentence."""

    async def allocate(self, allocation: Allocation) -> Injection:
        """Return what a container is to have beside the driver's device nodes."""

    async def start(self, allocation: Allocation) -> None:
        """Prepare for a container that starts in a moment, or starts again."""


def answer(
    config: Config, inventory: Inventory, offer: Offer, indices: Sequence[int], *, wide: bool
) -> api.ContainerAllocateResponse:
    """Return what the vendor's plugin answers for devices by number.

    `wide` lets the enclave device bring all that EPC in MiB does.
    """
    response = api.ContainerAllocateResponse()
    if offer.kind is Kind.EPC:
        response.envs["SGX_VISIBLE_DEVICES"] = visible_devices(indices)
    as_epc = offer.kind is Kind.EPC or (wide and offer.kind is Kind.ENCLAVE)
    nodes = _all_nodes(config, inventory) if as_epc else _one_node(inventory, offer.kind)
    response.devices.extend(
        api.DeviceSpec(container_path=node.path, host_path=node.host_path, permissions="rw")
        for node in nodes
    )
    folder = config.aesm_folder
    if as_epc and config.aesm_socket and (config.root / folder.lstrip("/")).is_dir():
        response.mounts.add(container_path=folder, host_path=folder, read_only=True)
    return response


def inject(response: api.ContainerAllocateResponse, injection: Injection) -> None:
    """Add an injection to an answer."""
    response.envs.update(injection.environment)
    response.annotations.update(injection.annotations)
    for mount in injection.mounts:
        response.mounts.add(
            container_path=mount.container, host_path=mount.host, read_only=mount.read_only
        )
    for node in injection.devices:
        response.devices.add(container_path=node.path, host_path=node.host_path, permissions="rw")


def _all_nodes(config: Config, inventory: Inventory) -> Iterable[DeviceNode]:
    """Return what comes with EPC: every device node, that for provisioning only where set so."""
    return (node for node in inventory.devices if config.provision_with_epc or not node.provision)


def _one_node(inventory: Inventory, kind: Kind) -> Iterable[DeviceNode]:
    """Return Intel's device node for a resource, else the older driver's."""
    fitting = [node for node in inventory.devices if node.provision == (kind is Kind.PROVISION)]
    named = [node for node in fitting if node.path == _INTELS_NODES[kind]]
    return (named or fitting)[:1]
