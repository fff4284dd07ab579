# SPDX-License-Identifier: Apache-2.0
"""Dynamic memory (SGX2): what the vendor's trusted runtime asks of the host at run time.

Two OCALLs with negative numbers: ALLOC maps a range, so that touching it adds pages; MODIFY
changes permissions or types of pages, which the enclave then accepts. The answer is 0, or a
number that makes the runtime fail.
"""

import errno
import struct
from collections.abc import Callable
from enum import IntEnum

from ensconce.enclave.device import Device
from ensconce.enclave.ocalls import Frame
from ensconce.errors import OcallError
from ensconce.isa.record import Record
from ensconce.isa.secinfo import PageType, page_type
from ensconce.machine import uapi

__all__ = ["BuiltinOcall", "DynamicMemory"]

_READ, _WRITE = 1, 2
_PERMISSIONS = 7
_FAILED = 1


class BuiltinOcall(IntEnum):
    """The trusted runtime's own OCALLs; the first four belong to runtimes of another driver."""

    TRIM = -2
    TRIM_COMMIT = -3
    MODPR = -4
    MPROTECT = -5
    ALLOC = -6
    MODIFY = -7


# retval, address, size, then page properties and flags, or properties before and after
_REQUEST = struct.Struct("<i4xQQII")


class DynamicMemory:
    """The pages of one enclave that change while it runs; `base` is ELRANGE's address."""

    def __init__(self, device: Device, base: int, size: int) -> None:
        self._device = device
        self._base = base
        self._size = size

    def ocall(self, number: int, frame: Frame, ms: int) -> None:
        """Answer one of the runtime's own OCALLs."""
        if number not in (BuiltinOcall.ALLOC, BuiltinOcall.MODIFY):
            raise OcallError(
                f"the enclave asked for OCALL {number}, which is for a driver older than "
                "Linux 5.11; build it with SDK 2.18 or later"
            )
        view = frame.inside(ms, _REQUEST.size)
        _, address, size, first, second = _REQUEST.unpack(view)
        try:
            self._check(address, size)
            if number == BuiltinOcall.ALLOC:
                self._device.mmap(address, size, _READ | _WRITE)
            else:
                self._modify(address, size, first, second)
        except (OSError, ValueError):
            struct.pack_into("<i", view, 0, _FAILED)
        else:
            struct.pack_into("<i", view, 0, 0)
        finally:
            view.release()

    def _check(self, address: int, size: int) -> None:
        """Refuse a range that is not the enclave's."""
        if not self._base <= address <= address + size <= self._base + self._size:
            raise ValueError("outside ELRANGE")

    def _modify(self, address: int, size: int, before: int, after: int) -> None:
        """Change the type or the permissions of pages as the runtime's memory manager asks."""
        old, new = page_type(before), page_type(after)
        permissions = after & _PERMISSIONS
        if old == PageType.TRIM:
            if new != PageType.TRIM:
                raise ValueError("a trimmed page stays trimmed")
            self._remove(address, size)
            if not permissions:
                self._device.mprotect(address, size, 0)
        elif new != old:
            if permissions != before & _PERMISSIONS and new != PageType.TCS:
                raise ValueError("type and permissions can't change at once")
            self._set_type(address, size, new)
        elif permissions != before & _PERMISSIONS:
            self._restrict(address, size, permissions)
            if permissions:
                self._device.mprotect(address, size, permissions)
        elif not permissions:
            self._device.mprotect(address, size, 0)

    def _set_type(self, address: int, size: int, kind: int) -> None:
        """Make pages TCS pages, or trim them."""
        self._repeat(
            uapi.MODIFY_TYPES,
            address,
            size,
            lambda offset, length: uapi.EnclaveModifyTypes(offset, length, kind),
        )

    def _restrict(self, address: int, size: int, permissions: int) -> None:
        """Take permissions from pages."""
        self._repeat(
            uapi.RESTRICT_PERMISSIONS,
            address,
            size,
            lambda offset, length: uapi.EnclaveRestrictPermissions(offset, length, permissions),
        )

    def _remove(self, address: int, size: int) -> None:
        """Free trimmed pages that the enclave has accepted."""
        self._repeat(
            uapi.REMOVE_PAGES, address, size, lambda at, length: uapi.EnclaveRemovePages(at, length)
        )

    def _repeat(
        self, request: int, address: int, size: int, make: Callable[[int, int], Record]
    ) -> None:
        """Carry a request out until all of a range is done; the driver may do it in parts."""
        offset, end = address - self._base, address - self._base + size
        while offset < end:
            argument = bytearray(bytes(make(offset, end - offset)))
            try:
                self._device.ioctl(request, argument)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR):
                    raise
            offset += int.from_bytes(argument[-8:], "little")
