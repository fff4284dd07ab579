# SPDX-License-Identifier: Apache-2.0
"""A model of Linux's SGX driver over the emulated processor: one open file of /dev/sgx_enclave.

The same ioctls, argument checks and errno values as arch/x86/kernel/cpu/sgx of Linux 6, the same
page-fault handling. What differs: pages that are added unmeasured and zero take EPC when first
touched, and so do their version array slots; a mapping enters all present pages at once.
"""

import errno
import os
from collections.abc import Callable
from threading import Lock

from ensconce import _core
from ensconce.errors import DeviceError, Fault, FormatError
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.cpuid import SgxCpuid
from ensconce.isa.record import Record
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.machine import uapi
from ensconce.machine.address_space import OWN_PROCESS, AddressSpace
from ensconce.machine.driver_add import add_pages
from ensconce.machine.driver_build import UNPRIVILEGED, create, init
from ensconce.machine.driver_dynamic import (
    Progress,
    modify_types,
    remove_pages,
    restrict_permissions,
)
from ensconce.machine.driver_enclave import RWX, DriverEnclave, Statistics, refusal
from ensconce.machine.encls_debug import edbgrd
from ensconce.machine.processor import Processor
from ensconce.machine.runs import RunMap
from ensconce.machine.secs_page import SecsPage

__all__ = ["DriverModel"]

_PROVISIONKEY = int(AttributeFlags.PROVISIONKEY)
_WORD = 8


class DriverModel:
    """One open file of the driver, and so one enclave.

    `provision` says whether whoever opened it may open /dev/sgx_provision too, `space` whose
    threads enter the enclave. Every refusal of
    the kernel's is an OSError with its number. Any thread may call; two ioctls at a time are
    EBUSY, as in the kernel.
    """

    name = "emulated"

    def __init__(
        self,
        processor: Processor,
        *,
        provision: bool = False,
        space: AddressSpace = OWN_PROCESS,
    ) -> None:
        self.processor = processor
        self.space = space
        self.enter_address = _core.emulated_enter_address()
        self._may_provision = provision
        self._provision_file = -1
        self._attributes = UNPRIVILEGED
        self._enclave: DriverEnclave | None = None
        self._areas = RunMap()
        self._reserved: tuple[int, int] | None = None
        self._ioctl = Lock()
        self._closed = False

    @property
    def cpuid(self) -> SgxCpuid:
        """The emulated processor's CPUID leaf 12H."""
        return self.processor.cpuid

    @property
    def enclave(self) -> SecsPage | None:
        """The enclave as the processor has it, None before CREATE and after close."""
        return self._enclave.secs if self._enclave else None

    @property
    def statistics(self) -> Statistics:
        """What the driver has done for this enclave so far."""
        return self._enclave.statistics if self._enclave else Statistics()

    @property
    def epc_pages(self) -> int:
        """The enclave's pages in the EPC now, its SECS and version arrays not counted."""
        return self._enclave.secs.resident if self._enclave else 0

    def reserve(self, size: int, base: int | None = None) -> int:
        """Reserve an ELRANGE of `size` bytes, a power of two; return its address."""
        if base is not None:
            raise DeviceError(f"an ELRANGE at the fixed address {base:#x} can't be reserved yet")
        self._reserved = (self.space.reserve(size), size)
        return self._reserved[0]

    def ioctl(self, request: int, argument: bytearray) -> int:
        """Carry out an ioctl and write its argument back. Returns 0; raises OSError."""
        handler = _IOCTLS.get(request)
        if not self._ioctl.acquire(blocking=False):
            raise refusal(errno.EBUSY)
        try:
            if self._closed:
                raise refusal(errno.EBADF)
            if handler is None:
                raise refusal(errno.ENOTTY)
            return handler(self, argument)
        except FormatError as error:
            raise refusal(errno.EFAULT, str(error)) from error
        finally:
            self._ioctl.release()

    def provision(self) -> int:
        """Return the descriptor that PROVISION takes. Raises DeviceError EACCES."""
        if not self._may_provision:
            raise DeviceError(
                "this user may not open the emulated /dev/sgx_provision; allow provisioning "
                "where the device is made",
                errno=errno.EACCES,
            )
        if self._provision_file < 0:
            self._provision_file = os.memfd_create("sgx_provision", os.MFD_CLOEXEC)
        return self._provision_file

    # --- ioctls

    def _create(self, argument: bytearray) -> int:
        if self._enclave is not None:
            raise refusal(errno.EINVAL, "the enclave is created already")
        request = uapi.EnclaveCreate.parse(argument)
        self._enclave = create(self.processor, request, self._areas, self._reserved, self.space)
        return 0

    def _add_pages(self, argument: bytearray) -> int:
        enclave = self._created()
        if enclave.secs.initialized:
            raise refusal(errno.EINVAL, "the enclave is initialised already")
        request = uapi.EnclaveAddPages.parse(argument)
        done, stopped = add_pages(enclave, request)
        _write(argument, uapi.EnclaveAddPages, count=done)
        if stopped is not None:
            raise stopped
        return 0

    def _init(self, argument: bytearray) -> int:
        enclave = self._created()
        if enclave.secs.initialized:
            raise refusal(errno.EINVAL, "the enclave is initialised already")
        init(enclave, uapi.EnclaveInit.parse(argument), self._attributes)
        return 0

    def _provision(self, argument: bytearray) -> int:
        request = uapi.EnclaveProvision.parse(argument)
        if self._provision_file < 0 or request.fd != self._provision_file:
            raise refusal(errno.EINVAL, "not a descriptor of /dev/sgx_provision")
        self._attributes |= _PROVISIONKEY
        return 0

    def _restrict_permissions(self, argument: bytearray) -> int:
        request = uapi.EnclaveRestrictPermissions.parse(argument)
        progress = restrict_permissions(self._initialized(), request)
        return _report(argument, uapi.EnclaveRestrictPermissions, progress)

    def _modify_types(self, argument: bytearray) -> int:
        request = uapi.EnclaveModifyTypes.parse(argument)
        progress = modify_types(self._initialized(), request)
        return _report(argument, uapi.EnclaveModifyTypes, progress)

    def _remove_pages(self, argument: bytearray) -> int:
        request = uapi.EnclaveRemovePages.parse(argument)
        done, _, stopped = remove_pages(self._initialized(), request)
        _write(argument, uapi.EnclaveRemovePages, count=done)
        if stopped is not None:
            raise stopped
        return 0

    def _created(self) -> DriverEnclave:
        """Return the enclave. Raises OSError EINVAL before CREATE."""
        if self._enclave is None:
            raise refusal(errno.EINVAL, "the enclave is not created yet")
        return self._enclave

    def _initialized(self) -> DriverEnclave:
        """Return the enclave. Raises OSError EINVAL before INIT."""
        enclave = self._created()
        if not enclave.secs.initialized:
            raise refusal(errno.EINVAL, "the enclave is not initialised yet")
        return enclave

    # --- mappings

    def mmap(self, address: int, length: int, protection: int) -> None:
        """Map pages at their place in ELRANGE. Raises OSError EINVAL, EACCES."""
        self._area(address, length, protection, new=True)

    def mprotect(self, address: int, length: int, protection: int) -> None:
        """Change the protection of mapped pages. Raises OSError EINVAL, ENOMEM, EACCES."""
        self._area(address, length, protection, new=False)

    def munmap(self, address: int, length: int) -> None:
        """Unmap pages; ELRANGE stays reserved. Raises OSError EINVAL."""
        first, end = _pages(address, length)
        with self.processor.lock:
            self._areas.put(first, end, None)
            if self._enclave is not None:
                self._enclave.map_resident(*self._within(first, end), None)

    def _area(self, address: int, length: int, protection: int, *, new: bool) -> None:
        """Check a mapping against every page's maximum and put it in force."""
        first, end = _pages(address, length)
        if protection & ~RWX:
            raise refusal(errno.EINVAL, f"protection {protection:#x}")
        with self.processor.lock:
            if not new and any(area is None for _, _, area in self._areas.spans(first, end)):
                raise refusal(errno.ENOMEM, "not all of the range is mapped")
            enclave = self._enclave
            if enclave is not None:
                low, high = self._within(first, end)
                outside = high - low != end - first
                if outside and enclave.secs.initialized:
                    raise refusal(errno.EACCES, "the range reaches out of the enclave")
                if not enclave.may_map(low, high, protection):
                    raise refusal(errno.EACCES, "a page was added with less permission")
            self._areas.put(first, end, protection)
            if enclave is not None:
                enclave.map_resident(low, high, protection)

    def _within(self, first: int, end: int) -> tuple[int, int]:
        """Return the part of a range of address-space pages that is in ELRANGE, by its pages."""
        secs = self._created().secs
        base, limit = secs.base // PAGE_SIZE, secs.size // PAGE_SIZE
        low = min(max(first - base, 0), limit)
        return low, min(max(end - base, low), limit)

    # --- what the kernel does besides

    def debug_read(self, address: int, length: int) -> bytes:
        """Read a debug enclave's memory, as ptrace would. Raises OSError EFAULT, EIO."""
        enclave = self._created()
        if not enclave.secs.debug:
            raise refusal(errno.EFAULT, "the enclave does not allow debugging")
        out = bytearray()
        start = address // _WORD * _WORD
        for word in range(start, address + length, _WORD):
            if not enclave.secs.holds(word) or not enclave.load(enclave.secs.page(word)):
                raise refusal(errno.EFAULT, f"the enclave has no page at {word:#x}")
            try:
                out += edbgrd(self.processor, enclave.secs, word).to_bytes(_WORD, "little")
            except Fault as fault:
                raise refusal(errno.EIO, str(fault)) from fault
        return bytes(out[address - start : address - start + length])

    def lose(self) -> None:
        """Go through a power transition: every enclave of the processor is lost."""
        self.processor.lose()

    def close(self) -> None:
        """Close the file: the enclave is gone. Raises DeviceError while a thread is inside."""
        if self._closed:
            return
        if self._enclave is not None:
            try:
                self._enclave.release()
            except Fault as fault:
                raise DeviceError(
                    "an enclave can't be freed while a thread is inside it; let its calls end",
                    errno=errno.EBUSY,
                ) from fault
            self._enclave.secs.close()
            self._enclave = None
        self._closed = True
        if self._reserved is not None:
            self.space.release(*self._reserved)
            self._reserved = None
        if self._provision_file >= 0:
            os.close(self._provision_file)
            self._provision_file = -1


_IOCTLS: dict[int, Callable[[DriverModel, bytearray], int]] = {
    uapi.CREATE: DriverModel._create,
    uapi.ADD_PAGES: DriverModel._add_pages,
    uapi.INIT: DriverModel._init,
    uapi.PROVISION: DriverModel._provision,
    uapi.RESTRICT_PERMISSIONS: DriverModel._restrict_permissions,
    uapi.MODIFY_TYPES: DriverModel._modify_types,
    uapi.REMOVE_PAGES: DriverModel._remove_pages,
}


def _pages(address: int, length: int) -> tuple[int, int]:
    """Return a range of addresses as pages. Raises OSError EINVAL."""
    if address % PAGE_SIZE or length <= 0 or address < 0:
        raise refusal(errno.EINVAL, f"{length:#x} bytes at {address:#x}")
    return address // PAGE_SIZE, -(-(address + length) // PAGE_SIZE)


def _write(argument: bytearray, kind: type[Record], **fields: int) -> None:
    """Write 64-bit fields back into an ioctl's argument."""
    for name, value in fields.items():
        at = kind.offset_of(name)
        argument[at : at + _WORD] = value.to_bytes(_WORD, "little")


def _report(argument: bytearray, kind: type[Record], progress: Progress) -> int:
    """Write a request's result and count back, and raise what stopped it."""
    done, result, stopped = progress
    _write(argument, kind, result=result, count=done)
    if stopped is not None:
        raise stopped
    return 0
