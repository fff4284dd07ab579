# SPDX-License-Identifier: Apache-2.0
"""The node agent: device plugins, the node's object, AESM's health and emulated allocations.

Four tasks in one loop. Whatever goes wrong in one is logged and tried again, with pauses that
grow: an agent that ends would take EPC from the node, which helps nobody.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from ensconce import _core
from ensconce.errors import EnsconceError
from ensconce.isa.cpuid import CpuidFeatures
from ensconce.kube.agent.ask_aesm import ask_aesm
from ensconce.kube.agent.checkpoint import read_holders
from ensconce.kube.agent.cluster import Cluster
from ensconce.kube.agent.desired import Attestation, Facts, desired
from ensconce.kube.agent.grants import LIBRARY_FOLDER, Grants
from ensconce.kube.agent.injector import EmulatedInjector
from ensconce.kube.agent.libraries import install_libraries
from ensconce.kube.agent.metrics import Metrics
from ensconce.kube.deviceplugin import Config, DevicePlugins, State, discover_here
from ensconce.kube.deviceplugin.web import serve_http
from ensconce.kube.names import (
    AESM_SOCKET,
    HOST_LIBRARIES,
    PLATFORM_FOLDER,
    Platform,
    TeeCategory,
)
from ensconce.platform.allocations import Allocations
from ensconce.platform.checks import sgx_leaf
from ensconce.platform.control import Standing

__all__ = ["NodeAgent", "Settings"]

_ALERT = 30.0  # seconds after news in which the node is looked at often
_OFTEN, _SELDOM = 2.0, 60.0
_PROBE = 60.0
_PROBE_AGAIN = 10.0  # where AESM did not answer
_LOOK = 5.0
_TEND = 30.0
_LONGEST_PAUSE = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the agent finds things, beside the device plugin's settings.

    `folder` is the emulated platform's, which the host has at `host_folder`; `libraries` are copied
    to `library_folder` for containers.
    """

    node: str
    folder: Path = Path(PLATFORM_FOLDER)
    host_folder: Path = Path(PLATFORM_FOLDER)
    libraries: Path = Path(HOST_LIBRARIES)
    library_folder: Path = Path(LIBRARY_FOLDER)
    aesm_socket: Path = Path(AESM_SOCKET)


class NodeAgent:
    """One node's agent; `cluster` is None where there is no API server to speak to."""

    def __init__(self, settings: Settings, config: Config, cluster: Cluster | None) -> None:
        self._settings = settings
        self._cluster = cluster
        self._grants = Grants(
            Allocations(settings.folder),
            host=settings.host_folder,
            libraries=settings.library_folder,
        )
        self._attestation = Attestation(
            ready=False, reason="NotProbed", message="AESM was not asked yet"
        )
        self._standing: Standing | None = None
        self._news = asyncio.Event()
        self._alert_until = 0.0
        injector = EmulatedInjector(
            self._grants,
            config.plugin_folder,
            emulated=lambda: self.platform is Platform.EMULATED,
            asked=self._asked,
        )
        self.plugins = DevicePlugins(
            config,
            lambda: discover_here(config),
            injector=injector,
            on_change=self._heard,
            account=cluster.account if cluster else None,
        )
        self._metrics = Metrics(self.plugins.metrics.registry)

    @property
    def platform(self) -> Platform:
        """What the node's enclaves run on."""
        return self.plugins.state.inventory.platform

    @property
    def facts(self) -> Facts:
        """What the agent knows of its node."""
        state = self.plugins.state
        return Facts(
            platform=state.inventory.platform,
            ready=state.ready,
            reason=state.reason,
            message=state.message,
            category=_category(),
            node_capacity=state.node_capacity,
            platform_serves=self._standing is not None,
            attestation=self._attestation,
        )

    async def run(self) -> None:
        """Be the agent until cancelled."""
        if self.plugins.config.listen:
            serve_http(self.plugins.config.listen, self.plugins)
        async with asyncio.TaskGroup() as group:
            group.create_task(_forever("plugins", self.plugins.run, 0))
            group.create_task(_forever("probe", self._probe, 0))
            group.create_task(_forever("platform", self._look, _LOOK))
            group.create_task(_forever("allocations", self._tend, _TEND))
            if self._cluster is not None:
                group.create_task(_forever("node", self._speak, 0))

    def _heard(self, state: State) -> None:
        """Hear of a new state of the device plugins."""
        del state
        self._alert_until = time.monotonic() + _ALERT
        self._news.set()

    async def _asked(self, pod_uid: str, container: str) -> int:
        """Return the EPC in a container's limits."""
        return await self._cluster.asked(pod_uid, container) if self._cluster else 0

    async def _speak(self) -> None:
        """Keep the node's object as it should be, once."""
        wanted = desired(self.facts)
        self._metrics.conditions(wanted.conditions)
        if self._cluster is not None:
            await self._cluster.reconcile(wanted)
        alert = time.monotonic() < self._alert_until
        self._news.clear()
        try:
            async with asyncio.timeout(_OFTEN if alert else _SELDOM):
                await self._news.wait()
        except TimeoutError:
            return

    async def _probe(self) -> None:
        """Ask AESM, once."""
        if self.platform is not Platform.NONE:
            found = await ask_aesm(self._settings.aesm_socket)
            if (found.ready, found.reason) != (self._attestation.ready, self._attestation.reason):
                self._news.set()
            self._attestation = found
        await asyncio.sleep(_PROBE if self._attestation.ready else _PROBE_AGAIN)

    async def _look(self) -> None:
        """See how the emulated platform stands, once."""
        if self.platform is not Platform.EMULATED:
            return
        before = self._standing is not None
        self._standing = await asyncio.to_thread(self._grants.look)
        self._metrics.standing(self._standing)
        if before != (self._standing is not None):
            self._news.set()

    async def _tend(self) -> None:
        """Install the host libraries and free what no container has any more, once."""
        if self.platform is not Platform.EMULATED:
            return
        source, target = self._settings.libraries, self._settings.library_folder
        changed = await asyncio.to_thread(install_libraries, source, target)
        if changed:
            _log.info("libraries installed", extra={"facts": {"files": changed}})
        if self._grants.allocations.list():
            folder = self.plugins.config.plugin_folder
            held = {
                (each.resource, device) for each in read_holders(folder) for device in each.devices
            }
            await asyncio.to_thread(self._grants.retain, held)


async def _forever(name: str, step: Callable[[], Awaitable[None]], pause: float) -> None:
    """Take a step again and again; one that fails is logged, and waited for ever longer."""
    failures = 0
    said = ""
    while True:
        try:
            await step()
            failures, said = 0, ""
            await asyncio.sleep(pause)
        except (EnsconceError, OSError) as error:
            if str(error) != said:
                said = str(error)
                _log.warning("failed", extra={"facts": {"task": name, "fault": said}})
            failures += 1
            await asyncio.sleep(min(2.0**failures / 2, _LONGEST_PAUSE))
        except Exception:
            _log.exception("failed", extra={"facts": {"task": name}})
            failures += 1
            await asyncio.sleep(min(2.0**failures, _LONGEST_PAUSE))


def _category() -> TeeCategory:
    """Return Alibaba's name for the processor's kind; an emulated one has all of SGX 2."""
    leaf = sgx_leaf(_core.cpuid)
    old = leaf is not None and CpuidFeatures.SGX2 not in leaf.features
    return TeeCategory.SGX1 if old else TeeCategory.SGX2
