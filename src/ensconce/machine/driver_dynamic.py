# SPDX-License-Identifier: Apache-2.0
"""The driver's ioctls of SGX2: RESTRICT_PERMISSIONS, MODIFY_TYPES, REMOVE_PAGES (sgx/ioctl.c)."""

import errno
from collections.abc import Callable

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfo, SecInfoFlags
from ensconce.isa.ssa import Vector
from ensconce.machine import uapi
from ensconce.machine.driver_build import check_range
from ensconce.machine.driver_enclave import READ, WRITE, DriverEnclave, refusal
from ensconce.machine.encls_dynamic import emodpr, emodt
from ensconce.machine.epc import BLOCKED, PERMISSIONS, REG, TCS, TRIM, TYPE
from ensconce.machine.reclaim import shoot_down

__all__ = ["Progress", "modify_types", "remove_pages", "restrict_permissions"]

# bytes done, the SGX code of the leaf that refused, and what stopped it before the end
Progress = tuple[int, int, OSError | None]

_MOST = 64
_R, _W = int(SecInfoFlags.R), int(SecInfoFlags.W)
_ALL = SecInfo(SecInfoFlags(PERMISSIONS))


def restrict_permissions(
    enclave: DriverEnclave, request: uapi.EnclaveRestrictPermissions
) -> Progress:
    """SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS. Raises OSError EINVAL."""
    check_range(enclave, request.offset, request.length)
    permissions = request.permissions
    if permissions & ~PERMISSIONS or (permissions & _W and not permissions & _R):
        raise refusal(errno.EINVAL, f"permissions {permissions:#x}")
    if request.result or request.count:
        raise refusal(errno.EINVAL, "result and count must be zero")
    secinfo = SecInfo(SecInfoFlags(permissions))

    def restrict(page: int, entry: int) -> None:
        if entry & TYPE != REG:
            raise refusal(errno.EINVAL, "only regular pages have permissions")
        emodpr(enclave.cpu, enclave.secs, secinfo, enclave.secs.base + page * PAGE_SIZE)

    return _each(enclave, request.offset, request.length, restrict, track=True)


def modify_types(enclave: DriverEnclave, request: uapi.EnclaveModifyTypes) -> Progress:
    """SGX_IOC_ENCLAVE_MODIFY_TYPES. Raises OSError EINVAL."""
    check_range(enclave, request.offset, request.length)
    if request.page_type & ~0xFF or request.result or request.count:
        raise refusal(errno.EINVAL, "page_type has other bits, or result or count are not zero")
    if request.page_type not in (PageType.TCS, PageType.TRIM):
        return 0, 0, refusal(errno.EINVAL, f"a page can't become type {request.page_type}")
    kind = request.page_type << 8
    secinfo = SecInfo(SecInfoFlags(kind))

    def modify(page: int, entry: int) -> None:
        if entry & TYPE != REG and not (entry & TYPE == TCS and kind == TRIM):
            raise refusal(errno.EINVAL, f"a page of type {entry >> 8 & 0xFF} can't change to it")
        writable = (enclave.maximum.get(page) or 0) & (READ | WRITE) == READ | WRITE
        if kind == TCS and not writable:
            raise refusal(errno.EPERM, "a TCS needs a page that may be read and written")
        emodt(enclave.cpu, enclave.secs, secinfo, enclave.secs.base + page * PAGE_SIZE)
        if kind == TCS:
            enclave.maximum.put(page, page + 1, READ | WRITE)

    return _each(enclave, request.offset, request.length, modify, track=True)


def remove_pages(enclave: DriverEnclave, request: uapi.EnclaveRemovePages) -> Progress:
    """SGX_IOC_ENCLAVE_REMOVE_PAGES. Raises OSError EINVAL."""
    check_range(enclave, request.offset, request.length)
    if request.count:
        raise refusal(errno.EINVAL, "count must be zero")

    def remove(page: int, entry: int) -> None:
        if entry & TYPE != TRIM or not _accepted(enclave, page):
            raise refusal(errno.EPERM, "the enclave has not accepted that the page is trimmed")
        enclave.forget(page)

    return _each(enclave, request.offset, request.length, remove, track=False)


def _accepted(enclave: DriverEnclave, page: int) -> bool:
    """Return whether EACCEPT was run on a trimmed page: EMODPR then takes a #PF."""
    try:
        emodpr(enclave.cpu, enclave.secs, _ALL, enclave.secs.base + page * PAGE_SIZE)
    except Fault as fault:
        return fault.code is Vector.PF
    return False


def _each(
    enclave: DriverEnclave,
    offset: int,
    length: int,
    change: Callable[[int, int], None],
    *,
    track: bool,
) -> Progress:
    """Change pages one after the other, and wait for their tracking, some at a time."""
    done, result = 0, 0
    stopped: OSError | None = None
    untracked = False
    while done < length and stopped is None:
        try:
            _change(enclave, (offset + done) // PAGE_SIZE, change)
        except Fault as fault:
            if isinstance(fault.code, ErrorCode):
                result = int(fault.code)
            stopped = refusal(errno.EFAULT, str(fault))
        except OSError as error:
            stopped = error
        else:
            done += PAGE_SIZE
            untracked = track
        if untracked and (stopped or done == length or done // PAGE_SIZE % _MOST == 0):
            shoot_down(enclave.cpu, enclave.secs)
            untracked = False
    return done, result, stopped


def _change(enclave: DriverEnclave, page: int, change: Callable[[int, int], None]) -> None:
    """Load a page and change it. Raises Fault, OSError EFAULT (no such page), EAGAIN, ENOMEM."""
    while True:
        if not enclave.load(page):
            raise refusal(errno.EFAULT, f"the enclave has no page at {page * PAGE_SIZE:#x}")
        with enclave.cpu.lock:
            entry = enclave.secs.epcm.get(page)
            if entry is None:
                continue  # evicted again meanwhile
            if entry & BLOCKED:
                raise refusal(errno.EAGAIN, "the page is being evicted")
            change(page, entry)
            return
