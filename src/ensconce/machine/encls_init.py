# SPDX-License-Identifier: Apache-2.0
"""ENCLS[EINIT]: check an enclave by its SIGSTRUCT and EINITTOKEN, and let it run (SDM 40.3)."""

from __future__ import annotations

import dataclasses
import hmac
import logging
from typing import TYPE_CHECKING

from ensconce.crypto import aes_cmac, rsa3072_quotients, rsa3072_verify
from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags, Attributes
from ensconce.isa.keyrequest import KeyName
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.report import ReportBody
from ensconce.isa.sigstruct import HEADER, HEADER2, SigStruct
from ensconce.isa.ssa import Vector
from ensconce.isa.token import EInitToken
from ensconce.machine.narrowing import narrow_all

if TYPE_CHECKING:
    from ensconce.isa.measurement import MrEnclave
    from ensconce.machine.processor import Processor
    from ensconce.machine.secs_page import SecsPage

__all__ = ["NO_TOKEN", "einit"]

NO_TOKEN = EInitToken()

_INTEL = 0x8086
_CONTROLLED = AttributeFlags.EINITTOKENKEY
_TOKEN_MAC_COVERS = 192
_EXPONENT = 3

_logger = logging.getLogger(__name__)


def einit(
    cpu: Processor, secs: SecsPage, sigstruct: SigStruct, token: EInitToken = NO_TOKEN
) -> None:
    """Initialise an enclave. Raises Fault #GP, #PF or a code.

    Codes: INVALID_SIG_STRUCT, INVALID_SIGNATURE, INVALID_MEASUREMENT, INVALID_ATTRIBUTE,
    INVALID_EINITTOKEN, INVALID_CPUSVN.
    """
    _check_sigstruct(sigstruct)
    _check_signature(sigstruct)
    with secs.building():
        if not secs.valid:
            raise Fault(Vector.PF, "EINIT: the SECS is not in the EPC", address=secs.base)
        if secs.initialized:
            raise Fault(Vector.GP, "EINIT: the enclave is initialised")
        if not secs.attributes & AttributeFlags.KSS and any(sigstruct.isv_family_id):
            raise Fault(ErrorCode.INVALID_SIG_STRUCT, "EINIT: ISVFAMILYID needs ATTRIBUTES.KSS")
        mr_enclave = secs.measurement.digest()
        if sigstruct.enclave_hash != mr_enclave:
            raise Fault(
                ErrorCode.INVALID_MEASUREMENT,
                f"EINIT: MRENCLAVE is {mr_enclave.hex()}, SIGSTRUCT's ENCLAVEHASH is "
                f"{sigstruct.enclave_hash.hex()}",
            )
        mr_signer = sigstruct.mr_signer
        _check_identity(cpu, secs, sigstruct, mr_signer)
        if token.valid & 1:
            _check_token(cpu, secs, token, mr_enclave, mr_signer)
        elif mr_signer != cpu.launch_hash:
            raise Fault(
                ErrorCode.INVALID_EINITTOKEN,
                "EINIT: no token, and MRSIGNER is not IA32_SGXLEPUBKEYHASH",
            )
        _commit(cpu, secs, sigstruct, mr_enclave)


def _check_sigstruct(sigstruct: SigStruct) -> None:
    """Check SIGSTRUCT's fixed and reserved fields."""
    wrong = (
        sigstruct.header != HEADER
        or sigstruct.vendor not in (0, _INTEL)
        or sigstruct.header2 != HEADER2
        or sigstruct.exponent != _EXPONENT
        or sigstruct.reserved_nonzero()
    )
    if wrong:
        raise Fault(ErrorCode.INVALID_SIG_STRUCT, "EINIT: SIGSTRUCT has an invalid field")


def _check_signature(sigstruct: SigStruct) -> None:
    """Check the RSA signature, and Q1 and Q2, by which a processor computes it."""
    modulus = int.from_bytes(sigstruct.modulus, "little")
    signature = int.from_bytes(sigstruct.signature, "little")
    valid = rsa3072_verify(modulus, sigstruct.signature[::-1], sigstruct.signed_bytes())
    if valid:
        q1, q2 = rsa3072_quotients(modulus, signature)
        valid = (q1, q2) == (
            int.from_bytes(sigstruct.q1, "little"),
            int.from_bytes(sigstruct.q2, "little"),
        )
    if not valid:
        raise Fault(ErrorCode.INVALID_SIGNATURE, "EINIT: SIGSTRUCT's signature is not valid")


def _check_identity(cpu: Processor, secs: SecsPage, sigstruct: SigStruct, mr_signer: bytes) -> None:
    """Check ATTRIBUTES, MISCSELECT and CET against what SIGSTRUCT demands."""
    if secs.attributes & _CONTROLLED and mr_signer != cpu.launch_hash:
        raise Fault(
            ErrorCode.INVALID_ATTRIBUTE,
            "EINIT: EINITTOKENKEY needs a signer with IA32_SGXLEPUBKEYHASH",
        )
    have = Attributes(AttributeFlags(secs.attributes), secs.secs.attributes.xfrm)
    mask = sigstruct.attribute_mask
    if have & mask != sigstruct.attributes & mask:
        raise Fault(
            ErrorCode.INVALID_ATTRIBUTE,
            f"EINIT: ATTRIBUTES {int(have.flags):#x}, XFRM {int(have.xfrm):#x} do not match "
            f"SIGSTRUCT's {int(sigstruct.attributes.flags):#x}, "
            f"{int(sigstruct.attributes.xfrm):#x} under its mask",
        )
    misc = sigstruct.misc_mask
    if secs.secs.misc_select & misc != sigstruct.misc_select & misc:
        raise Fault(ErrorCode.INVALID_ATTRIBUTE, "EINIT: MISCSELECT does not match SIGSTRUCT's")
    cet = sigstruct.cet_attributes_mask
    if secs.secs.cet_attributes & cet != sigstruct.cet_attributes & cet:
        raise Fault(ErrorCode.INVALID_ATTRIBUTE, "EINIT: CET_ATTRIBUTES do not match SIGSTRUCT's")


def _check_token(
    cpu: Processor, secs: SecsPage, token: EInitToken, mr_enclave: MrEnclave, mr_signer: bytes
) -> None:
    """Check a launch enclave's token: its MAC, and that it is for this enclave."""
    launcher = token.masked_attributes_le
    if launcher.flags & AttributeFlags.DEBUG and not secs.debug:
        raise Fault(
            ErrorCode.INVALID_EINITTOKEN,
            "EINIT: a debug launch enclave can't launch a production enclave",
        )
    if token.reserved_nonzero() or token.valid != 1:
        raise Fault(ErrorCode.INVALID_EINITTOKEN, "EINIT: a reserved field of the token is set")
    if cpu.keys.beyond(token.cpu_svn_le):
        raise Fault(ErrorCode.INVALID_CPUSVN, "EINIT: the token's CPUSVN is beyond ours")
    key = cpu.keys.key(
        KeyName.EINITTOKEN,
        token.cpu_svn_le,
        attributes=bytes(launcher),
        isv_prod_id=token.isv_prod_id_le,
        isv_svn=token.isv_svn_le,
        misc_select=int(token.masked_misc_select_le),
        cet_attributes=int(token.cet_masked_attributes_le),
        mr_signer=cpu.launch_hash,
        key_id=token.key_id,
    )
    mac = aes_cmac(key, bytes(token)[:_TOKEN_MAC_COVERS])
    if not hmac.compare_digest(mac, token.mac):
        raise Fault(ErrorCode.INVALID_EINITTOKEN, "EINIT: the token's MAC is not valid")
    if token.mr_enclave != mr_enclave or token.mr_signer != mr_signer:
        raise Fault(ErrorCode.INVALID_MEASUREMENT, "EINIT: the token is for another enclave")
    if (int(token.attributes.flags), int(token.attributes.xfrm)) != (secs.attributes, secs.xfrm):
        raise Fault(ErrorCode.INVALID_ATTRIBUTE, "EINIT: the token is for other ATTRIBUTES")


def _commit(cpu: Processor, secs: SecsPage, sigstruct: SigStruct, mr_enclave: MrEnclave) -> None:
    """Write the SECS and mark it initialised; threads may enter from now on."""
    with cpu.lock:
        secs.attributes |= int(AttributeFlags.INIT)
        secs.secs = dataclasses.replace(
            secs.secs,
            attributes=Attributes(AttributeFlags(secs.attributes), secs.secs.attributes.xfrm),
            mr_enclave=mr_enclave,
            mr_signer=sigstruct.mr_signer,
            isv_prod_id=sigstruct.isv_prod_id,
            isv_svn=sigstruct.isv_svn,
        )
        secs.isv_family_id = sigstruct.isv_family_id
        secs.isv_ext_prod_id = sigstruct.isv_ext_prod_id
        secs.report_prefix = _report_prefix(cpu, secs)
        secs.initialized = True
        narrow_all(secs)
        secs.core.enable(True)  # noqa: FBT003
    _logger.debug(
        "event=einit eid=%d mr_enclave=%s mr_signer=%s attributes=%#x xfrm=%#x",
        secs.eid,
        mr_enclave.hex(),
        sigstruct.mr_signer.hex(),
        secs.attributes,
        secs.xfrm,
    )


def _report_prefix(cpu: Processor, secs: SecsPage) -> bytes:
    """Return all of the enclave's REPORT body but REPORTDATA, which comes last."""
    body = ReportBody(
        cpu_svn=cpu.cpu_svn,
        misc_select=secs.secs.misc_select,
        cet_attributes=secs.secs.cet_attributes,
        isv_ext_prod_id=secs.isv_ext_prod_id,
        attributes=secs.secs.attributes,
        mr_enclave=secs.secs.mr_enclave,
        mr_signer=secs.secs.mr_signer,
        config_id=secs.secs.config_id,
        isv_prod_id=secs.secs.isv_prod_id,
        isv_svn=secs.secs.isv_svn,
        config_svn=secs.secs.config_svn,
        isv_family_id=secs.isv_family_id,
    )
    return bytes(body)[: ReportBody.offset_of("report_data")]
