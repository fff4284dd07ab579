# SPDX-License-Identifier: Apache-2.0
"""The device plugins of a node, run in whoever's process: a daemon of their own, or the agent's."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ensconce.errors import DeviceError, EnsconceError, PolicyError
from ensconce.kube.deviceplugin import v1beta1_pb2 as api
from ensconce.kube.deviceplugin.answers import Allocation, Injector, answer, inject
from ensconce.kube.deviceplugin.checkpoint import Checkpoint
from ensconce.kube.deviceplugin.config import Config
from ensconce.kube.deviceplugin.discovery import Inventory
from ensconce.kube.deviceplugin.endpoint import Endpoint
from ensconce.kube.deviceplugin.metrics import Metrics
from ensconce.kube.deviceplugin.offers import Kind, Offer, plan
from ensconce.kube.deviceplugin.podresources import Held, counted, holders, list_held
from ensconce.kube.deviceplugin.state import ResourceState, State
from ensconce.kube.names import Platform

__all__ = ["DevicePlugins"]

_POD_SECONDS = 10.0
_LIVELY_SECONDS = 60.0

_log = logging.getLogger(__name__)


class DevicePlugins:
    """Every device plugin of a node.

    `discover` returns what the node has and is called every `interval` seconds; `injector` adds to
    what containers get; `on_change` hears of each new state, from the loop that runs this;
    `account(namespace, pod)` returns a pod's service account, without which policy goes by
    namespaces alone here.
    """

    def __init__(
        self,
        config: Config,
        discover: Callable[[], Inventory],
        *,
        injector: Injector | None = None,
        on_change: Callable[[State], None] | None = None,
        account: Callable[[str, str], Awaitable[str | None]] | None = None,
        metrics: Metrics | None = None,
        interval: float = 1.0,
    ) -> None:
        self.config = config
        self.metrics = metrics or Metrics()
        self._discover = discover
        self._injector = injector
        self._on_change = on_change
        self._account = account
        self._interval = interval
        self._endpoints: dict[str, Endpoint] = {}
        self._held: list[Held] | None = None
        self._checkpoint = Checkpoint(config.plugin_folder)
        self._counted: tuple[str, ...] = ()
        self._looked = time.monotonic()
        self._inventory = discover()
        self._plan = plan(config, self._inventory)
        self._adopt(self._inventory)
        self._said = self.state

    @property
    def state(self) -> State:
        """What is so now."""
        figures = self._plan.node_capacity
        return State(
            self._inventory,
            tuple(
                ResourceState(
                    endpoint.offer.resource,
                    endpoint.offer.devices.count,
                    self._is_healthy(endpoint.offer),
                    endpoint.streams > 0,
                    endpoint.fault,
                )
                for endpoint in self._endpoints.values()
            ),
            {
                name: figure if self._inventory.healthy and name not in self._counted else 0
                for name, figure in figures.items()
            },
            self._counted,
        )

    @property
    def alive(self) -> bool:
        """Whether the node is still looked at."""
        return time.monotonic() - self._looked < _LIVELY_SECONDS

    async def run(self) -> None:
        """Serve until cancelled; then leave no socket. What goes wrong stands in the state."""
        self._announce(first=True)
        pods = asyncio.create_task(self._follow_pods())
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._interval)
        finally:
            pods.cancel()
            await asyncio.gather(
                pods, *(each.stop() for each in self._endpoints.values()), return_exceptions=True
            )

    async def _look(self) -> None:
        """Look at the node and at the kubelet's folder once."""
        try:
            self._adopt(self._discover())
            for name in self._endpoints.keys() - {each.resource for each in self._plan.offers}:
                await self._endpoints.pop(name).stop()
            self._counted = self._still_counted()
            await asyncio.gather(*(each.tend() for each in self._endpoints.values()))
        except (OSError, EnsconceError) as error:
            _log.warning("can't look at the node", extra={"facts": {"fault": str(error)}})
        self._looked = time.monotonic()
        self._announce()

    def _still_counted(self) -> tuple[str, ...]:
        """Return the resources that are figures now and that the kubelet still has as devices."""
        if not self._plan.node_capacity:
            return ()
        devices = self._checkpoint.resources()
        return tuple(name for name in self._plan.node_capacity if name in devices)

    async def _follow_pods(self) -> None:
        """Keep in mind which pods have what, where the kubelet says it."""
        while True:
            try:
                self._held = await list_held(self.config.pod_resources)
            except DeviceError as error:
                if self._held is not None:
                    _log.info("pods are not known", extra={"facts": {"fault": str(error)}})
                self._held = None
            units = {each.offer.resource: each.offer.unit for each in self._endpoints.values()}
            self.metrics.pods(*counted(self._held or (), units))
            await asyncio.sleep(_POD_SECONDS)

    def _adopt(self, found: Inventory) -> None:
        """Offer what was found; EPC that went stays offered, unhealthy, for those who have it."""
        known = self._inventory
        if not found.sections and known.sections:
            found = replace(found, platform=known.platform, sections=known.sections)
        self._inventory = found
        self._plan = plan(self.config, found)
        for offer in self._plan.offers:
            if offer.resource not in self._endpoints:
                self._endpoints[offer.resource] = Endpoint(self.config.plugin_folder, offer, self)
            self._endpoints[offer.resource].update(
                offer, healthy=self._is_healthy(offer), ill=self._held_back(offer)
            )

    def _held_back(self, offer: Offer) -> frozenset[int]:
        """Return the devices that nobody has, where all EPC is in use all the same."""
        if not (self._inventory.exhausted and offer.unit and self._held is not None):
            return frozenset()
        taken = {
            offer.devices.index(device)
            for each in self._held
            if each.resource == offer.resource
            for device in each.devices
        }
        return frozenset(range(offer.devices.count)) - taken

    def _is_healthy(self, offer: Offer) -> bool:
        """Return whether the kubelet may give a resource's devices to containers."""
        if offer.kind is Kind.PROVISION and self._inventory.platform is Platform.SGX:
            return self._inventory.healthy and any(
                device.provision for device in self._inventory.devices
            )
        return self._inventory.healthy

    def _announce(self, *, first: bool = False) -> None:
        """Tell of a state that is new."""
        state = self.state
        if state == self._said and not first:
            return
        self._said = state
        self._measure(state)
        _log.info("state", extra={"facts": {"reason": state.reason, "message": state.message}})
        if self._on_change:
            self._on_change(state)

    def _measure(self, state: State) -> None:
        """Note a state's figures."""
        sizes: Counter[str] = Counter()
        for section in state.inventory.sections:
            sizes["none" if section.node is None else str(section.node)] += section.size
        self.metrics.capacity(sizes)
        self.metrics.health(state.inventory.platform, healthy=state.inventory.healthy)
        for each in state.resources:
            healthy = each.devices if each.healthy else 0
            self.metrics.devices(each.name, healthy=healthy, unhealthy=each.devices - healthy)
        self.metrics.figures(state.node_capacity)

    # what endpoints ask

    async def allocate(self, offer: Offer, indices: list[int]) -> api.ContainerAllocateResponse:
        """Return what a container gets for devices by number."""
        response = answer(
            self.config, self._inventory, offer, indices, wide=self._plan.has_loose_mib
        )
        if self._injector:
            inject(response, await self._injector.allocate(_allocation(offer, indices)))
        self.metrics.allocated(offer.resource)
        return response

    async def start(self, offer: Offer, indices: list[int]) -> None:
        """Let a container start that has these devices."""
        if offer.kind is Kind.PROVISION:
            await self._check_provision(offer, indices)
        if self._injector:
            await self._injector.start(_allocation(offer, indices))

    async def _check_provision(self, offer: Offer, indices: list[int]) -> None:
        """Refuse the provisioning device to whoever the policy does not name; PolicyError."""
        devices = list(map(offer.devices.name, indices))
        held = await list_held(self.config.pod_resources)
        found = holders(held, offer.resource, devices)
        if not found:
            raise PolicyError(
                f"the kubelet does not say whose {', '.join(devices)} is; only a pod's own "
                f"containers and sidecars can have {offer.resource}"
            )
        for each in found:
            account = await self._account(each.namespace, each.pod) if self._account else None
            if not self.config.may_provision(each.namespace, account):
                raise PolicyError(
                    f"pod {each.namespace}/{each.pod} may not have {offer.resource}, which lets it "
                    "read keys that identify the machine; have it added to provision_pods, or let "
                    "it quote through AESM"
                )

    def asks_before_start(self, offer: Offer) -> bool:
        """Return whether the kubelet is to ask before each start."""
        return offer.kind is Kind.PROVISION or self._injector is not None

    def registered(self, resource: str, *, accepted: bool) -> None:
        """Count a registration."""
        self.metrics.registered(resource, accepted=accepted)

    def refused(self, resource: str) -> None:
        """Count an allocation or start that failed."""
        self.metrics.refused(resource)


def _allocation(offer: Offer, indices: list[int]) -> Allocation:
    """Return what an injector is told."""
    names = tuple(map(offer.devices.name, indices))
    return Allocation(offer.resource, offer.kind, names, offer.unit * len(indices))
