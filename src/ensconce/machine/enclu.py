# SPDX-License-Identifier: Apache-2.0
"""ENCLU leaves for identity and keys: EREPORT, EGETKEY; and EDECCSSA (SDM vol. 3D, 40.4).

These are the hot path: no records are built.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypedDict

from ensconce.crypto import aes_cmac
from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.keyrequest import KeyName, KeyPolicy
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.ssa import Vector

if TYPE_CHECKING:
    from collections.abc import Callable

    from ensconce._core import Frame
    from ensconce.machine.processor import Processor
    from ensconce.machine.secs_page import SecsPage

__all__ = ["READ", "WRITE", "edeccssa", "egetkey", "ereport", "finish", "operand"]

READ = 1
WRITE = 2

_ZF = 1 << 6
_STATUS_FLAGS = 0x8D5  # CF, PF, AF, ZF, SF, OF

_TARGET_INFO = struct.Struct("<32s16sBxHI8x64s")
_TARGET_INFO_BYTES = 512
_REPORT_DATA_BYTES = 64
_REPORT_BYTES = 432

_KEY_REQUEST = struct.Struct("<HHHBB16sQQ32sIH434s")
_KEY_REQUEST_BYTES = 512
_KEY_BYTES = 16
_ATTRIBUTES = struct.Struct("<QQ")
_REQUIRED = int(AttributeFlags.INIT | AttributeFlags.DEBUG)
_POLICY = 0x3F
_POLICY_KSS = int(KeyPolicy.KSS)
_MRENCLAVE = int(KeyPolicy.MRENCLAVE)
_MRSIGNER = int(KeyPolicy.MRSIGNER)
_NOISVPRODID = int(KeyPolicy.NOISVPRODID)
_CONFIGID = int(KeyPolicy.CONFIGID)
_ISVFAMILYID = int(KeyPolicy.ISVFAMILYID)
_ISVEXTPRODID = int(KeyPolicy.ISVEXTPRODID)
_KSS = int(AttributeFlags.KSS)
_PROVISIONKEY = int(AttributeFlags.PROVISIONKEY)
_EINITTOKENKEY = int(AttributeFlags.EINITTOKENKEY)
_NO_ID16 = bytes(16)
_NO_ID32 = bytes(32)
_NO_ID64 = bytes(64)
_NO_RESERVED = bytes(434)


def operand(secs: SecsPage, address: int, alignment: int, access: int) -> int:
    """Check a memory operand of a leaf and return its offset in the enclave.

    `access` is READ or WRITE of a regular page of this enclave. Raises Fault #GP (alignment,
    outside ELRANGE) or #PF, with the address and an error code that tells EPCM from page tables.
    """
    offset = address - secs.base
    if address & (alignment - 1) or not 0 <= offset < secs.size:
        raise Fault(Vector.GP, f"operand {address:#x} is misaligned or outside the enclave")
    page = offset // PAGE_SIZE
    allowed = secs.mapping.effective.get(page)
    if allowed is None or not allowed & access:
        raise Fault(
            Vector.PF,
            f"operand {address:#x} can't be used",
            address=address,
            error_code=secs.mapping.fault_code(page, access),
        )
    return offset


def finish(frame: Frame, code: ErrorCode = ErrorCode.SUCCESS) -> None:
    """Set RAX to a leaf's code, ZF by it, and clear the other status flags."""
    frame.rax = int(code)
    flags = frame.rflags & ~_STATUS_FLAGS
    frame.rflags = flags | _ZF if code else flags


def ereport(cpu: Processor, secs: SecsPage, frame: Frame) -> None:
    """Write a REPORT of the enclave that TARGETINFO's enclave can check.

    RBX: TARGETINFO, RCX: REPORTDATA, RDX: OUTPUTDATA. Raises Fault #GP, #PF.
    """
    target = operand(secs, frame.rbx, 512, READ)
    data = operand(secs, frame.rcx, 128, READ)
    output = operand(secs, frame.rdx, 512, WRITE)
    alias = secs.alias
    body = secs.report_prefix + alias[data : data + _REPORT_DATA_BYTES]
    measurement, attributes, cet, config_svn, misc_select, config_id = _TARGET_INFO.unpack_from(
        alias, target
    )
    key_id = cpu.report_key_id
    key = cpu.keys.key(
        KeyName.REPORT,
        cpu.keys.cpu_svn,
        attributes=attributes,
        mr_enclave=measurement,
        key_id=key_id,
        cet_attributes=cet,
        misc_select=misc_select,
        config_id=config_id,
        config_svn=config_svn,
    )
    alias[output : output + _REPORT_BYTES] = body + key_id + aes_cmac(key, body)


def egetkey(cpu: Processor, secs: SecsPage, frame: Frame) -> None:
    """Derive a key. RBX: KEYREQUEST, RCX: OUTPUTDATA; RAX: a code.

    Codes: INVALID_ATTRIBUTE, INVALID_CPUSVN, INVALID_ISVSVN, INVALID_KEYNAME.
    Raises Fault #GP, #PF.
    """
    source = operand(secs, frame.rbx, 512, READ)
    output = operand(secs, frame.rcx, 16, WRITE)
    request = _KEY_REQUEST.unpack_from(secs.alias, source)
    name, policy, _, _, reserved1, _, _, _, _, _, config_svn, reserved2 = request
    if reserved1 or reserved2 != _NO_RESERVED or policy & ~_POLICY:
        raise Fault(Vector.GP, "EGETKEY: a reserved field of KEYREQUEST is set")
    if not secs.attributes & _KSS and (policy & _POLICY_KSS or config_svn):
        raise Fault(Vector.GP, "EGETKEY: CONFIGSVN and the policies of KSS need ATTRIBUTES.KSS")
    derive = _DERIVATIONS.get(name)
    if derive is None:
        finish(frame, ErrorCode.INVALID_KEYNAME)
        return
    key = derive(cpu, secs, request)
    if isinstance(key, ErrorCode):
        finish(frame, key)
        return
    secs.alias[output : output + _KEY_BYTES] = key
    finish(frame)


class _Product(TypedDict):
    """What KEYPOLICY may take of a product's identity, by KeyHierarchy.key's names."""

    isv_prod_id: int
    config_id: bytes
    isv_family_id: bytes
    isv_ext_prod_id: bytes


# what _KEY_REQUEST unpacks to: name, policy, ISVSVN, CET mask, reserved, CPUSVN, ATTRIBUTEMASK
# (flags, XFRM), KEYID, MISCMASK, CONFIGSVN, reserved
_Request = tuple[int, int, int, int, int, bytes, int, int, bytes, int, int, bytes]


def _svn_error(
    cpu: Processor, secs: SecsPage, request: _Request, *, config: bool
) -> ErrorCode | None:
    """Return the code for a CPUSVN, ISVSVN or CONFIGSVN that the enclave does not have yet."""
    if cpu.keys.beyond(request[5]):
        return ErrorCode.INVALID_CPUSVN
    if request[2] > secs.secs.isv_svn:
        return ErrorCode.INVALID_ISVSVN
    if config and request[10] > secs.secs.config_svn:
        return ErrorCode.INVALID_ISVSVN
    return None


def _masked(secs: SecsPage, request: _Request) -> bytes:
    """Return TMP_ATTRIBUTES: what the mask asks for, INIT and DEBUG always."""
    return _ATTRIBUTES.pack((request[6] | _REQUIRED) & secs.attributes, request[7] & secs.xfrm)


def _seal(cpu: Processor, secs: SecsPage, request: _Request) -> bytes | ErrorCode:
    """Derive SEAL_KEY."""
    error = _svn_error(cpu, secs, request, config=True)
    if error:
        return error
    _, policy, isv_svn, cet_mask, _, cpu_svn, flags, xfrm, key_id, misc_mask, config_svn, _ = (
        request
    )
    me = secs.secs
    return cpu.keys.key(
        KeyName.SEAL,
        cpu_svn,
        attributes=_masked(secs, request),
        attributes_mask=_ATTRIBUTES.pack(flags, xfrm),
        policy=policy,
        mr_enclave=me.mr_enclave if policy & _MRENCLAVE else _NO_ID32,
        mr_signer=me.mr_signer if policy & _MRSIGNER else _NO_ID32,
        isv_svn=isv_svn,
        key_id=key_id,
        misc_select=int(me.misc_select) & misc_mask,
        misc_mask=~misc_mask & 0xFFFFFFFF,
        cet_attributes=int(me.cet_attributes) & cet_mask,
        cet_attributes_mask=cet_mask,
        config_svn=config_svn if policy & _CONFIGID else 0,
        **_product(secs, policy),
    )


def _provision_seal(cpu: Processor, secs: SecsPage, request: _Request) -> bytes | ErrorCode:
    """Derive PROVISION_SEAL_KEY: bound to the signer and the fuses, not to the owner."""
    if not secs.attributes & _PROVISIONKEY:
        return ErrorCode.INVALID_ATTRIBUTE
    error = _svn_error(cpu, secs, request, config=True)
    if error:
        return error
    _, policy, isv_svn, cet_mask, _, cpu_svn, flags, xfrm, _, misc_mask, config_svn, _ = request
    me = secs.secs
    return cpu.keys.key(
        KeyName.PROVISION_SEAL,
        cpu_svn,
        owner=False,
        attributes=_masked(secs, request),
        attributes_mask=_ATTRIBUTES.pack(flags, xfrm),
        policy=policy,
        mr_signer=me.mr_signer,
        isv_svn=isv_svn,
        misc_select=int(me.misc_select) & misc_mask,
        misc_mask=~misc_mask & 0xFFFFFFFF,
        cet_attributes=int(me.cet_attributes) & cet_mask,
        cet_attributes_mask=cet_mask,
        config_svn=config_svn if policy & _CONFIGID else 0,
        **_product(secs, policy),
    )


def _product(secs: SecsPage, policy: int) -> _Product:
    """Return what KEYPOLICY takes of the product's identity, by KeyHierarchy.key's names."""
    return {
        "isv_prod_id": 0 if policy & _NOISVPRODID else secs.secs.isv_prod_id,
        "config_id": secs.secs.config_id if policy & _CONFIGID else _NO_ID64,
        "isv_family_id": secs.isv_family_id if policy & _ISVFAMILYID else _NO_ID16,
        "isv_ext_prod_id": secs.isv_ext_prod_id if policy & _ISVEXTPRODID else _NO_ID16,
    }


def _provision(cpu: Processor, secs: SecsPage, request: _Request) -> bytes | ErrorCode:
    """Derive PROVISION_KEY: neither the owner's epoch nor the seal fuses enter."""
    if not secs.attributes & _PROVISIONKEY:
        return ErrorCode.INVALID_ATTRIBUTE
    error = _svn_error(cpu, secs, request, config=False)
    if error:
        return error
    _, _, isv_svn, cet_mask, _, cpu_svn, flags, xfrm, _, misc_mask, _, _ = request
    me = secs.secs
    return cpu.keys.key(
        KeyName.PROVISION,
        cpu_svn,
        owner=False,
        seal=False,
        attributes=_masked(secs, request),
        attributes_mask=_ATTRIBUTES.pack(flags, xfrm),
        mr_signer=me.mr_signer,
        isv_prod_id=me.isv_prod_id,
        isv_svn=isv_svn,
        misc_select=int(me.misc_select) & misc_mask,
        misc_mask=~misc_mask & 0xFFFFFFFF,
        cet_attributes=int(me.cet_attributes) & cet_mask,
        cet_attributes_mask=cet_mask,
    )


def _einittoken(cpu: Processor, secs: SecsPage, request: _Request) -> bytes | ErrorCode:
    """Derive EINITTOKEN_KEY, by which a launch enclave signs tokens."""
    if not secs.attributes & _EINITTOKENKEY:
        return ErrorCode.INVALID_ATTRIBUTE
    error = _svn_error(cpu, secs, request, config=False)
    if error:
        return error
    _, _, isv_svn, cet_mask, _, cpu_svn, _, _, key_id, misc_mask, _, _ = request
    me = secs.secs
    return cpu.keys.key(
        KeyName.EINITTOKEN,
        cpu_svn,
        attributes=_masked(secs, request),
        mr_signer=me.mr_signer,
        isv_prod_id=me.isv_prod_id,
        isv_svn=isv_svn,
        key_id=key_id,
        misc_select=int(me.misc_select) & misc_mask,
        cet_attributes=int(me.cet_attributes) & cet_mask,
    )


def _report(cpu: Processor, secs: SecsPage, request: _Request) -> bytes | ErrorCode:
    """Derive REPORT_KEY of this enclave; of the request only KEYID counts."""
    me = secs.secs
    return cpu.keys.key(
        KeyName.REPORT,
        cpu.keys.cpu_svn,
        attributes=_ATTRIBUTES.pack(secs.attributes, secs.xfrm),
        mr_enclave=me.mr_enclave,
        key_id=request[8],
        cet_attributes=int(me.cet_attributes),
        misc_select=int(me.misc_select),
        config_id=me.config_id,
        config_svn=me.config_svn,
    )


_DERIVATIONS: dict[int, Callable[[Processor, SecsPage, _Request], bytes | ErrorCode]] = {
    KeyName.EINITTOKEN: _einittoken,
    KeyName.PROVISION: _provision,
    KeyName.PROVISION_SEAL: _provision_seal,
    KeyName.REPORT: _report,
    KeyName.SEAL: _seal,
}


def edeccssa(cpu: Processor, secs: SecsPage, frame: Frame) -> None:
    """Give the SSA frame below up, so that the next AEX uses it. Raises Fault #GP, #PF."""
    del cpu
    at = frame.tcs - secs.base
    cssa, _, _ = secs.core.tcs(at)
    if not cssa:
        raise Fault(Vector.GP, "EDECCSSA: CSSA is 0")
    size = secs.secs.ssa_frame_size * PAGE_SIZE
    first = secs.base + secs.tcss[at // PAGE_SIZE].ossa + (cssa - 1) * size
    for address in range(first, first + size, PAGE_SIZE):
        operand(secs, address, 1, READ)
        operand(secs, address, 1, WRITE)
    secs.core.set_cssa(at, cssa - 1)
