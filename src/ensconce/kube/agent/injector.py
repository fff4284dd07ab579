# SPDX-License-Identifier: Apache-2.0
"""What containers of an emulated node get beside the device plugin's own answers."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from ensconce.errors import DeviceError
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.kube.agent.checkpoint import Holder, read_holders
from ensconce.kube.agent.grants import Grants
from ensconce.kube.deviceplugin import Allocation, Injection, Kind, Mount
from ensconce.kube.deviceplugin.config import EPC_UNITS

__all__ = ["EmulatedInjector"]

_SETTLING = 5.0  # seconds after which an allocation that nobody holds is no new one


class EmulatedInjector:
    """Gives each container with EPC or an enclave device a part of the node's platform.

    The size of what comes with EPC devices is theirs. An enclave device says nothing of sizes, and
    the kubelet nothing of pods: before the container starts it is looked up for whom it is, and
    `asked` (pod's UID, container) returns what the pod's limits say in bytes. `emulated` says
    whether the node is emulated; `folder` is the kubelet's for device plugins.
    """

    def __init__(
        self,
        grants: Grants,
        folder: Path,
        *,
        emulated: Callable[[], bool],
        asked: Callable[[str, str], Awaitable[int]],
    ) -> None:
        self._grants = grants
        self._folder = folder
        self._emulated = emulated
        self._asked = asked

    async def allocate(self, allocation: Allocation) -> Injection:
        """Make an allocation on the platform and return how the container reaches it."""
        if not self._emulated() or allocation.kind is Kind.PROVISION:
            return Injection()
        epc = allocation.epc if allocation.kind is Kind.EPC else None
        made = await asyncio.to_thread(
            self._grants.make, allocation.resource, allocation.devices, epc
        )
        mounts = tuple(Mount(inside, host) for inside, host in made.mounts.items())
        return Injection(environment=made.environment, mounts=mounts)

    async def start(self, allocation: Allocation) -> None:
        """See to it that an enclave device's allocation has its size."""
        if not self._emulated() or allocation.kind is not Kind.ENCLAVE:
            return
        name = self._grants.pending(allocation.resource, allocation.devices)
        if name is None:
            return  # it has started before
        holders = read_holders(self._folder)
        mine = _holder(holders, allocation)
        for each in holders:
            same = (each.pod_uid, each.container) == (mine.pod_uid, mine.container)
            same = same and each.resource in EPC_UNITS
            if same and await asyncio.to_thread(
                self._grants.join, name, each.resource, each.devices
            ):
                return
        epc = -(-await self._asked(mine.pod_uid, mine.container) // PAGE_SIZE) * PAGE_SIZE
        if not epc:
            raise DeviceError(
                f"container {mine.container} has {allocation.resource} and no EPC in its limits, "
                f"and an emulated enclave runs in what it asked for; add {next(iter(EPC_UNITS))}"
            )
        await asyncio.to_thread(self._settle, name, epc, holders)

    def _settle(self, name: str, epc: int, holders: list[Holder]) -> None:
        """Give an allocation its size, of what is free or only seems to be taken."""
        try:
            self._grants.settle(name, epc)
        except DeviceError:
            held = {(each.resource, device) for each in holders for device in each.devices}
            if not self._grants.retain(held, grace=_SETTLING):
                raise
            self._grants.settle(name, epc)


def _holder(holders: list[Holder], allocation: Allocation) -> Holder:
    """Return who has an allocation's devices. Raises DeviceError."""
    for each in holders:
        if each.resource == allocation.resource and each.devices == set(allocation.devices):
            return each
    raise DeviceError(
        f"the kubelet has no record of who has {', '.join(allocation.devices)}, so their EPC is "
        "unknown; delete the pod, and it is allocated anew"
    )
