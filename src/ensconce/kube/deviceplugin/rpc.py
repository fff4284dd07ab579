# SPDX-License-Identifier: Apache-2.0
"""Services and calls of gRPC, made of the .proto files' descriptors."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ensconce.kube.deviceplugin import podresources_pb2, v1beta1_pb2

__all__ = ["DEVICE_PLUGIN", "POD_RESOURCES", "REGISTRATION", "call", "handler", "open_channel"]

DEVICE_PLUGIN = v1beta1_pb2.DESCRIPTOR.services_by_name["DevicePlugin"]
REGISTRATION = v1beta1_pb2.DESCRIPTOR.services_by_name["Registration"]
POD_RESOURCES = podresources_pb2.DESCRIPTOR.services_by_name["PodResourcesLister"]


def handler(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """Return what serves each method of a service by the servicer's method of that name.

    A streaming method yields serialised messages: a list of devices is made once, not per stream.
    """
    table = {method.name: _method(method, servicer) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, table)


def _method(method: MethodDescriptor, servicer: object) -> "grpc.RpcMethodHandler[Any, Any]":
    """Return one method's handler."""
    behaviour = getattr(servicer, method.name)
    parse = GetMessageClass(method.input_type).FromString
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(behaviour, request_deserializer=parse)
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=parse,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )


def open_channel(socket: Path, *, largest: int) -> grpc.aio.Channel:
    """Return a channel to a unix socket that takes answers of at most `largest` bytes."""
    options = [
        ("grpc.max_receive_message_length", largest),
        ("grpc.default_authority", "localhost"),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a socket made anew is not the one that failed
    ]
    return grpc.aio.insecure_channel(f"unix:{socket}", options=options)


async def call(
    channel: grpc.aio.Channel,
    service: ServiceDescriptor,
    name: str,
    request: Any,
    *,
    timeout: float,
) -> Any:
    """Call a unary method and return its answer; raises grpc.aio.AioRpcError."""
    method = service.methods_by_name[name]
    invoke: Callable[..., Awaitable[Message]] = channel.unary_unary(
        f"/{service.full_name}/{name}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    return await invoke(request, timeout=timeout)
