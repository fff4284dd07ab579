# SPDX-License-Identifier: Apache-2.0
"""The 54 cases of dcap-qvl's test suite, by its names and with its expectations.

The evidence is our own, and differs where theirs is not what its name says: the PCK CRL comes
with its own issuer's chain, PCK chains have an intermediate, masks and evaluation numbers are
like Intel's.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from cryptography import x509
from tests.dcap.conformance.cases import FORMAT, GENUINE, Case, Suite
from tests.dcap.issuing import Evidence, components

from ensconce.dcap.quote import QuoteHeader
from ensconce.isa.attributes import AttributeFlags, Attributes
from ensconce.platform.certificates import Certified

__all__ = ["KNOWN"]

KNOWN = Suite()
case = KNOWN.case

_PAST = {"issueDate": "2020-01-01T00:00:00Z", "nextUpdate": "2020-12-31T23:59:59Z"}
_FUTURE = {"issueDate": "2999-01-01T00:00:00Z", "nextUpdate": "2999-12-31T23:59:59Z"}
_OUTER_TYPE = 48 + 384 + 4 + 128
_TD_PKS, _TD_KL, _TD_RESERVED, _TD_SEPT_VE = 1 << 30, 1 << 31, 1 << 29, 1 << 28


@case(GENUINE)
def valid_sgx_v3(evidence: Evidence) -> None:
    """An SGX quote of version 3."""


@case(FORMAT)
def invalid_sgx_v4(evidence: Evidence) -> None:
    """An SGX quote of version 4 whose QE report is wrapped as if it were a PCK chain."""
    evidence.header = QuoteHeader(4)
    evidence.reshape = lambda q: q[:_OUTER_TYPE] + b"\5\0" + q[_OUTER_TYPE + 2 :]


@case(GENUINE, tdx=True)
def valid_tdx_v4(evidence: Evidence) -> None:
    """A TDX quote of version 4."""


@case(FORMAT)
def invalid_quote_v5(evidence: Evidence) -> None:
    """An SGX quote of version 3 that says in its header that it has version 5."""
    evidence.reshape = lambda q: b"\5\0" + q[2:]


@case(FORMAT, tdx=True)
def tdx_missing_components(evidence: Evidence) -> None:
    """TCB info for TDX whose levels have no TDX components."""
    for level in evidence.levels:
        del level["tcb"]["tdxtcbcomponents"]


@case("qe_identity_tee", tdx=True)
def tdx_qe_identity_id_mismatch(evidence: Evidence) -> None:
    """A TDX quote with the identity of the SGX QE."""
    evidence.qe_identity["id"] = "QE"


@case("tdx.allow_debug", tdx=True)
def tdx_debug_enabled(evidence: Evidence) -> None:
    """A trust domain under debug."""
    evidence.body = replace(evidence.td, td_attributes=evidence.td.td_attributes | 1)


@case("tdx.allow_sept_ve", tdx=True)
def tdx_sept_ve_disabled(evidence: Evidence) -> None:
    """A trust domain without SEPT_VE_DISABLE."""
    evidence.body = replace(evidence.td, td_attributes=0)


@case("tdx", tdx=True)
def tdx_reserved_bits_set(evidence: Evidence) -> None:
    """A trust domain with an attribute that is reserved."""
    evidence.body = replace(evidence.td, td_attributes=_TD_SEPT_VE | _TD_RESERVED)


@case(GENUINE, tdx=True)
def tdx_pks_enabled(evidence: Evidence) -> None:
    """A trust domain with supervisor protection keys."""
    evidence.body = replace(evidence.td, td_attributes=_TD_SEPT_VE | _TD_PKS)


@case(GENUINE, tdx=True)
def tdx_kl_enabled(evidence: Evidence) -> None:
    """A trust domain with Key Locker."""
    evidence.body = replace(evidence.td, td_attributes=_TD_SEPT_VE | _TD_KL)


@case("sgx.allow_debug")
def debug_sgx_v3(evidence: Evidence) -> None:
    """An SGX enclave in debug mode."""
    attributes = evidence.sgx_body.attributes
    debug = Attributes(attributes.flags | AttributeFlags.DEBUG, attributes.xfrm)
    evidence.body = replace(evidence.sgx_body, attributes=debug)


@case(FORMAT)
def invalid_quote_format(evidence: Evidence) -> None:
    """100 bytes of 0xFF."""
    evidence.reshape = lambda _: b"\xff" * 100


@case(FORMAT)
def truncated_quote(evidence: Evidence) -> None:
    """The first four bytes of a quote."""
    evidence.reshape = lambda q: q[:4]


def _version(evidence: Evidence, number: int) -> None:
    """Have the quote say that it has a version."""
    evidence.header = replace(evidence.header, version=number)


def _key_type(evidence: Evidence, number: int) -> None:
    """Have the quote say that its attestation key is of a type."""
    evidence.header = replace(evidence.header, att_key_type=number)


for _number in (1, 2, 6, 255):
    _edit = partial(_version, number=_number)
    KNOWN.append(Case(f"unsupported_version_{_number}", "An unknown version.", FORMAT, _edit))
for _number in (0, 1, 3, 255):
    _edit = partial(_key_type, number=_number)
    _about = "An attestation key that is not ECDSA on P-256."
    KNOWN.append(Case(f"unsupported_key_type_{_number}", _about, FORMAT, _edit))


@case("tcb_info_validity")
def tcb_expired(evidence: Evidence) -> None:
    """TCB info whose time has passed."""
    evidence.tcb_info |= _PAST


@case("tcb_info_validity")
def tcb_issue_date_future(evidence: Evidence) -> None:
    """TCB info whose time has not come."""
    evidence.tcb_info |= _FUTURE


@case("qe_identity_tee")
def sgx_tcb_id_mismatch(evidence: Evidence) -> None:
    """An SGX quote with TCB info for TDX."""
    evidence.tcb_info = Evidence.tdx(evidence.now).tcb_info


@case("tcb_info_signature")
def invalid_tcb_json(evidence: Evidence) -> None:
    """TCB info that is no JSON, and so not what was signed."""
    evidence.final["tcb_info"] = "INVALID JSON"


@case("tcb_level_not_found")
def sgx_component_svn_mismatch(evidence: Evidence) -> None:
    """A platform that is above the only level in one component and below it in another."""
    evidence.certify(components=tuple(b"\1\3\2".ljust(16, b"\0")))
    del evidence.levels[1:]
    evidence.levels[0]["tcb"]["sgxtcbcomponents"] = components(b"\1\2\3")


@case("tcb_level_not_found", tdx=True)
def tdx_component_svn_mismatch(evidence: Evidence) -> None:
    """A platform whose TEE_TCB_SVN is below every level."""
    for level in evidence.levels:
        level["tcb"]["tdxtcbcomponents"] = components(b"\0\0\3")


@case(GENUINE)
def component_svn_all_higher(evidence: Evidence) -> None:
    """A platform that is above the level in every component."""
    evidence.levels[0]["tcb"]["sgxtcbcomponents"] = components(b"")


@case(FORMAT)
def short_tcb_chain(evidence: Evidence) -> None:
    """No certificate for the TCB info."""
    evidence.final["tcb_info_issuer_chain"] = "\n"


@case(FORMAT)
def invalid_cert_format(evidence: Evidence) -> None:
    """A certificate for the TCB info that is none."""
    evidence.final["tcb_info_issuer_chain"] = "INVALID_CERTIFICATE_DATA_NOT_PROPERLY_FORMATTED"


@case("tcb_info_signature")
def invalid_tcb_signature(evidence: Evidence) -> None:
    """Zeros as the TCB info's signature."""
    evidence.final["tcb_info_signature"] = "00" * 64


@case("fmspc_differs")
def fmspc_mismatch(evidence: Evidence) -> None:
    """TCB info for another family of platforms."""
    evidence.tcb_info["fmspc"] = "FFFFFFFFFFFF"


@case("qe_report_data")
def qe_report_hash_mismatch(evidence: Evidence) -> None:
    """A QE report that binds no attestation key."""
    evidence.qe_report_data = bytes(64)


@case("qe_report_signature")
def invalid_qe_report_signature(evidence: Evidence) -> None:
    """Zeros as the QE report's signature."""
    evidence.qe_signature = bytes(64)


@case("quote_signature")
def invalid_quote_signature(evidence: Evidence) -> None:
    """A quote's signature of r = s = 1."""
    evidence.signature = ((1 << 256) + 1).to_bytes(64, "big")


@case("qe_identity_validity")
def qe_identity_expired(evidence: Evidence) -> None:
    """A QE identity whose time has passed."""
    evidence.qe_identity |= _PAST


@case("qe_identity_validity")
def qe_identity_issue_date_future(evidence: Evidence) -> None:
    """A QE identity whose time has not come."""
    evidence.qe_identity |= _FUTURE


@case("qe_identity_signature")
def invalid_qe_identity_json(evidence: Evidence) -> None:
    """A QE identity that is no JSON, and so not what was signed."""
    evidence.final["qe_identity"] = "not valid json {{{"


@case(FORMAT)
def short_qe_identity_chain(evidence: Evidence) -> None:
    """No certificate for the QE identity."""
    evidence.final["qe_identity_issuer_chain"] = "\n"


@case("qe_identity_signature")
def invalid_qe_identity_signature(evidence: Evidence) -> None:
    """Zeros as the QE identity's signature."""
    evidence.final["qe_identity_signature"] = "00" * 64


def _identity(evidence: Evidence, **fields: Any) -> None:
    """Have the QE identity ask for another enclave."""
    evidence.qe_identity |= fields


for _name, _reason, _fields in (
    ("qe_mrsigner_mismatch", "qe_mr_signer", {"mrsigner": "FF" * 32}),
    ("qe_isvprodid_mismatch", "qe_isv_prod_id", {"isvprodid": 2}),
    ("qe_miscselect_mismatch", "qe_misc_select", {"miscselect": "FFFFFFFF"}),
    ("qe_attributes_mismatch", "qe_attributes", {"attributes": "FF" * 16}),
):
    _about = "A quoting enclave that is not the one of the identity."
    KNOWN.append(Case(_name, _about, _reason, partial(_identity, **_fields)))


@case("qe_debug")
def qe_debug_enabled(evidence: Evidence) -> None:
    """A quoting enclave in debug mode."""
    attributes = evidence.qe_report.attributes
    debug = Attributes(attributes.flags | AttributeFlags.DEBUG, attributes.xfrm)
    evidence.qe_report = replace(evidence.qe_report, attributes=debug)


@case(FORMAT)
def unknown_tcb_status(evidence: Evidence) -> None:
    """TCB info without a level."""
    evidence.levels.clear()


def _revoke(document: dict[str, Any]) -> None:
    """Revoke every TCB level of a document."""
    for level in document["tcbLevels"]:
        level["tcbStatus"] = "Revoked"


@case("tcb_revoked")
def revoked_platform_tcb(evidence: Evidence) -> None:
    """A platform at a TCB level that is revoked."""
    _revoke(evidence.tcb_info)


@case("qe_revoked")
def revoked_qe_tcb(evidence: Evidence) -> None:
    """A quoting enclave at a TCB level that is revoked."""
    _revoke(evidence.qe_identity)


@case(GENUINE)
def cert_type_5_with_pck_chain(evidence: Evidence) -> None:
    """A quote that carries its chain, with the same in the collateral."""
    evidence.final["pck_certificate_chain"] = evidence.pck_chain()


@case(GENUINE)
def cert_type_3_with_pck_chain(evidence: Evidence) -> None:
    """A quote with an encrypted PPID, whose chain is in the collateral."""
    evidence.encrypted_ppid()
    evidence.final["pck_certificate_chain"] = evidence.pck_chain()


@case("pck_chain_missing")
def cert_type_3_without_pck_chain(evidence: Evidence) -> None:
    """A quote with an encrypted PPID, whose chain is nowhere."""
    evidence.encrypted_ppid()


def _authority_as_signer(evidence: Evidence) -> Certified:
    """Return a signer of collateral that is an authority."""
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return replace(evidence.pcs.tcb_signing, ca=True, path_length=0, usage=usage)


@case("certificate_role")
def ca_used_as_end_entity_tcb(evidence: Evidence) -> None:
    """Collateral that an authority signed as if it were a signer."""
    evidence.tcb_signer = evidence.qe_signer = _authority_as_signer(evidence)


@case("certificate_role")
def ca_used_as_end_entity_qe(evidence: Evidence) -> None:
    """A QE identity that an authority signed as if it were a signer."""
    evidence.qe_signer = _authority_as_signer(evidence)
