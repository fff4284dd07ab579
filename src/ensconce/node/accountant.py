# SPDX-License-Identifier: Apache-2.0
"""Count this machine's EPC as a kubelet does: device plugins register, and are asked to allocate.

Who has which devices is not kept here but in the pods' records. It is also written to the file in
which a kubelet keeps it (`kubelet_internal_checkpoint`), where plugins look for what is free.
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from ensconce.errors import DeviceError
from ensconce.node import v1beta1_pb2 as api
from ensconce.node.store import write_whole

__all__ = ["Accountant", "Grant", "Holding"]

_SOCKET = "kubelet.sock"
_CHECKPOINT = "kubelet_internal_checkpoint"
_HEALTHY = "Healthy"
_VERSION = "v1beta1"
_LARGEST = 4 << 20  # what a kubelet takes
_SECONDS = 10.0
_OPTIONS = [
    ("grpc.max_receive_message_length", _LARGEST),
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holding:
    """Devices that a pod's container has."""

    pod: str
    container: str
    resource: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a container gets with devices: (container's path, host's path, read-only) mounts."""

    resource: str
    devices: tuple[str, ...]
    environment: dict[str, str]
    mounts: tuple[tuple[str, str, bool], ...]
    nodes: tuple[tuple[str, str, str], ...]


class _Plugin:
    """One resource's plugin: a channel to it, and its devices as it last told them."""

    def __init__(self, resource: str, socket: Path, *, prepares: bool) -> None:
        self.resource = resource
        self.healthy: tuple[str, ...] = ()
        self.prepares = prepares
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=_OPTIONS)
        threading.Thread(target=self._follow, daemon=True).start()

    def ask(self, method: str, request: Any, answer: Any) -> Any:
        """Call a method. Raises DeviceError with the plugin's words."""
        call = self._channel.unary_unary(
            f"/v1beta1.DevicePlugin/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return call(request, timeout=_SECONDS)
        except grpc.RpcError as error:
            details = getattr(error, "details", lambda: "")()
            raise DeviceError(f"the device plugin of {self.resource} refused: {details}") from error

    def _follow(self) -> None:
        """Hear of devices until the plugin is gone."""
        watch = self._channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            request_serializer=api.Empty.SerializeToString,
            response_deserializer=api.ListAndWatchResponse.FromString,
        )
        with contextlib.suppress(grpc.RpcError, ValueError):
            for told in watch(api.Empty()):
                self.healthy = tuple(each.ID for each in told.devices if each.health == _HEALTHY)
        self.healthy = ()
        self._channel.close()


class Accountant:
    """The kubelet's part of the protocol, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plugins: dict[str, _Plugin] = {}
        self._written = b""
        for path in folder.iterdir():
            if path.is_socket():  # as a kubelet does: whoever is there registers anew
                path.unlink()
        self._server = grpc.server(ThreadPoolExecutor(4))
        register = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=api.RegisterRequest.FromString,
            response_serializer=api.Empty.SerializeToString,
        )
        handlers = grpc.method_handlers_generic_handler(
            "v1beta1.Registration", {"Register": register}
        )
        self._server.add_generic_rpc_handlers((handlers,))
        self._server.add_insecure_port(f"unix:{folder / _SOCKET}")
        self._server.start()

    def close(self) -> None:
        """Listen no longer."""
        self._server.stop(grace=0).wait()

    def _register(self, request: api.RegisterRequest, context: Any) -> api.Empty:
        """Take a plugin on."""
        socket = self._folder / request.endpoint
        if request.version != _VERSION or socket.parent != self._folder or not socket.is_socket():
            fault = f"{request.endpoint!r} of {request.version!r} is no plugin's socket here"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, fault)
        prepares = request.options.pre_start_required
        plugin = _Plugin(request.resource_name, socket, prepares=prepares)
        self._plugins[request.resource_name] = plugin
        _log.info("plugin registered", extra={"facts": {"resource": request.resource_name}})
        return api.Empty()

    def total(self, resource: str) -> int:
        """Return how many healthy devices there are."""
        plugin = self._plugins.get(resource)
        return len(plugin.healthy) if plugin else 0

    def free(self, resource: str, held: Iterable[Holding]) -> list[str]:
        """Return the healthy devices that nobody has."""
        plugin = self._plugins.get(resource)
        taken = {name for each in held if each.resource == resource for name in each.devices}
        return [name for name in (plugin.healthy if plugin else ()) if name not in taken]

    def allocate(self, resource: str, devices: Collection[str]) -> Grant:
        """Have a plugin allocate devices. Raises DeviceError."""
        plugin = self._plugins.get(resource)
        if plugin is None:
            raise DeviceError(f"no device plugin offers {resource} at the moment")
        request = api.AllocateRequest(container_requests=[{"devices_ids": list(devices)}])
        answers = plugin.ask("Allocate", request, api.AllocateResponse).container_responses
        if len(answers) != 1:
            raise DeviceError(f"the device plugin of {resource} gave {len(answers)} answers to one")
        (answer,) = answers
        return Grant(
            resource,
            tuple(devices),
            dict(answer.envs),
            tuple((one.container_path, one.host_path, one.read_only) for one in answer.mounts),
            tuple((one.container_path, one.host_path, one.permissions) for one in answer.devices),
        )

    def prepare(self, resource: str, devices: Collection[str]) -> None:
        """Tell a plugin that a container starts, if it wants to know. Raises DeviceError."""
        plugin = self._plugins.get(resource)
        if plugin is None:
            raise DeviceError(f"no device plugin offers {resource} at the moment")
        if plugin.prepares:
            request = api.PreStartContainerRequest(devices_ids=list(devices))
            plugin.ask("PreStartContainer", request, api.PreStartContainerResponse)

    def write(self, held: Iterable[Holding]) -> None:
        """Write who has what, as a kubelet does for its own restarts."""
        entries = [
            {
                "PodUID": each.pod,
                "ContainerName": each.container,
                "ResourceName": each.resource,
                "DeviceIDs": {"-1": list(each.devices)},
                "AllocResp": "",
            }
            for each in held
        ]
        registered = {name: list(one.healthy) for name, one in list(self._plugins.items())}
        data = {"PodDeviceEntries": entries, "RegisteredDevices": registered}
        text = json.dumps({"Data": data, "Checksum": 0}).encode()
        if text != self._written:
            write_whole(self._folder / _CHECKPOINT, text)
            self._written = text

    def wait(self, resource: str, seconds: float) -> bool:
        """Wait until a resource is offered; return whether it is."""
        deadline = time.monotonic() + seconds
        while not self.total(resource):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True
