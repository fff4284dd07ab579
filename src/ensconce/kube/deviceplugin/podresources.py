# SPDX-License-Identifier: Apache-2.0
"""Who has which devices, as the kubelet tells it on its pod-resources socket.

Containers that ran before the pod's own (init containers that are not sidecars) are not in its
list.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from ensconce.errors import DeviceError
from ensconce.kube.deviceplugin import podresources_pb2 as api
from ensconce.kube.deviceplugin.rpc import POD_RESOURCES, call, open_channel

__all__ = ["Held", "counted", "holders", "list_held"]

_LARGEST = 16 << 20
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """Devices of one resource that a container has."""

    namespace: str
    pod: str
    container: str
    resource: str
    devices: tuple[str, ...]


async def list_held(socket: Path) -> list[Held]:
    """Return what every container of the node has; DeviceError where the kubelet does not say."""
    if not socket.is_socket():
        raise DeviceError(
            f"no kubelet listens at {socket}; mount its folder into the plugin's container"
        )
    async with open_channel(socket, largest=_LARGEST) as channel:
        try:
            answer: api.ListPodResourcesResponse = await call(
                channel, POD_RESOURCES, "List", api.ListPodResourcesRequest(), timeout=_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise DeviceError(
                f"the kubelet at {socket} does not say which pod has which device: "
                f"{error.details()}"
            ) from error
    return [
        Held(pod.namespace, pod.name, container.name, each.resource_name, tuple(each.device_ids))
        for pod in answer.pod_resources
        for container in pod.containers
        for each in container.devices
    ]


def holders(held: Iterable[Held], resource: str, devices: Collection[str]) -> list[Held]:
    """Return who has any of these devices."""
    return [
        each
        for each in held
        if each.resource == resource and not set(devices).isdisjoint(each.devices)
    ]


def counted(
    held: Iterable[Held], units: Mapping[str, int]
) -> tuple[Counter[tuple[str, str, str]], Counter[str]]:
    """Return bytes by resource, namespace and pod, and devices by resource.

    `units` are the resources that count, and the bytes of EPC that one device of each stands for.
    """
    epc: Counter[tuple[str, str, str]] = Counter()
    allocated = Counter(dict.fromkeys(units, 0))
    for each in held:
        if each.resource in units:
            allocated[each.resource] += len(each.devices)
            if size := units[each.resource] * len(each.devices):
                epc[each.resource, each.namespace, each.pod] += size
    return epc, allocated
