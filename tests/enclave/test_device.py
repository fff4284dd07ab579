# SPDX-License-Identifier: Apache-2.0
"""Choosing a device, and what is said where there is none."""

import errno
from pathlib import Path

import pytest

from ensconce.enclave import KernelDevice, default_device, emulated_device
from ensconce.enclave.device import dynamic_memory
from ensconce.errors import ConfigError, DeviceError
from ensconce.isa.cpuid import CpuidFeatures
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor


def test_a_machine_without_the_driver_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="does not exist: this machine has no SGX") as caught:
        KernelDevice(tmp_path / "sgx_enclave")
    assert caught.value.errno == errno.ENOENT


def test_the_environment_chooses_the_backend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENSCONCE_PLATFORM", str(tmp_path / "private" / "platform"))
    monkeypatch.setenv("ENSCONCE_BACKEND", "emulated")
    device = default_device()
    assert device.name == "emulated"
    device.close()
    monkeypatch.setenv("ENSCONCE_BACKEND", "imaginary")
    with pytest.raises(ConfigError, match="ENSCONCE_BACKEND is 'imaginary'"):
        default_device()


def test_an_argument_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENSCONCE_PLATFORM", str(tmp_path / "private" / "platform"))
    monkeypatch.setenv("ENSCONCE_BACKEND", "imaginary")
    device = default_device("emulated")
    assert device.name == "emulated"
    device.close()


def test_dynamic_memory_takes_processor_and_driver(processor: Processor) -> None:
    device = DriverModel(processor)
    assert dynamic_memory(device)
    device.close()
    old = Processor(Identity.generate(), epc_size=1 << 20)
    old.cpuid = type(old.cpuid)(
        CpuidFeatures.SGX1,
        old.cpuid.misc_select,
        old.cpuid.max_enclave_size_not64,
        old.cpuid.max_enclave_size_64,
        old.cpuid.attributes,
        old.cpuid.sections,
    )
    assert not dynamic_memory(DriverModel(old))


def test_an_emulated_device_has_the_epc_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENSCONCE_PLATFORM", str(tmp_path / "private" / "platform"))
    device = emulated_device(epc_size=3 << 20)
    assert device.cpuid.epc_size == 3 << 20
    device.close()
    with pytest.raises(ConfigError, match="an EPC of 1000 bytes can't be"):
        emulated_device(epc_size=1000)


def test_python_hosts_in_a_container_of_an_emulated_node_are_told_what_they_can_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ensconce.enclave.device.ENCLAVE_NODE", "/nowhere")
    monkeypatch.delenv("ENSCONCE_BACKEND", raising=False)
    monkeypatch.setenv("ENSCONCE_SERVICE_WAIT", "30")
    with pytest.raises(ConfigError, match="belong on its node's emulated platform"):
        default_device()
    monkeypatch.setenv("ENSCONCE_BACKEND", "emulated")
    assert default_device().name == "emulated"
