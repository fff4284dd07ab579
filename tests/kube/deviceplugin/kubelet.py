# SPDX-License-Identifier: Apache-2.0
"""A kubelet's device manager, as far as a plugin sees one: real gRPC, and its 4 MiB limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from ensconce.kube.deviceplugin import v1beta1_pb2 as api
from ensconce.kube.deviceplugin.rpc import (
    DEVICE_PLUGIN,
    REGISTRATION,
    call,
    handler,
    open_channel,
)

LARGEST = 4 << 20  # what a Go client takes unless told otherwise
SOON = 10.0


class Kubelet:
    """One start of a kubelet: removes every socket, listens, and follows who registers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices: dict[str, dict[str, api.Device]] = {}
        self.options: dict[str, api.DevicePluginOptions] = {}
        self.registrations: list[api.RegisterRequest] = []
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()

    async def Register(  # noqa: N802 # the kubelet's name
        self, request: api.RegisterRequest, _: Any
    ) -> api.Empty:
        channel = open_channel(self.folder / request.endpoint, largest=LARGEST)
        self._channels[request.resource_name] = channel
        self.options[request.resource_name] = await self.ask(
            request.resource_name, "GetDevicePluginOptions", api.Empty()
        )
        self.registrations.append(request)
        self._tasks.append(asyncio.create_task(self._follow(request.resource_name, channel)))
        return api.Empty()

    async def ask(self, resource: str, method: str, request: Any) -> Any:
        return await call(self._channels[resource], DEVICE_PLUGIN, method, request, timeout=SOON)

    async def allocate(self, resource: str, *names: str) -> api.ContainerAllocateResponse:
        request = api.AllocateRequest(container_requests=[{"devices_ids": names}])
        response = await self.ask(resource, "Allocate", request)
        answer: api.ContainerAllocateResponse = response.container_responses[0]
        return answer

    def healthy(self, resource: str) -> int:
        devices = self.devices.get(resource, {}).values()
        return sum(device.health == "Healthy" for device in devices)

    async def until(self, resource: str, healthy: int) -> None:
        async with asyncio.timeout(SOON), self._changed:
            await self._changed.wait_for(lambda: self.healthy(resource) == healthy)

    async def _follow(self, resource: str, channel: grpc.aio.Channel) -> None:
        watch = channel.unary_stream(
            f"/{DEVICE_PLUGIN.full_name}/ListAndWatch",
            request_serializer=api.Empty.SerializeToString,
            response_deserializer=api.ListAndWatchResponse.FromString,
        )
        try:
            async for response in watch(api.Empty()):
                await self._hear(resource, {each.ID: each for each in response.devices})
        except grpc.aio.AioRpcError:
            await self._hear(resource, {})
        finally:
            await channel.close()

    async def _hear(self, resource: str, devices: dict[str, api.Device]) -> None:
        async with self._changed:
            self.devices[resource] = devices
            self._changed.notify_all()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def kubelet(folder: Path) -> AsyncIterator[Kubelet]:
    """A kubelet that listens in a folder."""
    for path in folder.iterdir():
        if path.is_socket():
            path.unlink()
    one = Kubelet(folder)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler(REGISTRATION, one),))
    server.add_insecure_port(f"unix:{folder / 'kubelet.sock'}")
    await server.start()
    try:
        yield one
    finally:
        await one.stop()
        await server.stop(grace=0)
