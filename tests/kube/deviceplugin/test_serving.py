# SPDX-License-Identifier: Apache-2.0
"""Plugins before a kubelet that speaks real gRPC."""

import asyncio
import json
import socket

import grpc.aio
import pytest
from tests.kube.deviceplugin.kubelet import SOON, kubelet
from tests.kube.deviceplugin.node import ALIBABA, ENCLAVE, INTEL, PROVISION, Node

from ensconce.errors import DeviceError
from ensconce.kube.deviceplugin import Allocation, Injection, Mount
from ensconce.kube.deviceplugin import v1beta1_pb2 as api


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


def test_aesms_folder_is_mounted_read_only_where_asked_for_and_there(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running(aesm_socket=True):
            await kube.until(ALIBABA, 100)
            assert not (await kube.allocate(ALIBABA, "0")).mounts
            (node.root / "var/run/aesmd").mkdir(parents=True)
            (mount,) = (await kube.allocate(ALIBABA, "0")).mounts
            assert (mount.container_path, mount.host_path) == ("/var/run/aesmd",) * 2
            assert mount.read_only

    asyncio.run(scenario())


def test_the_provisioning_device_comes_with_epc_only_where_that_is_set(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running(provision_with_epc=True):
            await kube.until(ALIBABA, 100)
            answer = await kube.allocate(ALIBABA, "0")
            assert [device.container_path for device in answer.devices] == [
                "/dev/sgx_enclave",
                "/dev/sgx/enclave",
                "/dev/sgx_provision",
                "/dev/sgx/provision",
            ]

    asyncio.run(scenario())


def test_intels_resources_are_answered_as_by_its_plugin(node: Node) -> None:
    async def scenario() -> None:
        settings = {"epc": {INTEL: 100}, "enclave_limit": 20, "provision_pods": ("aesm",)}
        async with kubelet(node.plugins) as kube, node.running(**settings) as plugins:
            await kube.until(ENCLAVE, 20)
            await kube.until(PROVISION, 110)
            assert [r.endpoint for r in kube.registrations if r.resource_name == ENCLAVE] == [
                "sgx.intel.com-enclave.sock"
            ]
            assert list(kube.devices[ENCLAVE]) == [f"sgx-enclave-{n}" for n in range(20)]
            answer = await kube.allocate(ENCLAVE, "sgx-enclave-7")
            assert [d.container_path for d in answer.devices] == ["/dev/sgx_enclave"]
            answer = await kube.allocate(PROVISION, "sgx-provision-0")
            assert [d.container_path for d in answer.devices] == ["/dev/sgx_provision"]
            assert plugins.state.node_capacity == {INTEL: 100 << 20}
            assert INTEL not in kube.devices

    asyncio.run(scenario())


def test_each_of_two_numa_nodes_is_told_and_preferred_by_itself(node: Node) -> None:
    node.add_epc(50, 50)

    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running():
            await kube.until(ALIBABA, 100)
            assert kube.options[ALIBABA].get_preferred_allocation_available
            assert kube.devices[ALIBABA]["50"].topology.nodes[0].ID == 1
            request = api.PreferredAllocationRequest(
                container_requests=[
                    {
                        "available_deviceIDs": map(str, range(40, 100)),
                        "must_include_deviceIDs": [],
                        "allocation_size": 20,
                    }
                ]
            )
            answer = await kube.ask(ALIBABA, "GetPreferredAllocation", request)
            (chosen,) = answer.container_responses
            assert list(chosen.deviceIDs) == [str(n) for n in range(50, 70)]

    asyncio.run(scenario())


@pytest.mark.parametrize("mib", [16, 65_536, 150_000])
def test_a_kubelet_takes_every_device_within_its_4_mib(bare: Node, mib: int) -> None:
    async def scenario() -> None:
        settings = {"emulated_mib": mib, "max_devices": 150_000, "emulated_numa_nodes": 2}
        async with kubelet(bare.plugins) as kube, bare.running(**settings):
            await kube.until(ALIBABA, mib)
            answer = await kube.allocate(ALIBABA, *map(str, range(0, mib, 2)))
            assert len(answer.envs["SGX_VISIBLE_DEVICES"]) < 128 << 10

    asyncio.run(scenario())


@pytest.mark.parametrize("gib", [65, 221, 512, 1024])
def test_more_stands_in_the_nodes_status_and_enclave_devices_bring_the_rest(
    node: Node, gib: int
) -> None:
    node.add_epc(gib << 10)

    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running() as plugins:
            await kube.until(ENCLAVE, 110)
            assert plugins.state.node_capacity == {ALIBABA: gib << 10}
            answer = await kube.allocate(ENCLAVE, "sgx-enclave-0")
            paths = [device.container_path for device in answer.devices]
            assert paths == ["/dev/sgx_enclave", "/dev/sgx/enclave"]

    asyncio.run(scenario())


def test_a_name_that_was_devices_waits_until_the_kubelet_has_forgotten(node: Node) -> None:
    checkpoint = node.plugins / "kubelet_internal_checkpoint"

    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running(max_devices=200) as plugins:
            await kube.until(ALIBABA, 100)
            checkpoint.write_text(json.dumps({"Data": {"RegisteredDevices": {ALIBABA: ["0"]}}}))
            node.add_epc(300)
            await kube.until(ALIBABA, 0)
            assert plugins.state.node_capacity == {ALIBABA: 0}
            assert "still counts" in plugins.state.message
            for text in ("{", '{"Data": {"RegisteredDevices": 7}}'):
                checkpoint.write_text(text)
                await asyncio.sleep(0.2)
                assert plugins.state.node_capacity == {ALIBABA: 0}
            checkpoint.write_text('{"Data": {"RegisteredDevices": null}}')
            await asyncio.sleep(0.2)
            assert plugins.state.node_capacity == {ALIBABA: 300}

    asyncio.run(scenario())


def test_figures_in_the_nodes_status_are_zero_while_enclaves_can_not_run(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running(epc={INTEL: 100}) as plugins:
            await kube.until(ENCLAVE, 110)
            (node.root / "dev/sgx_enclave").unlink()
            await kube.until(ENCLAVE, 0)
            assert plugins.state.node_capacity == {INTEL: 0}

    asyncio.run(scenario())


def test_a_node_without_sgx_offers_nothing_and_says_why(bare: Node) -> None:
    async def scenario() -> None:
        async with kubelet(bare.plugins) as kube, bare.running() as plugins:
            await asyncio.sleep(0.3)
            assert not kube.registrations
            assert not plugins.state.ready
            assert plugins.state.reason == "NoSgx"
            bare.add_epc(100)
            bare.add_device("/dev/sgx_enclave")
            await kube.until(ALIBABA, 100)

    asyncio.run(scenario())


def test_epc_that_goes_leaves_its_devices_to_those_who_have_them(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running() as plugins:
            await kube.until(ALIBABA, 100)
            (node.root / "sys/devices/system/node/node0/x86/sgx_total_bytes").unlink()
            await kube.until(ALIBABA, 0)
            assert len(kube.devices[ALIBABA]) == 100
            assert plugins.state.reason == "NoEpc"

    asyncio.run(scenario())


def test_a_plugin_waits_for_a_kubelet_that_was_never_there(node: Node) -> None:
    node.plugins.rmdir()

    async def scenario() -> None:
        async with node.running() as plugins:
            await asyncio.sleep(0.3)
            assert "no kubelet has run here" in plugins.state.message
            node.plugins.mkdir()
            async with kubelet(node.plugins) as kube:
                await kube.until(ALIBABA, 100)

    asyncio.run(scenario())


def test_another_plugin_at_the_same_socket_is_left_alone(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube:
            vendor = socket.socket(socket.AF_UNIX)
            vendor.bind(str(node.plugins / "sgx.sock"))
            vendor.listen()
            async with node.running() as plugins:
                await kube.until(ENCLAVE, 110)
                assert "another device plugin serves" in plugins.state.message
                vendor.close()
                await kube.until(ALIBABA, 100)

    asyncio.run(scenario())


def test_a_socket_that_somebody_removes_is_made_again(node: Node) -> None:
    async def scenario() -> None:
        async with kubelet(node.plugins) as kube, node.running():
            await kube.until(ALIBABA, 100)
            (node.plugins / "sgx.sock").unlink()
            await kube.until(ALIBABA, 0)
            await kube.until(ALIBABA, 100)

    asyncio.run(scenario())


class Platform:
    """An injector that gives 50 MiB in all, and remembers who starts."""

    def __init__(self) -> None:
        self.started: list[Allocation] = []

    async def allocate(self, allocation: Allocation) -> Injection:
        if allocation.epc > 50 << 20:
            raise DeviceError("the platform has only 50 MiB; ask for less")
        mount = Mount("/run/ensconce", "/run/ensconce/7")
        return Injection({"ENSCONCE_SERVICE": "/run/ensconce/service"}, (mount,))

    async def start(self, allocation: Allocation) -> None:
        self.started.append(allocation)


def test_an_agent_adds_to_what_containers_get_and_may_refuse(bare: Node) -> None:
    async def scenario() -> None:
        given = Platform()
        async with (
            kubelet(bare.plugins) as kube,
            bare.running(emulated_mib=64, injector=given) as plugins,
        ):
            await kube.until(ALIBABA, 64)
            async with asyncio.timeout(SOON):
                while not plugins.state.ready:
                    await asyncio.sleep(0.01)
            assert "protects nothing" in plugins.state.message
            assert kube.options[ALIBABA].pre_start_required
            answer = await kube.allocate(ALIBABA, "1", "2")
            assert answer.envs["ENSCONCE_SERVICE"] == "/run/ensconce/service"
            assert [mount.container_path for mount in answer.mounts] == ["/run/ensconce"]
            with pytest.raises(grpc.aio.AioRpcError, match="only 50 MiB"):
                await kube.allocate(ALIBABA, *map(str, range(51)))
            request = api.PreStartContainerRequest(devices_ids=["1", "2"])
            await kube.ask(ALIBABA, "PreStartContainer", request)
            assert [(each.devices, each.epc) for each in given.started] == [(("1", "2"), 2 << 20)]

    asyncio.run(scenario())
