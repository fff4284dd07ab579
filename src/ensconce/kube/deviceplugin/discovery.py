# SPDX-License-Identifier: Apache-2.0
"""What SGX a node has: its EPC sections and the driver's device nodes, or an emulated platform.

The kernel says how much EPC each NUMA node has (`x86/sgx_total_bytes`, Linux 5.17); older kernels
say nothing, and there the processor's leaf 12H counts. Everything is read below one root folder.
"""

import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ensconce import _core
from ensconce.isa.cpuid import Registers, SgxCpuid
from ensconce.kube.deviceplugin.config import MIB, Config
from ensconce.kube.deviceplugin.enforcement import MiscCgroup
from ensconce.kube.names import Platform
from ensconce.platform.checks import sgx_leaf

__all__ = ["DeviceNode", "Inventory", "Section", "discover", "discover_here"]

_NODES = "sys/devices/system/node"
_TOTAL = "x86/sgx_total_bytes"
_LARGEST_TEXT = 64
_SPARE = 100
# in the order in which the vendor's plugin gives them; an alias is another path in the container
_ENCLAVE_PATHS = ("/dev/isgx", "/dev/sgx", "/dev/sgx_enclave", "/dev/sgx/enclave")
_PROVISION_PATHS = ("/dev/sgx_provision", "/dev/sgx/provision")
_OTHER_PATHS = ("/dev/gsgx",)


@dataclass(frozen=True, slots=True)
class Section:
    """Some EPC in bytes, and the NUMA node it lies on, None where nothing says."""

    size: int
    node: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A driver's device node: its path in a container, its path on the host, what it is for."""

    path: str
    host_path: str
    provision: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What a node has. `fault` says in one sentence why enclaves can't run, empty if they can.

    `reason` is the same as one word in CamelCase. `exhausted`: all EPC is in use, whoever asked for
    how much of it.
    """

    platform: Platform
    sections: tuple[Section, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    reason: str = "Ready"
    fault: str = ""
    exhausted: bool = False

    @property
    def size(self) -> int:
        """The bytes of EPC in all sections together."""
        return sum(section.size for section in self.sections)

    @property
    def healthy(self) -> bool:
        """Whether enclaves can run."""
        return not self.fault


def discover(config: Config, cpuid: Callable[[int, int], Registers] | None) -> Inventory:
    """Return what the node has; `cpuid(leaf, subleaf)` is its processor, None for none to ask."""
    if config.platform != Platform.EMULATED:
        leaf = sgx_leaf(cpuid) if cpuid else None
        sections = _sections(config.root, leaf)
        devices = tuple(_device_nodes(config.root))
        if sections or devices or config.platform == Platform.SGX:
            reason, fault = _fault(config.root, sections, devices)
            return Inventory(
                platform=Platform.SGX,
                sections=sections,
                devices=devices,
                reason=reason,
                fault=fault,
                exhausted=_is_exhausted(config.root),
            )
        if config.platform == Platform.NONE or not config.emulated_mib:
            return Inventory(
                platform=Platform.NONE,
                reason="NoSgx",
                fault="the processor has no SGX and no emulated platform is configured here; "
                "enable SGX in the BIOS, or set emulated_mib",
            )
    return Inventory(platform=Platform.EMULATED, sections=emulated_sections(config))


def discover_here(config: Config) -> Inventory:
    """Return what this machine has; below another root folder its processor counts for nothing."""
    return discover(config, _core.cpuid if config.root == Path("/") else None)


def emulated_sections(config: Config) -> tuple[Section, ...]:
    """Return an emulated platform's EPC, shared evenly by its NUMA nodes in whole MiB."""
    count = config.emulated_numa_nodes
    each, rest = divmod(config.emulated_mib, count)
    sizes = [(each + (index < rest)) * MIB for index in range(count)]
    return tuple(Section(size, index) for index, size in enumerate(sizes) if size)


def _sections(root: Path, leaf: SgxCpuid | None) -> tuple[Section, ...]:
    """Return the EPC sections by the kernel, else by the processor."""
    found = sorted(_kernel_sections(root / _NODES))
    if found:
        return tuple(Section(size, node) for node, size in found if size)
    return tuple(Section(section.size) for section in leaf.sections) if leaf else ()


def _kernel_sections(folder: Path) -> Iterable[tuple[int, int]]:
    """Yield each NUMA node's number and bytes of EPC."""
    for path in folder.glob(f"node*/{_TOTAL}"):
        number = path.parent.parent.name.removeprefix("node")
        try:
            with path.open("rb") as file:
                text = file.read(_LARGEST_TEXT).strip()
        except OSError:
            continue  # gone since the folder was listed
        if number.isdecimal() and text.isdigit():
            yield int(number), int(text)


def _is_exhausted(root: Path) -> bool:
    """Return whether all but a hundredth of the EPC is in use, where the kernel counts it."""
    cgroup = MiscCgroup.find(root)
    return cgroup is not None and cgroup.used > cgroup.capacity - cgroup.capacity // _SPARE


def _device_nodes(root: Path) -> Iterable[DeviceNode]:
    """Yield the driver's device nodes that are there, the vendor's two further paths included."""
    seen = set()
    for path in (*_ENCLAVE_PATHS, *_PROVISION_PATHS, *_OTHER_PATHS):
        host = root / path.lstrip("/")
        if not _is_device(host):
            continue
        provision = path in _PROVISION_PATHS
        aliases = {
            "/dev/sgx_enclave": "/dev/sgx/enclave",
            "/dev/sgx_provision": "/dev/sgx/provision",
        }
        for inside in (path, aliases.get(path)):
            if inside and inside not in seen:
                seen.add(inside)
                yield DeviceNode(inside, str(host), provision)


def _is_device(path: Path) -> bool:
    """Return whether a path is a character device."""
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def _fault(
    root: Path, sections: tuple[Section, ...], devices: tuple[DeviceNode, ...]
) -> tuple[str, str]:
    """Return why enclaves can't run on this hardware, as a word and as a sentence."""
    enclave = next((device for device in devices if not device.provision), None)
    if enclave is None:
        blocking = next((path for path in _ENCLAVE_PATHS[2:3] if (root / path[1:]).exists()), None)
        if blocking:
            return "DriverMissing", f"{blocking} is no device node; remove it and load the driver"
        return (
            "DriverMissing",
            "there is EPC and no device node of the SGX driver (/dev/sgx_enclave); "
            "use Linux 5.11 or later with CONFIG_X86_SGX",
        )
    if not sections:
        return "NoEpc", "the SGX driver is here and there is no EPC; enable SGX in the BIOS"
    if not os.access(enclave.host_path, os.R_OK | os.W_OK, effective_ids=True):
        return (
            "DriverRefuses",
            f"{enclave.host_path} can't be opened; let the plugin's user read and write it",
        )
    return "Ready", ""
