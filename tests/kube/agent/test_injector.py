# SPDX-License-Identifier: Apache-2.0
"""What containers of an emulated node get, over a platform's folder."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensconce.errors import DeviceError
from ensconce.kube.agent.checkpoint import read_holders
from ensconce.kube.agent.grants import Grants
from ensconce.kube.agent.injector import EmulatedInjector
from ensconce.kube.agent.libraries import install_libraries
from ensconce.kube.deviceplugin import Allocation, Injection, Kind
from ensconce.machine.identity import Identity
from ensconce.platform.allocations import Allocations
from ensconce.platform.node import NodePlatform

_MIB = 1 << 20
_EPC, _ENCLAVE = "alibabacloud.com/sgx_epc_MiB", "sgx.intel.com/enclave"


@pytest.fixture
def grants(tmp_path: Path) -> Iterator[Grants]:
    """Grants over a platform of 8 MiB that serves in a thread."""
    os.chdir(tmp_path)  # a socket's path is short from here
    allocations = Allocations(Path("run"))
    platform = NodePlatform(Identity.generate(), allocations, epc=8 * _MIB)
    thread = threading.Thread(target=platform.run)
    thread.start()
    yield Grants(allocations)
    platform.stop()
    thread.join()


def hold(folder: Path, *entries: tuple[str, str, str, list[str]]) -> None:
    """Write the kubelet's file: pod's UID, container, resource, devices."""
    names = ("PodUID", "ContainerName", "ResourceName", "DeviceIDs")
    found = [dict(zip(names, (*each[:3], {"-1": each[3]}), strict=True)) for each in entries]
    data = {"Data": {"PodDeviceEntries": found, "RegisteredDevices": {}}, "Checksum": 1}
    (folder / "kubelet_internal_checkpoint").write_text(json.dumps(data))


def injector(
    grants: Grants, folder: Path, epc: int = 0, *, emulated: bool = True
) -> EmulatedInjector:
    async def asked(pod: str, container: str) -> int:
        assert (pod, container) == ("p1", "app")
        return epc

    return EmulatedInjector(grants, folder, emulated=lambda: emulated, asked=asked)


def given(made: EmulatedInjector, allocation: Allocation) -> Injection:
    async def run() -> Injection:
        result = await made.allocate(allocation)
        await made.start(allocation)
        return result

    return asyncio.run(run())


def test_a_container_with_epc_gets_socket_and_libraries(grants: Grants, tmp_path: Path) -> None:
    made = given(injector(grants, tmp_path), Allocation(_EPC, Kind.EPC, ("3", "4"), 2 * _MIB))
    assert made.environment["ENSCONCE_SERVICE"] == "/run/ensconce/service.sock"
    assert made.environment["LD_LIBRARY_PATH"] == "/opt/ensconce/lib"
    assert [each.container for each in made.mounts] == ["/run/ensconce", "/opt/ensconce/lib"]
    assert all(each.read_only for each in made.mounts)
    (allocation,) = grants.allocations.list()
    assert made.mounts[0].host == f"/run/ensconce/allocations/{allocation.id}"
    assert grants.allocations.socket(allocation.id).is_socket()
    assert (allocation.epc, allocation.devices) == (2 * _MIB, ("3", "4"))


def test_nodes_with_sgx_inject_nothing(grants: Grants, tmp_path: Path) -> None:
    made = injector(grants, tmp_path, emulated=False)
    assert given(made, Allocation(_EPC, Kind.EPC, ("1",), _MIB)) == Injection()
    assert grants.allocations.list() == []


def test_more_epc_than_the_platform_has_is_refused(grants: Grants, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="do not fit"):
        given(injector(grants, tmp_path), Allocation(_EPC, Kind.EPC, ("1",), 9 * _MIB))
    assert grants.allocations.list() == []


def test_an_enclave_device_has_the_epc_of_its_containers_limits(
    grants: Grants, tmp_path: Path
) -> None:
    hold(tmp_path, ("p1", "app", _ENCLAVE, ["e-1"]))
    given(injector(grants, tmp_path, 5 * _MIB), Allocation(_ENCLAVE, Kind.ENCLAVE, ("e-1",)))
    (use,) = grants.allocations.list()
    assert use.epc == 5 * _MIB


def test_an_enclave_device_beside_epc_devices_is_the_same_allocation(
    grants: Grants, tmp_path: Path
) -> None:
    made = injector(grants, tmp_path)
    given(made, Allocation(_EPC, Kind.EPC, ("1", "2"), 2 * _MIB))
    hold(tmp_path, ("p1", "app", _ENCLAVE, ["e-1"]), ("p1", "app", _EPC, ["2", "1"]))
    given(made, Allocation(_ENCLAVE, Kind.ENCLAVE, ("e-1",)))
    first, second = sorted(grants.allocations.list(), key=lambda each: each.same)
    assert second.same == first.id
    sockets = grants.allocations.socket(first.id), grants.allocations.socket(second.id)
    assert sockets[0].samefile(sockets[1])


def test_an_enclave_device_without_epc_is_refused_with_the_mend(
    grants: Grants, tmp_path: Path
) -> None:
    hold(tmp_path, ("p1", "app", _ENCLAVE, ["e-1"]))
    with pytest.raises(DeviceError, match="no EPC in its limits"):
        given(injector(grants, tmp_path), Allocation(_ENCLAVE, Kind.ENCLAVE, ("e-1",)))


def test_epc_of_pods_that_are_gone_is_found_when_it_is_needed(
    grants: Grants, tmp_path: Path
) -> None:
    gone = grants.allocations.add(6 * _MIB, _ENCLAVE, ["e-9"])
    made = injector(grants, tmp_path, 5 * _MIB)
    grants._clock = lambda: 4e9  # long after
    hold(tmp_path, ("p1", "app", _ENCLAVE, ["e-1"]))
    given(made, Allocation(_ENCLAVE, Kind.ENCLAVE, ("e-1",)))
    assert gone.id not in {each.id for each in grants.allocations.list()}


def test_young_allocations_and_held_ones_stay(grants: Grants) -> None:
    held = grants.allocations.add(_MIB, _EPC, ["1"])
    young = grants.allocations.add(_MIB, _EPC, ["2"])
    assert grants.retain({(_EPC, "1")}) == []
    grants._clock = lambda: 4e9
    assert grants.retain({(_EPC, "1")}) == [young.id]
    assert [each.id for each in grants.allocations.list()] == [held.id]


def test_an_unreadable_file_of_the_kubelets_is_an_error(tmp_path: Path) -> None:
    for text in ("", "[]", '{"Data": {"PodDeviceEntries": [{}]}}', '{"Data": 1}'):
        (tmp_path / "kubelet_internal_checkpoint").write_text(text)
        with pytest.raises(DeviceError, match="does not say who has which device"):
            read_holders(tmp_path)


def test_libraries_are_replaced_where_they_differ_and_only_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "libsgx_urts.so.2").write_bytes(b"one")
    (source / "libsgx_urts.so").symlink_to("libsgx_urts.so.2")
    assert len(install_libraries(source, target)) == 2
    open_file = (target / "libsgx_urts.so.2").open("rb")
    assert install_libraries(source, target) == []
    (source / "libsgx_urts.so.2").write_bytes(b"two")
    (target / "libold.so.1").write_bytes(b"")
    assert install_libraries(source, target) == ["libsgx_urts.so.2", "libold.so.1"]
    with open_file:
        assert open_file.read() == b"one"  # as a program that runs has it
    assert (target / "libsgx_urts.so").read_bytes() == b"two"
