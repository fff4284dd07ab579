# SPDX-License-Identifier: Apache-2.0
"""The driver's ioctls that build an enclave: CREATE, ADD_PAGES, INIT (sgx/ioctl.c)."""

import errno

from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfo, SecInfoFlags, page_type
from ensconce.isa.secs import Secs
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.ssa import Vector
from ensconce.machine import uapi
from ensconce.machine.driver_enclave import READ, WRITE, DriverEnclave, refusal
from ensconce.machine.encls_build import check_secs, eadd_lazy, eadd_pages, ecreate
from ensconce.machine.encls_init import einit
from ensconce.machine.epc import PERMISSIONS, TYPE
from ensconce.machine.processor import Processor
from ensconce.machine.reclaim import Reclaimer
from ensconce.machine.runs import RunMap
from ensconce.machine.user_memory import copy_from_user, copy_to_file, untouched

__all__ = ["UNPRIVILEGED", "add_pages", "check_range", "create", "init"]

UNPRIVILEGED = int(
    AttributeFlags.DEBUG | AttributeFlags.MODE64BIT | AttributeFlags.KSS | AttributeFlags.AEXNOTIFY
)

_CHUNK = 256
_ZEROS = bytes(_CHUNK * PAGE_SIZE)
_R, _W = int(SecInfoFlags.R), int(SecInfoFlags.W)
_VENDORS = (0, 0x8086)
_SECS_INFO = SecInfo(SecInfoFlags(PageType.SECS << 8))


def create(
    cpu: Processor,
    request: uapi.EnclaveCreate,
    areas: RunMap,
    reserved: tuple[int, int] | None,
) -> DriverEnclave:
    """SGX_IOC_ENCLAVE_CREATE. Raises OSError EFAULT, EINVAL, ENOMEM, EIO.

    Unlike on hardware ELRANGE must be what was `reserved` (address, size): the enclave's memory
    is put there at once.
    """
    secs = Secs.parse(copy_from_user(request.src, Secs.SIZE))
    if not secs.size or secs.size & secs.size - 1:
        raise refusal(errno.EINVAL, f"SECS.SIZE {secs.size:#x} is no power of two")
    if reserved is None or (secs.base_addr, secs.size) != reserved:
        try:
            check_secs(cpu, secs)
        except Fault as fault:
            raise refusal(errno.EIO, str(fault)) from fault
        raise refusal(errno.EINVAL, "ELRANGE was not reserved")
    if cpu.epc.free < 2 and not Reclaimer.of(cpu).reclaim(2):
        raise refusal(errno.ENOMEM, "the EPC is full")
    try:
        page = ecreate(cpu, secs, _SECS_INFO)
    except Fault as fault:
        raise refusal(errno.EIO, str(fault)) from fault
    enclave = DriverEnclave(cpu, page, areas)
    enclave.make_room(0)
    return enclave


def check_range(enclave: DriverEnclave, offset: int, length: int) -> None:
    """Check that a range is whole pages of ELRANGE. Raises OSError EINVAL."""
    wrong = (
        offset % PAGE_SIZE
        or not length
        or length % PAGE_SIZE
        or offset + length - PAGE_SIZE >= enclave.secs.size
    )
    if wrong:
        raise refusal(errno.EINVAL, f"{length:#x} bytes at {offset:#x} are not in the enclave")


def add_pages(enclave: DriverEnclave, request: uapi.EnclaveAddPages) -> tuple[int, OSError | None]:
    """SGX_IOC_ENCLAVE_ADD_PAGES: return the bytes added, and what stopped it before the end.

    Raises OSError EINVAL, EFAULT where nothing was tried. Stops with EFAULT, EBUSY (a page is
    there already), ENOMEM, EIO (EADD refused).
    """
    if request.src % PAGE_SIZE:
        raise refusal(errno.EINVAL, "src is not aligned to a page")
    check_range(enclave, request.offset, request.length)
    secinfo = SecInfo.parse(copy_from_user(request.secinfo, SecInfo.SIZE))
    _check_secinfo(secinfo)
    measure = bool(request.flags & uapi.PAGE_MEASURE)
    done = 0
    try:
        while done < request.length:
            done += _add(
                enclave,
                request.src + done,
                request.offset + done,
                request.length - done,
                secinfo,
                measure=measure,
            )
    except OSError as error:
        return done, error
    return done, None


def _check_secinfo(secinfo: SecInfo) -> None:
    """Check SECINFO as the kernel does before EADD. Raises OSError EINVAL."""
    flags = int(secinfo.flags)
    kind = page_type(flags)
    wrong = (
        kind not in (PageType.REG, PageType.TCS)
        or (flags & _W and not flags & _R)
        or (kind == PageType.TCS and flags & PERMISSIONS)
        or flags & ~(PERMISSIONS | TYPE)
        or secinfo.reserved_nonzero()
    )
    if wrong:
        raise refusal(errno.EINVAL, f"SECINFO.FLAGS {flags:#x}")


def _add(
    enclave: DriverEnclave,
    src: int,
    offset: int,
    length: int,
    secinfo: SecInfo,
    *,
    measure: bool,
) -> int:
    """Add the next pages of a request and return how many bytes they were."""
    page, count = offset // PAGE_SIZE, length // PAGE_SIZE
    start, end, known = enclave.maximum.spans(page, page + count)[0]
    if known is not None:
        raise refusal(errno.EBUSY, f"the enclave has a page at {offset:#x}")
    count = end - start
    regular = page_type(int(secinfo.flags)) == PageType.REG
    if regular and not measure and untouched(src, count * PAGE_SIZE):
        return _add_lazily(enclave, page, count, secinfo)
    count = min(count, _CHUNK if regular else 1)
    enclave.make_room(count)
    copied = copy_to_file(src, count * PAGE_SIZE, enclave.secs.memory.fd, offset) // PAGE_SIZE
    if not copied:
        enclave.secs.memory.discard(offset, count * PAGE_SIZE)
        raise refusal(errno.EFAULT, f"the source {src:#x} can't be read")
    size = copied * PAGE_SIZE
    if (
        regular
        and not measure
        and bytes(enclave.secs.alias[offset : offset + size]) == _ZEROS[:size]
    ):
        enclave.secs.memory.discard(offset, count * PAGE_SIZE)
        return _add_lazily(enclave, page, copied, secinfo)
    _eadd(enclave, page, copied, secinfo, measure=measure)
    return size


def _add_lazily(enclave: DriverEnclave, page: int, count: int, secinfo: SecInfo) -> int:
    """Add zero pages that take EPC when they are touched; return their bytes."""
    address = enclave.secs.base + page * PAGE_SIZE
    try:
        eadd_lazy(enclave.cpu, enclave.secs, address, secinfo, count)
    except Fault as fault:
        raise refusal(errno.EIO, str(fault)) from fault
    with enclave.cpu.lock:
        enclave.maximum.put(page, page + count, int(secinfo.flags) & PERMISSIONS)
    enclave.statistics.added_lazily += count
    return count * PAGE_SIZE


def _eadd(
    enclave: DriverEnclave, page: int, count: int, secinfo: SecInfo, *, measure: bool
) -> None:
    """EADD, and EEXTEND, pages whose contents are in place."""
    cpu, secs = enclave.cpu, enclave.secs
    address = secs.base + page * PAGE_SIZE
    while True:
        enclave.make_room(count)
        try:
            eadd_pages(cpu, secs, address, secinfo, count, extend=measure)
            break
        except Fault as fault:
            if fault.code is Vector.PF and secs.valid and cpu.epc.free < count:
                continue  # another enclave took the room
            secs.memory.discard(page * PAGE_SIZE, count * PAGE_SIZE)
            raise refusal(errno.EIO, str(fault)) from fault
    most = int(secinfo.flags) & PERMISSIONS
    if page_type(int(secinfo.flags)) == PageType.TCS:
        most = READ | WRITE
    with cpu.lock:
        enclave.maximum.put(page, page + count, most)
        enclave.statistics.added += count
        enclave.entered(page, page + count)


def init(enclave: DriverEnclave, request: uapi.EnclaveInit, allowed: int) -> None:
    """SGX_IOC_ENCLAVE_INIT. Raises OSError EFAULT, EINVAL, EACCES, EPERM (EINIT's code), EIO."""
    cpu, secs = enclave.cpu, enclave.secs
    sigstruct = SigStruct.parse(copy_from_user(request.sigstruct, SigStruct.SIZE))
    if sigstruct.vendor not in _VENDORS:
        raise refusal(errno.EINVAL, f"SIGSTRUCT.VENDOR {sigstruct.vendor:#x}")
    if secs.attributes & ~allowed:
        raise refusal(
            errno.EACCES,
            f"ATTRIBUTES {secs.attributes & ~allowed:#x} take the right to use /dev/sgx_provision",
        )
    have = cpu.cpuid
    asked = sigstruct.attributes & sigstruct.attribute_mask
    wrong = (
        int(asked.flags) & ~int(have.attributes.flags)
        or int(sigstruct.misc_select & sigstruct.misc_mask) & ~int(have.misc_select)
        or int(asked.xfrm) & ~int(have.attributes.xfrm)
    )
    if wrong:
        raise refusal(errno.EINVAL, "SIGSTRUCT demands what this processor does not have")
    try:
        cpu.launch_hash = sigstruct.mr_signer
        einit(cpu, secs, sigstruct)
    except Fault as fault:
        number = errno.EIO if isinstance(fault.code, Vector) else errno.EPERM
        raise refusal(number, str(fault)) from fault
