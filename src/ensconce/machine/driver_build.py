# SPDX-License-Identifier: Apache-2.0
"""The driver's ioctls at either end of building: CREATE and INIT (sgx/ioctl.c)."""

import errno

from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfo, SecInfoFlags
from ensconce.isa.secs import Secs
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.ssa import Vector
from ensconce.machine import uapi
from ensconce.machine.address_space import OWN_PROCESS, AddressSpace
from ensconce.machine.driver_enclave import DriverEnclave, refusal
from ensconce.machine.encls_build import check_secs, ecreate
from ensconce.machine.encls_init import einit
from ensconce.machine.processor import Processor
from ensconce.machine.reclaim import Reclaimer
from ensconce.machine.runs import RunMap
from ensconce.machine.user_memory import copy_from_user

__all__ = ["UNPRIVILEGED", "check_range", "create", "init"]

UNPRIVILEGED = int(
    AttributeFlags.DEBUG | AttributeFlags.MODE64BIT | AttributeFlags.KSS | AttributeFlags.AEXNOTIFY
)

_VENDORS = (0, 0x8086)
_SECS_INFO = SecInfo(SecInfoFlags(PageType.SECS << 8))


def create(
    cpu: Processor,
    request: uapi.EnclaveCreate,
    areas: RunMap,
    reserved: tuple[int, int] | None,
    space: AddressSpace = OWN_PROCESS,
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
        page = ecreate(cpu, secs, _SECS_INFO, space)
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
