# SPDX-License-Identifier: Apache-2.0
"""One resource's socket: served to the kubelet, and registered with it for as long as both live.

Nothing tells a plugin that the kubelet was started anew but the folder: a kubelet removes every
socket in it and makes its own again. So the folder is looked at every second. A kubelet that has
the resource also keeps a stream open; where none is, it is asked to again.
"""

import asyncio
import contextlib
import logging
import socket
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio

from ensconce.errors import DeviceError, EnsconceError
from ensconce.kube.deviceplugin import v1beta1_pb2 as api
from ensconce.kube.deviceplugin.devices import prefer
from ensconce.kube.deviceplugin.offers import Offer
from ensconce.kube.deviceplugin.rpc import DEVICE_PLUGIN, REGISTRATION, call, handler, open_channel

__all__ = ["Endpoint", "Service"]

_log = logging.getLogger(__name__)

_KUBELET = "kubelet.sock"
_VERSION = "v1beta1"
_LARGEST = 16 << 20  # bytes; the IDs of all devices there may be are 2 MB
_REGISTER_SECONDS = 5.0
_Context = Any  # grpc.aio.ServicerContext, which takes parameters for type checkers alone
_STREAM_SECONDS = 5.0  # how long a kubelet has to open its stream before it is asked again


class Service(Protocol):
    """What an endpoint asks of the plugin as a whole; an EnsconceError refuses, with its words."""

    async def allocate(self, offer: Offer, indices: list[int]) -> api.ContainerAllocateResponse:
        """Return what a container gets for devices by number."""

    async def start(self, offer: Offer, indices: list[int]) -> None:
        """Let a container start that has these devices."""

    def asks_before_start(self, offer: Offer) -> bool:
        """Return whether the kubelet is to ask before each start."""

    def registered(self, resource: str, *, accepted: bool) -> None:
        """Count a registration."""

    def refused(self, resource: str) -> None:
        """Count an allocation or start that failed."""


class Endpoint:
    """The socket of one offer; `tend` it every second, `update` it when the offer changes."""

    def __init__(self, folder: Path, offer: Offer, service: Service) -> None:
        self.offer = offer
        self.fault = "not served yet"
        self.streams = 0
        self._folder = folder
        self._service = service
        self._server: grpc.aio.Server | None = None
        self._socket: _Identity | None = None
        self._kubelet: _Identity | None = None
        self._asked = 0.0
        self._state: tuple[Offer, bool, frozenset[int]] | None = None
        self._message = b""
        self._changed = asyncio.Event()

    @property
    def path(self) -> Path:
        """The socket."""
        return self._folder / self.offer.socket

    def update(self, offer: Offer, *, healthy: bool, ill: frozenset[int] = frozenset()) -> None:
        """Offer this from now on; the kubelet is told if it differs."""
        if self._state == (offer, healthy, ill):
            return
        self.offer = offer
        self._state = (offer, healthy, ill)
        self._message = offer.devices.message(healthy=healthy, ill=ill)
        self._changed.set()
        self._changed = asyncio.Event()

    async def tend(self) -> None:
        """Serve and register where that is not so; `fault` says what is in the way."""
        if self._server and _identity(self.path) != self._socket:
            await self.stop()
        if not self._server and not await self._serve():
            return
        kubelet = _identity(self._folder / _KUBELET)
        if kubelet is None:
            self._note(f"no kubelet listens in {self._folder}")
            return
        same = kubelet == self._kubelet
        if same and (self.streams or time.monotonic() - self._asked < _STREAM_SECONDS):
            return
        await self._register(kubelet)

    async def stop(self) -> None:
        """Serve no longer, and leave no socket."""
        server, self._server = self._server, None
        if server is None:
            return
        if _identity(self.path) == self._socket:
            self.path.unlink(missing_ok=True)
        self._socket = self._kubelet = None
        await server.stop(grace=0)
        self._note("not served yet")

    async def _serve(self) -> bool:
        """Listen at the path; return whether that worked."""
        if not self._folder.is_dir():
            self._note(f"there is no {self._folder}, so no kubelet has run here")
            return False
        if await asyncio.to_thread(_answers, self.path):
            self._note(
                f"another device plugin serves {self.path}; remove that one's DaemonSet first"
            )
            return False
        options = [("grpc.max_receive_message_length", _LARGEST), ("grpc.so_reuseport", 0)]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((handler(DEVICE_PLUGIN, _Servicer(self)),))
        try:
            server.add_insecure_port(f"unix:{self.path}")
        except RuntimeError:
            self._note(f"{self.path} can't be listened at; let the plugin write to its folder")
            return False
        await server.start()
        self._server, self._socket = server, _identity(self.path)
        return True

    async def _register(self, kubelet: "_Identity") -> None:
        """Tell a kubelet of the socket."""
        self._kubelet, self._asked = kubelet, time.monotonic()
        # the options are left out, as the vendors do: the kubelet asks for them
        request = api.RegisterRequest(
            version=_VERSION, endpoint=self.offer.socket, resource_name=self.offer.resource
        )
        async with open_channel(self._folder / _KUBELET, largest=_LARGEST) as channel:
            try:
                await call(channel, REGISTRATION, "Register", request, timeout=_REGISTER_SECONDS)
            except grpc.aio.AioRpcError as error:
                self._kubelet = None
                self._service.registered(self.offer.resource, accepted=False)
                self._note(f"the kubelet did not take the registration: {error.details()}")
                return
        self._service.registered(self.offer.resource, accepted=True)
        self._note("")

    def _note(self, fault: str) -> None:
        """Keep what is in the way, and log it when it changes."""
        if fault == self.fault:
            return
        self.fault = fault
        facts = {"resource": self.offer.resource, "fault": fault}
        _log.log(
            logging.WARNING if fault else logging.INFO,
            "not registered" if fault else "registered",
            extra={"facts": facts},
        )

    async def watch(self) -> AsyncGenerator[bytes]:
        """Yield the list of devices, and again whenever it changes."""
        self.streams += 1
        sent = None
        try:
            while True:
                if sent is not self._message:
                    sent = self._message
                    yield sent
                else:
                    await self._changed.wait()
        finally:
            self.streams -= 1

    def options(self) -> api.DevicePluginOptions:
        """Return what the kubelet is to ask for beside allocations."""
        return api.DevicePluginOptions(
            pre_start_required=self._service.asks_before_start(self.offer),
            get_preferred_allocation_available=self.offer.prefers,
        )

    def indices(self, names: Iterable[str]) -> list[int]:
        """Return devices' numbers; DeviceError for an ID that was never offered."""
        found = []
        for name in names:
            index = self.offer.devices.index(name)
            if index is None:
                raise DeviceError(f"invalid allocation request: unknown device: {name}")
            found.append(index)
        return found

    async def allocate(self, names: Iterable[str]) -> api.ContainerAllocateResponse:
        """Return what a container gets."""
        return await self._service.allocate(self.offer, self.indices(names))

    async def start(self, names: Iterable[str]) -> None:
        """Let a container start."""
        await self._service.start(self.offer, self.indices(names))

    async def refuse(self, context: "_Context", error: EnsconceError) -> NoReturn:
        """End a call with an error's sentence, in the status that a Go plugin's errors have."""
        self._service.refused(self.offer.resource)
        facts = {"resource": self.offer.resource, "fault": str(error)}
        _log.warning("refused", extra={"facts": facts})
        await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        raise error  # not reached: abort raises, which its type does not say


class _Servicer:
    """The DevicePlugin service over an endpoint; its methods have the kubelet's names."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def GetDevicePluginOptions(  # noqa: N802 # the kubelet's name
        self, _: api.Empty, __: "_Context"
    ) -> api.DevicePluginOptions:
        return self._endpoint.options()

    async def ListAndWatch(  # noqa: N802 # the kubelet's name
        self, _: api.Empty, __: "_Context"
    ) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(self._endpoint.watch()) as messages:
            async for message in messages:
                yield message

    async def GetPreferredAllocation(  # noqa: N802 # the kubelet's name
        self, request: api.PreferredAllocationRequest, context: "_Context"
    ) -> api.PreferredAllocationResponse:
        response = api.PreferredAllocationResponse()
        offer = self._endpoint.offer
        try:
            for each in request.container_requests if offer.prefers else ():
                available = self._endpoint.indices(each.available_deviceIDs)
                needed = self._endpoint.indices(each.must_include_deviceIDs)
                chosen = prefer(offer.devices, available, needed, each.allocation_size)
                response.container_responses.add(deviceIDs=map(offer.devices.name, chosen))
        except EnsconceError as error:
            await self._endpoint.refuse(context, error)
        return response

    async def Allocate(  # noqa: N802 # the kubelet's name
        self, request: api.AllocateRequest, context: "_Context"
    ) -> api.AllocateResponse:
        try:
            answers = [
                await self._endpoint.allocate(each.devices_ids)
                for each in request.container_requests
            ]
        except EnsconceError as error:
            await self._endpoint.refuse(context, error)
        return api.AllocateResponse(container_responses=answers)

    async def PreStartContainer(  # noqa: N802 # the kubelet's name
        self, request: api.PreStartContainerRequest, context: "_Context"
    ) -> api.PreStartContainerResponse:
        try:
            await self._endpoint.start(request.devices_ids)
        except EnsconceError as error:
            await self._endpoint.refuse(context, error)
        return api.PreStartContainerResponse()


@dataclass(frozen=True, slots=True)
class _Identity:
    """What tells a socket from another of the same name."""

    inode: int
    made: int


def _identity(path: Path) -> _Identity | None:
    """Return a socket's identity, None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return _Identity(found.st_ino, found.st_ctime_ns) if stat.S_ISSOCK(found.st_mode) else None


def _answers(path: Path) -> bool:
    """Return whether somebody listens at a path; what nobody listens at is left over."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (TimeoutError, BlockingIOError):
            return True  # too busy to answer, so there is somebody
        except OSError:
            return False
        return True
