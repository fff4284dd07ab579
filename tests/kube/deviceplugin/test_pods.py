# SPDX-License-Identifier: Apache-2.0
"""What the kubelet says of pods: for metrics, for policy, and where EPC has run out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.kube.deviceplugin.kubelet import Kubelet, kubelet
from tests.kube.deviceplugin.node import ALIBABA, PROVISION, Node

from ensconce.errors import DeviceError
from ensconce.kube.deviceplugin import podresources_pb2 as api
from ensconce.kube.deviceplugin import v1beta1_pb2
from ensconce.kube.deviceplugin.plugins import DevicePlugins
from ensconce.kube.deviceplugin.podresources import Held, counted, list_held
from ensconce.kube.deviceplugin.rpc import POD_RESOURCES, handler


class Pods:
    """The kubelet's list, by namespace/pod, resource and devices."""

    def __init__(self) -> None:
        self.held: list[tuple[str, str, list[str]]] = []

    async def List(self, *_: Any) -> api.ListPodResourcesResponse:  # noqa: N802 # the kubelet's
        response = api.ListPodResourcesResponse()
        for pod, resource, devices in self.held:
            namespace, name = pod.split("/")
            added = response.pod_resources.add(namespace=namespace, name=name)
            container = added.containers.add(name="app")
            container.devices.add(resource_name=resource, device_ids=devices)
        return response


@contextlib.asynccontextmanager
async def listing(socket: Path) -> AsyncIterator[Pods]:
    pods, server = Pods(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler(POD_RESOURCES, pods),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield pods
    finally:
        await server.stop(grace=0)


@contextlib.asynccontextmanager
async def provisioning(node: Node, **settings: Any) -> AsyncIterator[tuple[Kubelet, Pods]]:
    socket = node.root / "pods.sock"
    async with (
        listing(socket) as pods,
        kubelet(node.plugins) as kube,
        node.running(pod_resources=socket, provision_pods=("aesm", "apps/quoter"), **settings),
    ):
        await kube.until(PROVISION, 110)
        yield kube, pods


async def start(kube: Kubelet, device: str) -> None:
    request = v1beta1_pb2.PreStartContainerRequest(devices_ids=[device])
    await kube.ask(PROVISION, "PreStartContainer", request)


def test_a_pod_that_the_policy_names_starts_with_the_provisioning_device(node: Node) -> None:
    async def scenario() -> None:
        async with provisioning(node) as (kube, pods):
            assert kube.options[PROVISION].pre_start_required
            pods.held = [("aesm/quoter-0", PROVISION, ["sgx-provision-4"])]
            await start(kube, "sgx-provision-4")

    asyncio.run(scenario())


def test_any_other_pod_is_refused_before_it_starts(node: Node) -> None:
    async def scenario() -> None:
        async with provisioning(node) as (kube, pods):
            pods.held = [("default/thief", PROVISION, ["sgx-provision-4"])]
            with pytest.raises(grpc.aio.AioRpcError, match="pod default/thief may not have"):
                await start(kube, "sgx-provision-4")

    asyncio.run(scenario())


def test_a_device_that_nobody_is_known_to_have_is_refused(node: Node) -> None:
    async def scenario() -> None:
        async with provisioning(node) as (kube, pods):
            pods.held = [("aesm/quoter-0", ALIBABA, ["4"])]
            with pytest.raises(grpc.aio.AioRpcError, match="does not say whose sgx-provision-4"):
                await start(kube, "sgx-provision-4")

    asyncio.run(scenario())


@pytest.mark.parametrize(("account", "allowed"), [("quoter", True), ("default", False)])
def test_a_service_account_decides_where_it_is_known(
    node: Node, account: str, allowed: bool
) -> None:
    async def known(_: str, __: str) -> str:
        return account

    async def scenario() -> None:
        async with provisioning(node, account=known) as (kube, pods):
            pods.held = [("apps/quoter-0", PROVISION, ["sgx-provision-0"])]
            refused = pytest.raises(grpc.aio.AioRpcError, match="may not have")
            with contextlib.nullcontext() if allowed else refused:
                await start(kube, "sgx-provision-0")

    asyncio.run(scenario())


def test_a_kubelet_that_does_not_say_who_is_who_gets_no_provisioning(node: Node) -> None:
    async def scenario() -> None:
        async with (
            kubelet(node.plugins) as kube,
            node.running(pod_resources=node.root / "none.sock", provision_pods=("*",)),
        ):
            await kube.until(PROVISION, 110)
            with pytest.raises(grpc.aio.AioRpcError, match="no kubelet listens at"):
                await start(kube, "sgx-provision-0")

    asyncio.run(scenario())


async def text_with(plugins: DevicePlugins, part: str) -> str:
    """Return the metrics once they have a part."""
    async with asyncio.timeout(10):
        while part not in (text := plugins.metrics.text()):
            await asyncio.sleep(0.05)
    return text


def test_metrics_tell_what_each_pod_has(node: Node) -> None:
    async def scenario() -> None:
        socket = node.root / "pods.sock"
        async with listing(socket) as pods, kubelet(node.plugins):
            pods.held = [("default/web", ALIBABA, ["0", "1"]), ("default/web", "other/gpu", ["7"])]
            async with node.running(pod_resources=socket) as plugins:
                labels = f'namespace="default",pod="web",resource="{ALIBABA}"'
                line = f"pod_epc_bytes{{{labels}}} 2.097152e+06"
                text = await text_with(plugins, line)
                assert f'devices{{resource="{ALIBABA}",state="allocated"}} 2.0' in text
                assert "other/gpu" not in text

    asyncio.run(scenario())


def test_free_devices_are_held_back_while_all_epc_is_in_use(node: Node) -> None:
    (group := node.root / "sys/fs/cgroup/kubepods").mkdir(parents=True)
    (group.parent / "misc.capacity").write_text(f"sgx_epc {100 << 20}\n")
    (group / "misc.current").write_text(f"sgx_epc {100 << 20}\n")

    async def scenario() -> None:
        socket = node.root / "pods.sock"
        async with listing(socket) as pods, kubelet(node.plugins) as kube:
            pods.held = [("default/greedy", ALIBABA, ["5", "6"])]
            async with node.running(pod_resources=socket) as plugins:
                await kube.until(ALIBABA, 2)
                assert plugins.state.reason == "EpcExhausted"
                (group / "misc.current").write_text("sgx_epc 8192\n")
                await kube.until(ALIBABA, 100)

    asyncio.run(scenario())


def test_a_service_that_answers_otherwise_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with await asyncio.start_unix_server(
            lambda _, writer: writer.close(), tmp_path / "pods.sock"
        ):
            with pytest.raises(DeviceError, match="does not say which pod has which device"):
                await list_held(tmp_path / "pods.sock")

    asyncio.run(scenario())


def test_what_is_no_epc_counts_as_devices_alone() -> None:
    held = [Held("default", "web", "app", "sgx.intel.com/enclave", ("sgx-enclave-0",))]
    assert counted(held, {"sgx.intel.com/enclave": 0}) == ({}, {"sgx.intel.com/enclave": 1})
