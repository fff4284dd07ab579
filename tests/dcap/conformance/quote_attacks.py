# SPDX-License-Identifier: Apache-2.0
"""Attacks by quotes that no published suite covers, and genuine quotes that some refuse."""

import hashlib
from dataclasses import replace
from functools import partial

from tests.dcap.conformance.cases import FORMAT, GENUINE, Case, Suite
from tests.dcap.issuing import TEE_TCB_SVN, Evidence, impostor_of

from ensconce.crypto import p256_point, p256_sign
from ensconce.dcap.quote import (
    Certification,
    CertificationKind,
    QuoteHeader,
    TdReport15,
    TeeType,
)
from ensconce.isa.attributes import AttributeFlags, Attributes

__all__ = ["QUOTE_ATTACKS"]

QUOTE_ATTACKS = Suite()
case = QUOTE_ATTACKS.case

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SIGNATURE_AT = 48 + 384 + 4  # in a quote of version 3, as are all below
_SIZE_AT = 48 + 384
_QE_AUTH_SIZE_AT = _SIGNATURE_AT + 64 + 64 + 384 + 64


def _patched(evidence: Evidence, at: int, data: bytes) -> None:
    """Overwrite bytes of the quote after all was signed."""
    evidence.reshape = lambda quote: quote[:at] + data + quote[at + len(data) :]


# --- genuine ---


@case(GENUINE)
def valid_sgx_v4(evidence: Evidence) -> None:
    """An SGX quote of version 4."""
    evidence.header = QuoteHeader(4)


@case(GENUINE)
def valid_sgx_v5(evidence: Evidence) -> None:
    """An SGX quote of version 5."""
    evidence.header = QuoteHeader(5)


@case(GENUINE, tdx=True)
def valid_tdx_v5(evidence: Evidence) -> None:
    """A TDX 1.5 quote of version 5."""
    evidence.tdx_15()


@case(GENUINE)
def pck_chain_ends_in_a_nul(evidence: Evidence) -> None:
    """A chain with the NUL that Intel's quoting library puts after it."""
    data = evidence.pck_chain().encode() + b"\0"
    evidence.certification = Certification(CertificationKind.PCK_CHAIN, data)


@case(GENUINE)
def signature_with_a_high_s(evidence: Evidence) -> None:
    """A signature with n - s for s, which is as valid."""

    def high(quote: bytes) -> bytes:
        at = _SIGNATURE_AT + 32
        s = int.from_bytes(quote[at : at + 32], "big")
        return quote[:at] + (_ORDER - s).to_bytes(32, "big") + quote[at + 32 :]

    evidence.reshape = high


@case(GENUINE)
def qe_auth_data_empty(evidence: Evidence) -> None:
    """No QE authentication data."""
    evidence.auth_data = b""


@case(GENUINE)
def qe_auth_data_longest(evidence: Evidence) -> None:
    """65,535 bytes of QE authentication data."""
    evidence.auth_data = bytes(0xFFFF)


# --- signatures and keys ---


for _name, _value in (("0", 0), ("n", _ORDER), ("above_n", (1 << 256) - 1)):
    for _half, _offset in (("r", 0), ("s", 32)):
        for _what, _reason, _at in (
            ("quote", "quote_signature", _SIGNATURE_AT),
            ("qe_report", "qe_report_signature", _QE_AUTH_SIZE_AT - 64),
        ):
            _edit = partial(_patched, at=_at + _offset, data=_value.to_bytes(32, "big"))
            _about = f"A signature of the {_what.replace('_', ' ')} whose {_half} is {_name}."
            _case = f"{_what}_signature_{_half}_is_{_name}"
            QUOTE_ATTACKS.append(Case(_case, _about, _reason, _edit))


@case("attestation_key")
def attestation_key_off_the_curve(evidence: Evidence) -> None:
    """An attestation key, rightly bound, that is no point on P-256."""
    point = bytearray(p256_point(evidence.attestation_key.public_key()))
    point[-1] ^= 1
    evidence.point = bytes(point)


@case("attestation_key")
def attestation_key_zero(evidence: Evidence) -> None:
    """An attestation key, rightly bound, of zeros."""
    evidence.point = bytes(64)


@case("qe_report_data")
def attestation_key_exchanged(evidence: Evidence) -> None:
    """A genuine QE report over a quote that another attestation key signed."""
    genuine = p256_point(evidence.attestation_key.public_key()) + evidence.auth_data
    evidence.qe_report_data = hashlib.sha256(genuine).digest() + bytes(32)
    evidence.attestation_key = impostor_of(evidence).attestation_key


@case("qe_report_data")
def qe_report_data_in_its_reserved_half(evidence: Evidence) -> None:
    """A QE report that binds the key and something else."""
    genuine = p256_point(evidence.attestation_key.public_key()) + evidence.auth_data
    evidence.qe_report_data = hashlib.sha256(genuine).digest() + b"\1" * 32


@case("quote_signature")
def body_altered(evidence: Evidence) -> None:
    """Another MRENCLAVE than what was signed."""
    _patched(evidence, 48 + 64, bytes(32))


@case("quote_signature")
def header_altered(evidence: Evidence) -> None:
    """Other user data in the header than what was signed."""
    _patched(evidence, 28, b"\xff" * 20)


@case("quote_signature")
def quote_signed_by_the_pck(evidence: Evidence) -> None:
    """A quote that the PCK signed, past the attestation key."""
    evidence.reshape = lambda q: (
        q[:_SIGNATURE_AT] + p256_sign(evidence.pck_key, q[:_SIZE_AT]) + q[_SIGNATURE_AT + 64 :]
    )


@case("qe_vendor")
def qe_of_an_unknown_vendor(evidence: Evidence) -> None:
    """A quote that does not name Intel as its QE's vendor."""
    evidence.header = replace(evidence.header, qe_vendor_id=bytes(16))


@case("qe_level_not_found")
def qe_below_every_level(evidence: Evidence) -> None:
    """A quoting enclave that is older than every level."""
    evidence.qe_report = replace(evidence.qe_report, isv_svn=1)


@case("platform_differs")
def ppid_of_another_platform(evidence: Evidence) -> None:
    """A quote that names another platform than the PCK certificate with the collateral."""
    sixteen_and_svns = b"\x0f" * 16 + bytes(20)
    evidence.certification = Certification(CertificationKind.PPID, sixteen_and_svns)
    evidence.final["pck_certificate_chain"] = evidence.pck_chain()


# --- enclaves and trust domains that prove nothing ---


def _with_flags(evidence: Evidence, flags: AttributeFlags) -> None:
    """Have the quote be about an enclave with other attributes."""
    attributes = Attributes(flags, evidence.sgx_body.attributes.xfrm)
    evidence.body = replace(evidence.sgx_body, attributes=attributes)


@case("sgx")
def enclave_that_is_not_initialised(evidence: Evidence) -> None:
    """An enclave without INIT, which can't make a REPORT."""
    _with_flags(evidence, AttributeFlags.MODE64BIT)


@case("sgx")
def enclave_of_32_bits(evidence: Evidence) -> None:
    """An enclave without MODE64BIT."""
    _with_flags(evidence, AttributeFlags.INIT)


@case("tdx.mr_service_td", tdx=True)
def td_with_a_service_td(evidence: Evidence) -> None:
    """A trust domain that a service TD, which nobody named, has power over."""
    evidence.tdx_15()
    assert isinstance(evidence.body, TdReport15)
    evidence.body = replace(evidence.body, mr_service_td=b"\x5d" * 48)


# --- lengths and kinds ---


@case(FORMAT)
def version_3_for_tdx(evidence: Evidence) -> None:
    """A quote of version 3 that says that it is about a trust domain."""
    evidence.header = replace(evidence.header, tee_type=TeeType.TDX)


@case(FORMAT)
def version_5_of_sgx_with_a_td_in_it(evidence: Evidence) -> None:
    """A quote of version 5 about an SGX enclave whose body has the type of a trust domain."""
    evidence.header = QuoteHeader(5)
    _patched(evidence, 48, b"\2\0")


@case(FORMAT)
def version_5_whose_body_size_lies(evidence: Evidence) -> None:
    """A quote of version 5 whose body is one byte larger than its type."""
    evidence.header = QuoteHeader(5)
    _patched(evidence, 50, (385).to_bytes(4, "little"))


@case(FORMAT)
def qe_auth_data_longer_than_the_quote(evidence: Evidence) -> None:
    """QE authentication data that claims to be longer than what is there."""
    _patched(evidence, _QE_AUTH_SIZE_AT, b"\xff\xff")


@case(FORMAT)
def signature_size_overflows(evidence: Evidence) -> None:
    """A size of the signature of 2^32 - 1."""
    _patched(evidence, _SIZE_AT, b"\xff" * 4)


@case(FORMAT)
def certification_size_overflows(evidence: Evidence) -> None:
    """A size of the certification data of 2^32 - 1."""
    _patched(evidence, _QE_AUTH_SIZE_AT + 2 + 32 + 2, b"\xff" * 4)


@case(FORMAT)
def bytes_after_the_quote(evidence: Evidence) -> None:
    """Bytes after the signature's end."""
    evidence.reshape = lambda quote: quote + b"\xee" * 16


@case(FORMAT)
def bytes_after_the_certification(evidence: Evidence) -> None:
    """Bytes inside the signature, after the certification data."""

    def longer(quote: bytes) -> bytes:
        size = len(quote) - _SIGNATURE_AT + 16
        return quote[:_SIZE_AT] + size.to_bytes(4, "little") + quote[_SIGNATURE_AT:] + b"\xee" * 16

    evidence.reshape = longer


@case(FORMAT)
def certification_nested_twice(evidence: Evidence) -> None:
    """QE report certification data in QE report certification data."""
    evidence.header = QuoteHeader(4)
    evidence.certification = Certification(CertificationKind.QE_REPORT, bytes(600))


@case(FORMAT)
def certification_nested_in_version_3(evidence: Evidence) -> None:
    """QE report certification data where a chain belongs."""
    evidence.certification = Certification(CertificationKind.QE_REPORT, bytes(600))


# --- TDX modules ---


@case("tdx_module_unknown", tdx=True)
def tdx_module_without_an_identity(evidence: Evidence) -> None:
    """A TDX module of a version that the TCB info does not know."""
    evidence.body = replace(evidence.td, tee_tcb_svn=b"\5\7" + TEE_TCB_SVN[2:])


@case("tdx_module_unknown", tdx=True)
def tdx_module_identities_missing(evidence: Evidence) -> None:
    """A TDX module of a version, and TCB info without module identities."""
    del evidence.tcb_info["tdxModuleIdentities"]


@case("tdx_module_level_not_found", tdx=True)
def tdx_module_too_old(evidence: Evidence) -> None:
    """A TDX module that is older than every level."""
    evidence.body = replace(evidence.td, tee_tcb_svn=b"\3" + TEE_TCB_SVN[1:])


@case("tcb_revoked", tdx=True)
def tdx_module_revoked(evidence: Evidence) -> None:
    """A TDX module at a level that is revoked."""
    evidence.tcb_info["tdxModuleIdentities"][0]["tcbLevels"][0]["tcbStatus"] = "Revoked"


@case("tdx_module_mr_signer", tdx=True)
def tdx_module_of_another_signer(evidence: Evidence) -> None:
    """A TDX module of another signer."""
    evidence.body = replace(evidence.td, mr_signer_seam=b"\3" * 48)


@case("tdx_module_attributes", tdx=True)
def tdx_module_with_attributes(evidence: Evidence) -> None:
    """A TDX module with an attribute that it must not have."""
    evidence.body = replace(evidence.td, seam_attributes=1)


@case("tcb_revoked", tdx=True)
def td_runs_under_a_revoked_module(evidence: Evidence) -> None:
    """A trust domain that was launched under a good TDX module and runs under a revoked one."""
    identity = evidence.tcb_info["tdxModuleIdentities"][0]
    (level,) = identity["tcbLevels"]
    identity["tcbLevels"] += [level | {"tcb": {"isvsvn": 2}, "tcbStatus": "Revoked"}]
    evidence.tdx_15(b"\2\1\2")


@case("tdx_module_level_not_found", tdx=True)
def td_runs_under_a_module_too_old(evidence: Evidence) -> None:
    """A trust domain that runs under a TDX module older than every level."""
    evidence.tdx_15(b"\2\1\2")


@case("tdx_module_unknown", tdx=True)
def td_runs_under_an_unknown_module(evidence: Evidence) -> None:
    """A trust domain that runs under a TDX module of a version that the TCB info does not know."""
    evidence.tdx_15(b"\5\7\2")


@case(GENUINE, tdx=True, status="TDRelaunchAdvised")
def tdx_relaunch_advised(evidence: Evidence) -> None:
    """A trust domain that was launched under an old TDX module and runs under the newest."""
    identity = evidence.tcb_info["tdxModuleIdentities"][0]
    (level,) = identity["tcbLevels"]
    newest = level | {"tcb": {"isvsvn": 6}}
    identity["tcbLevels"] = [newest, level | {"tcbStatus": "OutOfDate"}]
    evidence.tdx_15(b"\6" + TEE_TCB_SVN[1:])
