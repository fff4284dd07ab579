# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of machines that this one is not."""

from dataclasses import replace
from pathlib import Path

import pytest

from ensconce.isa.cpuid import Registers
from ensconce.platform.checks import Check, Machine, State, check_machine

ICE_LAKE = {
    (0, 0): (0x1B, 0, 0, 0),
    (7, 0): (0, 1 << 2, 1 << 30, 0),
    (0x12, 0): (0x3, 0x1, 0, 0x381F),
    (0x12, 1): (0x36, 0, 0x2E7, 0),
    (0x12, 2): (0x80C00001, 0x10, 0x7F400001, 0),
}


def answer(answers: dict[tuple[int, int], Registers], leaf: int, subleaf: int) -> Registers:
    return answers.get((leaf, subleaf), (0, 0, 0, 0))


@pytest.fixture
def plain(tmp_path: Path) -> Machine:
    """A machine without SGX that has all the emulated processor asks for."""
    return Machine(
        root=tmp_path,
        cpuid=lambda leaf, subleaf: answer({(0, 0): (0x10, 0, 0, 0)}, leaf, subleaf),
        capabilities={"fsgsbase": True, "syscall_user_dispatch": True, "cpuid_faulting": True},
        xcr0=7,
        architecture="x86_64",
        kernel="6.1",
    )


def find(machine: Machine, name: str) -> Check:
    return next(check for check in check_machine(machine) if check.name == name)


def test_a_machine_without_sgx_lacks_nothing_that_must_be_mended(plain: Machine) -> None:
    assert all(check.state is not State.MISSING for check in check_machine(plain))
    assert find(plain, "sgx").state is State.ABSENT


def test_every_missing_thing_comes_with_its_mend(plain: Machine) -> None:
    poor = replace(
        plain, capabilities=dict.fromkeys(plain.capabilities, False), architecture="aarch64"
    )
    missing = [check for check in check_machine(poor) if check.state is State.MISSING]
    assert {check.name for check in missing} == {"architecture", "fsgsbase"}
    assert all(check.mend for check in missing)


def test_an_sgx_server_shows_its_features_and_epc(plain: Machine) -> None:
    server = replace(plain, cpuid=lambda leaf, subleaf: answer(ICE_LAKE, leaf, subleaf))
    assert find(server, "sgx").detail == "SGX1, SGX2"
    assert find(server, "epc").detail == "2036 MiB in 1: 2036 MiB"


def test_sgx_without_flexible_launch_control_is_told_apart(plain: Machine) -> None:
    answers = ICE_LAKE | {(7, 0): (0, 1 << 2, 0, 0)}
    old = replace(plain, cpuid=lambda leaf, subleaf: answer(answers, leaf, subleaf))
    assert "flexible launch control" in find(old, "sgx").mend


def test_an_out_of_tree_driver_is_named(plain: Machine) -> None:
    (plain.root / "dev").mkdir()
    (plain.root / "dev/isgx").touch()
    assert "/dev/isgx" in find(plain, "sgx_enclave").detail


def test_a_file_in_the_device_nodes_place_is_a_fault(plain: Machine) -> None:
    (plain.root / "dev").mkdir()
    (plain.root / "dev/sgx_enclave").touch()
    check = find(plain, "sgx_enclave")
    assert check.state is State.MISSING
    assert "no device node" in check.detail


def test_this_machine_can_be_checked() -> None:

    assert {entry.name for entry in check_machine(Machine.this())} >= {
        "architecture",
        "sgx",
        "aesm",
    }
