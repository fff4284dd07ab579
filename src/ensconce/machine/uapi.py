# SPDX-License-Identifier: Apache-2.0
"""Linux's user interface of /dev/sgx_enclave: ioctl numbers and structures (asm/sgx.h).

Sizes, offsets and lengths are bytes; `src`, `secinfo`, `sigstruct` are addresses in the process.
"""

from typing import Annotated

from ensconce.isa.record import U16, U32, U64, Record, Reserved, record

__all__ = [
    "ADD_PAGES",
    "CREATE",
    "INIT",
    "MODIFY_TYPES",
    "PAGE_MEASURE",
    "PROVISION",
    "REMOVE_PAGES",
    "RESTRICT_PERMISSIONS",
    "EnclaveAddPages",
    "EnclaveCreate",
    "EnclaveInit",
    "EnclaveModifyTypes",
    "EnclaveProvision",
    "EnclaveRemovePages",
    "EnclaveRestrictPermissions",
    "EnclaveRun",
]

PAGE_MEASURE = 1

_MAGIC = 0xA4
_WRITE, _READ_WRITE = 1, 3


def _ioctl(direction: int, number: int, argument: type[Record]) -> int:
    """Return an ioctl's number as _IOW and _IOWR make it."""
    return direction << 30 | argument.SIZE << 16 | _MAGIC << 8 | number


@record(8)
class EnclaveCreate(Record):
    """struct sgx_enclave_create: `src` is the address of a SECS."""

    src: U64


@record(48)
class EnclaveAddPages(Record):
    """struct sgx_enclave_add_pages; the driver sets `count` to the bytes added."""

    src: U64
    offset: U64
    length: U64
    secinfo: U64
    flags: U64 = 0
    count: U64 = 0


@record(8)
class EnclaveInit(Record):
    """struct sgx_enclave_init."""

    sigstruct: U64


@record(8)
class EnclaveProvision(Record):
    """struct sgx_enclave_provision: a descriptor of /dev/sgx_provision."""

    fd: U64


@record(40)
class EnclaveRestrictPermissions(Record):
    """struct sgx_enclave_restrict_permissions; `result` is EMODPR's code, `count` in bytes."""

    offset: U64
    length: U64
    permissions: U64
    result: U64 = 0
    count: U64 = 0


@record(40)
class EnclaveModifyTypes(Record):
    """struct sgx_enclave_modify_types; `result` is EMODT's code, `count` in bytes."""

    offset: U64
    length: U64
    page_type: U64
    result: U64 = 0
    count: U64 = 0


@record(24)
class EnclaveRemovePages(Record):
    """struct sgx_enclave_remove_pages; `count` in bytes."""

    offset: U64
    length: U64
    count: U64 = 0


@record(256)
class EnclaveRun(Record):
    """struct sgx_enclave_run, which __vdso_sgx_enter_enclave takes."""

    tcs: U64
    function: U32 = 0
    exception_vector: U16 = 0
    exception_error_code: U16 = 0
    exception_addr: U64 = 0
    user_handler: U64 = 0
    user_data: U64 = 0
    reserved: Annotated[bytes, Reserved(216)] = bytes(216)


CREATE = _ioctl(_WRITE, 0, EnclaveCreate)
ADD_PAGES = _ioctl(_READ_WRITE, 1, EnclaveAddPages)
INIT = _ioctl(_WRITE, 2, EnclaveInit)
PROVISION = _ioctl(_WRITE, 3, EnclaveProvision)
RESTRICT_PERMISSIONS = _ioctl(_READ_WRITE, 5, EnclaveRestrictPermissions)
MODIFY_TYPES = _ioctl(_READ_WRITE, 6, EnclaveModifyTypes)
REMOVE_PAGES = _ioctl(_READ_WRITE, 7, EnclaveRemovePages)
