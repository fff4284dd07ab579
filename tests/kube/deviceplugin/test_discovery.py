# SPDX-License-Identifier: Apache-2.0
"""What a node has: from the processor, from the kernel's files, from settings."""

import os
from typing import Any

import pytest
from tests.kube.deviceplugin.node import Node

from ensconce.isa.attributes import Attributes, MiscSelect
from ensconce.isa.cpuid import CpuidFeatures, EpcSection, Registers, SgxCpuid
from ensconce.kube.deviceplugin.config import MIB
from ensconce.kube.deviceplugin.discovery import Inventory, Section, discover
from ensconce.kube.names import Platform

_NOBODY = 65534


class Processor:
    """CPUID of a processor with SGX and these EPC sections."""

    def __init__(self, *mib: int) -> None:
        sections = tuple(EpcSection(index << 32, size * MIB) for index, size in enumerate(mib))
        features = CpuidFeatures.SGX1 | CpuidFeatures.SGX2
        self._leaf = SgxCpuid(features, MiscSelect(0), 31, 36, Attributes(), sections)

    def __call__(self, leaf: int, subleaf: int) -> Registers:
        if leaf == 0x12:
            return self._leaf.registers(subleaf)
        return (0x20, 0, 0, 0) if leaf == 0 else (0, 1 << 2, 1 << 30, 0)


def look(node: Node, processor: Processor | None = None, **settings: Any) -> Inventory:
    return discover(node.config(**settings), processor)


def test_every_section_of_the_processor_counts_where_the_kernel_says_nothing(node: Node) -> None:
    (node.root / "sys/devices/system/node/node0/x86/sgx_total_bytes").unlink()
    found = look(node, Processor(*[64] * 9))
    assert found.size == 576 * MIB
    assert {section.node for section in found.sections} == {None}


def test_the_kernels_figures_come_with_their_numa_nodes(node: Node) -> None:
    node.add_epc(100, 0, 60)
    found = look(node, Processor(160))
    assert found.sections == (Section(100 * MIB, 0), Section(60 * MIB, 2))
    assert (found.platform, found.healthy) == (Platform.SGX, True)


def test_figures_that_are_none_are_left_out(node: Node) -> None:
    (node.root / "sys/devices/system/node/node0/x86/sgx_total_bytes").write_text("-1\n")
    assert look(node).sections == ()


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/dev/sgx_enclave", ["/dev/sgx_enclave", "/dev/sgx/enclave"]),
        ("/dev/sgx/enclave", ["/dev/sgx/enclave"]),
        ("/dev/isgx", ["/dev/isgx"]),
        ("/dev/sgx", ["/dev/sgx"]),
    ],
)
def test_each_driver_is_known_by_its_device_node(node: Node, path: str, inside: list[str]) -> None:
    for name in ("sgx_enclave", "sgx_provision"):
        (node.root / "dev" / name).unlink()
    node.add_device(path)
    found = look(node)
    assert [device.path for device in found.devices] == inside
    assert found.healthy


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda node: (node.root / "dev/sgx_enclave").unlink(), "DriverMissing"),
        (
            lambda node: (node.root / "sys/devices/system/node/node0/x86/sgx_total_bytes").unlink(),
            "NoEpc",
        ),
    ],
)
def test_hardware_that_lacks_something_says_what(node: Node, change: Any, reason: str) -> None:
    change(node)
    found = look(node)
    assert (found.platform, found.reason, found.healthy) == (Platform.SGX, reason, False)


def test_a_file_in_the_device_nodes_place_is_named(node: Node) -> None:
    (node.root / "dev/sgx_enclave").unlink()
    (node.root / "dev/sgx_enclave").touch()
    assert look(node).fault.startswith("/dev/sgx_enclave is no device node")


def test_a_device_node_that_can_not_be_opened_is_named(node: Node) -> None:
    (node.root / "dev/sgx_enclave").chmod(0o600)
    node.root.parent.chmod(0o755)
    os.seteuid(_NOBODY)
    try:
        assert look(node).reason == "DriverRefuses"
    finally:
        os.seteuid(0)


def test_a_node_without_sgx_says_so_and_what_to_do(bare: Node) -> None:
    found = look(bare)
    assert (found.platform, found.reason) == (Platform.NONE, "NoSgx")
    assert "enable SGX in the BIOS, or set emulated_mib" in found.fault


def test_emulated_epc_does_not_stand_in_where_there_is_sgx(node: Node) -> None:
    assert look(node, emulated_mib=64).platform is Platform.SGX


def test_emulated_epc_is_shared_by_its_numa_nodes(bare: Node) -> None:
    found = look(bare, emulated_mib=101, emulated_numa_nodes=2)
    assert found.platform is Platform.EMULATED
    assert found.sections == (Section(51 * MIB, 0), Section(50 * MIB, 1))


def test_a_platform_that_is_set_is_not_guessed(bare: Node) -> None:
    assert look(bare, platform="none", emulated_mib=64).platform is Platform.NONE
    assert look(bare, platform="sgx", emulated_mib=64).reason == "DriverMissing"


@pytest.mark.parametrize("folder", ["sys/fs/cgroup", "sys/fs/cgroup/misc"])
def test_epc_that_is_all_in_use_is_noticed(node: Node, folder: str) -> None:
    (group := node.root / folder / "kubepods").mkdir(parents=True)
    (group.parent / "misc.capacity").write_text(f"sgx_epc {100 * MIB}\n")
    (group / "misc.current").write_text(f"sgx_epc {98 * MIB}\n")
    assert not look(node).exhausted
    (group / "misc.current").write_text(f"sgx_epc {100 * MIB}\n")
    assert look(node).exhausted
