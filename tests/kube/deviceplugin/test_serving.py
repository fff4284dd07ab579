# SPDX-License-Identifier: Apache-2.0
"""Plugins before a kubelet that speaks real gRPC."""

import asyncio

import grpc.aio
import pytest
from tests.kube.deviceplugin.kubelet import kubelet
from tests.kube.deviceplugin.node import ALIBABA, ENCLAVE, Node


def test_a_kubelet_gets_a_device_for_each_mib_as_alibabas_plugin_gives_them(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running():
            await kube.until(ALIBABA, 100)
            first = next(r for r in kube.registrations if r.resource_name == ALIBABA)
            assert (first.version, first.endpoint) == ("v1beta1", "sgx.sock")
            assert not first.HasField("options")
            assert list(kube.devices[ALIBABA]) == [str(index) for index in range(100)]
            assert not kube.options[ALIBABA].get_preferred_allocation_available
            assert not any(each.HasField("topology") for each in kube.devices[ALIBABA].values())

    asyncio.run(scenario())


def test_a_container_gets_its_ids_and_both_paths_of_the_enclave_device(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running():
            await kube.until(ALIBABA, 100)
            answer = await kube.allocate(ALIBABA, "7", "3")
            assert dict(answer.envs) == {"SGX_VISIBLE_DEVICES": "7,3"}
            host = str(node.root / "dev/sgx_enclave")
            assert [(d.container_path, d.host_path, d.permissions) for d in answer.devices] == [
                ("/dev/sgx_enclave", host, "rw"),
                ("/dev/sgx/enclave", host, "rw"),
            ]
            assert not answer.mounts

    asyncio.run(scenario())


def test_an_unknown_device_is_refused_in_the_vendors_words(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running() as plugins:
            await kube.until(ALIBABA, 100)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await kube.allocate(ALIBABA, "100")
            assert refused.value.code() is grpc.StatusCode.UNKNOWN
            assert refused.value.details() == ("invalid allocation request: unknown device: 100")
            assert f'errors_total{{resource="{ALIBABA}"}} 1.0' in plugins.metrics.text()

    asyncio.run(scenario())


def test_a_kubelet_that_starts_anew_gets_everything_again(node: Node) -> None:
    async def scenario() -> None:
        async with node.running():
            for _ in range(3):
                async with kubelet(node.plugins) as kube:
                    await kube.until(ALIBABA, 100)
                    await kube.until(ENCLAVE, 110)

    asyncio.run(scenario())


def test_a_plugin_that_starts_anew_registers_with_the_same_kubelet(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube:
            for _ in range(3):
                async with node.running():
                    await kube.until(ALIBABA, 100)
                await kube.until(ALIBABA, 0)

    asyncio.run(scenario())


def test_a_device_node_that_goes_makes_devices_unhealthy_until_it_is_back(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running() as plugins:
            await kube.until(ALIBABA, 100)
            (node.root / "dev/sgx_enclave").unlink()
            await kube.until(ALIBABA, 0)
            assert len(kube.devices[ALIBABA]) == 100
            assert plugins.state.reason == "DriverMissing"
            node.add_device("/dev/sgx_enclave")
            await kube.until(ALIBABA, 100)

    asyncio.run(scenario())
