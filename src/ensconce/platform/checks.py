# SPDX-License-Identifier: Apache-2.0
"""What this machine has for enclaves, what is missing, and how to mend it."""

import os
import platform as system
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ensconce import _core
from ensconce.isa.cpuid import CpuidFeatures, Registers, SgxCpuid

__all__ = ["Check", "Machine", "State", "check_machine", "sgx_leaf"]

KERNEL_DEVICES = ("/dev/sgx_enclave", "/dev/sgx_provision")
OLD_DEVICES = ("/dev/sgx/enclave", "/dev/isgx")
AESM_SOCKET = "/var/run/aesmd/aesm.socket"


class State(Enum):
    """What a check found; only MISSING needs a mend before enclaves run."""

    OK = "ok"
    ABSENT = "absent"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One fact of the machine, and its mend where it is not as it should be."""

    name: str
    state: State
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the facts come from; tests give their own."""

    root: Path
    cpuid: Callable[[int, int], Registers]
    capabilities: Mapping[str, bool]
    xcr0: int
    architecture: str
    kernel: str

    @classmethod
    def this(cls) -> "Machine":
        """Return the machine that this process runs on."""
        return cls(
            Path("/"),
            _core.cpuid,
            _core.capabilities(),
            _core.xcr0(),
            system.machine(),
            system.release(),
        )

    def path(self, absolute: str) -> Path:
        """Return an absolute path as it lies under this machine's root."""
        return self.root / absolute.lstrip("/")


def check_machine(machine: Machine) -> list[Check]:
    """Return every check, those that the emulated processor needs first."""
    return [
        _architecture(machine),
        _fsgsbase(machine),
        _system_calls(machine),
        _cpuid_faulting(machine),
        _xsave(machine),
        _sgx(machine),
        _epc(machine),
        *_devices(machine),
        _aesm(machine),
    ]


def _architecture(machine: Machine) -> Check:
    if machine.architecture == "x86_64":
        return Check("architecture", State.OK, f"x86_64, Linux {machine.kernel}")
    return Check(
        "architecture",
        State.MISSING,
        machine.architecture,
        "enclaves are x86-64 code: use an x86-64 machine",
    )


def _fsgsbase(machine: Machine) -> Check:
    if machine.capabilities["fsgsbase"]:
        return Check("fsgsbase", State.OK, "user code may set FS and GS base")
    return Check(
        "fsgsbase",
        State.MISSING,
        "the processor or kernel keeps WRFSBASE from user code",
        "use Linux 5.9 or later without `nofsgsbase`; in QEMU give the guest a CPU model that has "
        "it, such as `-cpu max`",
    )


def _system_calls(machine: Machine) -> Check:
    if machine.capabilities["syscall_user_dispatch"]:
        return Check("syscall_user_dispatch", State.OK, "SYSCALL inside an enclave faults")
    return Check(
        "syscall_user_dispatch",
        State.ABSENT,
        "SYSCALL inside an emulated enclave reaches the kernel instead of faulting",
        "use Linux 5.11 or later",
    )


def _cpuid_faulting(machine: Machine) -> Check:
    if machine.capabilities["cpuid_faulting"]:
        return Check("cpuid_faulting", State.OK, "CPUID inside an enclave faults")
    return Check(
        "cpuid_faulting",
        State.ABSENT,
        "this processor can't make CPUID fault; LIMITATIONS.md says what that means",
    )


def _xsave(machine: Machine) -> Check:
    return Check("xcr0", State.OK, f"{machine.xcr0:#x}")


def sgx_leaf(cpuid: Callable[[int, int], Registers]) -> SgxCpuid | None:
    """Return CPUID leaf 12H where the processor has SGX."""
    if cpuid(0, 0)[0] < 0x12 or not cpuid(7, 0)[1] >> 2 & 1:
        return None
    leaf = SgxCpuid.read(cpuid)
    return leaf if CpuidFeatures.SGX1 in leaf.features else None


def _sgx(machine: Machine) -> Check:
    leaf = sgx_leaf(machine.cpuid)
    if leaf is None:
        return Check(
            "sgx",
            State.ABSENT,
            "no SGX processor here; enclaves run on the emulated one",
            "on an SGX machine, enable SGX (and flexible launch control) in the BIOS",
        )
    if not machine.cpuid(7, 0)[2] >> 30 & 1:
        return Check(
            "sgx",
            State.ABSENT,
            "SGX without flexible launch control, which Linux's driver needs",
            "enable flexible launch control in the BIOS",
        )
    names = [feature.name or "" for feature in leaf.features]
    return Check("sgx", State.OK, ", ".join(names))


def _epc(machine: Machine) -> Check:
    leaf = sgx_leaf(machine.cpuid)
    if leaf is None or not leaf.sections:
        return Check("epc", State.ABSENT, "no enclave page cache")
    sizes = ", ".join(f"{section.size >> 20} MiB" for section in leaf.sections)
    return Check("epc", State.OK, f"{leaf.epc_size >> 20} MiB in {len(leaf.sections)}: {sizes}")


def _devices(machine: Machine) -> Iterable[Check]:
    """Yield a check for each device node of the kernel's driver."""
    old = [name for name in OLD_DEVICES if machine.path(name).exists()]
    for name in KERNEL_DEVICES:
        short = name.removeprefix("/dev/")
        path = machine.path(name)
        if not path.exists():
            mend = "load the kernel's own SGX driver: Linux 5.11 or later with CONFIG_X86_SGX"
            mend = mend if sgx_leaf(machine.cpuid) else ""
            found = f"; found the out-of-tree driver's {old[0]}" if old else ""
            yield Check(short, State.ABSENT, f"no {name}{found}", mend)
        elif not stat.S_ISCHR(path.stat().st_mode):
            yield Check(short, State.MISSING, f"{name} is no device node", f"remove {name}")
        elif not os.access(path, os.R_OK | os.W_OK):
            group = "sgx_prv" if short == "sgx_provision" else "sgx"
            yield Check(
                short, State.MISSING, f"{name} can't be opened", f"join the group `{group}`"
            )
        else:
            yield Check(short, State.OK, name)


def _aesm(machine: Machine) -> Check:
    path = machine.path(AESM_SOCKET)
    if path.is_socket():
        return Check("aesm", State.OK, AESM_SOCKET)
    return Check("aesm", State.ABSENT, f"no {AESM_SOCKET}; only quotes by a daemon need it")
