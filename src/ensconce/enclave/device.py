# SPDX-License-Identifier: Apache-2.0
"""The seam between real and emulated SGX: what Linux offers through /dev/sgx_enclave and its vDSO.

A device is one open file of the driver, and so one enclave. What it refuses is an `OSError` with
the kernel's number; what an ioctl returns beyond 0 is an SGX error code.
"""

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from ensconce import _core
from ensconce.errors import ConfigError, DeviceError
from ensconce.isa.cpuid import CpuidFeatures, SgxCpuid
from ensconce.machine import uapi
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import load_or_create
from ensconce.machine.processor import Processor

__all__ = [
    "Device",
    "KernelDevice",
    "chosen_backend",
    "default_device",
    "dynamic_memory",
    "emulated_device",
]

ENCLAVE_NODE = Path("/dev/sgx_enclave")
PROVISION_NODE = Path("/dev/sgx_provision")

_SGX_FEATURE = 1 << 2  # CPUID.07H:EBX
_PROT_NONE = 0
_MAP_PRIVATE_FIXED_ANONYMOUS = 0x02 | 0x10 | 0x20 | 0x4000  # and NORESERVE

_OPEN_FAULTS = {
    errno.ENOENT: "does not exist: this machine has no SGX, or its kernel no driver (Linux 5.11 "
    "or later with CONFIG_X86_SGX, and SGX enabled in the firmware); use the emulated backend",
    errno.ENODEV: "is there and the processor's SGX is off; enable it in the firmware",
    errno.EACCES: "may not be opened by this user; join its group, usually `sgx`",
    errno.EPERM: "may not be opened in this container; pass the device to it",
}


class Device(Protocol):
    """One open file of the SGX driver; both backends are this."""

    @property
    def name(self) -> str:
        """`hardware` or `emulated`."""

    @property
    def cpuid(self) -> SgxCpuid:
        """The processor's CPUID leaf 12H."""

    @property
    def enter_address(self) -> int:
        """The address of the function that enters enclaves, with the vDSO's ABI."""

    def reserve(self, size: int, base: int | None = None) -> int:
        """Reserve an ELRANGE of `size` bytes, a power of two; return its address."""

    def ioctl(self, request: int, argument: bytearray) -> int:
        """Carry out an ioctl, whose argument is read and written in place."""

    def mmap(self, address: int, length: int, protection: int) -> None:
        """Map pages of the enclave at their place in ELRANGE."""

    def munmap(self, address: int, length: int) -> None:
        """Unmap pages of ELRANGE, which stays reserved."""

    def mprotect(self, address: int, length: int, protection: int) -> None:
        """Change the protection of mapped pages."""

    def provision(self) -> int:
        """Return the descriptor that SGX_IOC_ENCLAVE_PROVISION takes, for the device to close."""

    def debug_read(self, address: int, length: int) -> bytes:
        """Read a debug enclave's memory, as a debugger would."""

    def close(self) -> None:
        """Close the file and free ELRANGE: the enclave is gone."""


class KernelDevice:
    """The Linux driver."""

    name = "hardware"

    def __init__(self, node: Path = ENCLAVE_NODE, provision_node: Path = PROVISION_NODE) -> None:
        self._provision_node = provision_node
        self._provision = -1
        self._base = self._size = 0
        self.enter_address = _core.vdso_enter_address()
        self._file = _open(node)
        if not self.enter_address:
            self.close()
            raise DeviceError(
                "this kernel has no __vdso_sgx_enter_enclave; it takes Linux 5.11 or later "
                "with CONFIG_X86_SGX"
            )
        self.cpuid = SgxCpuid.read(_core.cpuid)

    def reserve(self, size: int, base: int | None = None) -> int:
        """Reserve an ELRANGE; see `Device`."""
        if base is not None:
            raise DeviceError(f"an ELRANGE at the fixed address {base:#x} can't be reserved yet")
        self._base, self._size = _core.reserve(size), size
        return self._base

    def ioctl(self, request: int, argument: bytearray) -> int:
        """Carry out an ioctl; see `Device`."""
        return int(fcntl.ioctl(self._file, request, argument, True))  # noqa: FBT003

    def mmap(self, address: int, length: int, protection: int) -> None:
        """Map pages; see `Device`."""
        _core.map_device(self._file, address, length, protection, 0)

    def munmap(self, address: int, length: int) -> None:
        """Unmap pages; see `Device`."""
        mapped = _libc("mmap")(address, length, _PROT_NONE, _MAP_PRIVATE_FIXED_ANONYMOUS, -1, 0)
        _check(failed=mapped == ctypes.c_void_p(-1).value)

    def mprotect(self, address: int, length: int, protection: int) -> None:
        """Change protection; see `Device`."""
        _check(failed=_libc("mprotect")(address, length, protection) != 0)

    def provision(self) -> int:
        """Return the descriptor of /dev/sgx_provision; see `Device`."""
        if self._provision < 0:
            self._provision = _open(self._provision_node)
        return self._provision

    def debug_read(self, address: int, length: int) -> bytes:
        """Read a debug enclave's memory; see `Device`."""
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(length)

    def close(self) -> None:
        """Close; see `Device`."""
        if self._size:
            _core.release(self._base, self._size)
            self._size = 0
        for file in (self._file, self._provision):
            if file >= 0:
                os.close(file)
        self._file = self._provision = -1


def _open(node: Path) -> int:
    """Open one of the driver's nodes."""
    try:
        return os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        number = error.errno or 0
        text = _OPEN_FAULTS.get(number, f"can't be opened: {error.strerror}")
        raise DeviceError(f"{node} {text}", errno=number) from error


def dynamic_memory(device: Device) -> bool:
    """Return whether processor and driver can change pages at run time (SGX2, Linux 6.0)."""
    if not device.cpuid.features & CpuidFeatures.SGX2:
        return False
    try:
        device.ioctl(uapi.RESTRICT_PERMISSIONS, bytearray(uapi.EnclaveRestrictPermissions.SIZE))
    except OSError as error:
        return error.errno not in (errno.ENOTTY, errno.ENODEV)
    return True


def chosen_backend(backend: str = "") -> str:
    """Return `hardware` or `emulated`, as asked for or as this machine is.

    Without an argument the environment's ENSCONCE_BACKEND decides; without that the kernel's
    driver if it can be opened, else the emulated processor.
    """
    backend = backend or os.environ.get("ENSCONCE_BACKEND", "")
    if backend not in ("", "hardware", "emulated"):
        raise ConfigError(
            f"ENSCONCE_BACKEND is {backend!r}; it can be `hardware`, `emulated` or unset"
        )
    return backend or ("hardware" if os.access(ENCLAVE_NODE, os.R_OK | os.W_OK) else "emulated")


def default_device(backend: str = "") -> Device:
    """Return the device for a new enclave, on the backend that `chosen_backend` names.

    Raises ConfigError in a container of an emulated node where nobody has chosen: a processor in
    this process would be another platform than the node's, without its EPC limit.
    """
    chosen = backend or os.environ.get("ENSCONCE_BACKEND", "")
    if chosen_backend(backend) == "hardware":
        return KernelDevice()
    if not chosen and os.environ.get("ENSCONCE_SERVICE_WAIT"):
        raise ConfigError(
            "enclaves of this container belong on its node's emulated platform, which Python hosts "
            "can't reach, only C and C++ ones; set ENSCONCE_BACKEND=emulated for a processor of "
            "this process's own, whose enclaves the node's AESM does not quote"
        )
    return emulated_device()


def emulated_device(*, epc_size: int | None = None) -> DriverModel:
    """Return a device of the emulated processor for a new enclave.

    With `epc_size`, in bytes, it belongs to a processor of its own with that much EPC, on the same
    platform: what was sealed opens there too. Its `lose()` is a power transition.
    """
    if epc_size is None:
        return DriverModel(_processor())
    return DriverModel(Processor(load_or_create(), epc_size=epc_size))


@cache
def _processor() -> Processor:
    """Return this process's emulated processor, whose platform is the user's own."""
    return Processor(load_or_create())


def _check(*, failed: bool) -> None:
    """Raise the OSError that a C function left in errno."""
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _libc(name: str) -> Callable[..., int]:
    """Return a function of the C library with the types it takes."""
    function: Any = getattr(ctypes.CDLL(None, use_errno=True), name)
    word, number = ctypes.c_size_t, ctypes.c_int
    function.argtypes = {
        "mmap": (word, word, number, number, number, ctypes.c_long),
        "mprotect": (word, word, number),
    }[name]
    function.restype = ctypes.c_void_p if name == "mmap" else number
    return cast(Callable[..., int], function)
