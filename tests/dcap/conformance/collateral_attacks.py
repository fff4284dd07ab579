# SPDX-License-Identifier: Apache-2.0
"""Attacks by collateral and certificates that no published suite covers.

Most come from advisories and reviews of verifiers. A case changes one thing, and signs again
with the right key what an attacker who has that key would sign again.
"""

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from tests.dcap.conformance.cases import FORMAT, GENUINE, Suite
from tests.dcap.issuing import Evidence, compact, impostor_of

from ensconce.dcap.chain import PckCa
from ensconce.dcap.roots import INTEL_ROOT_DER
from ensconce.platform.certificates import CA_USAGE, LEAF_USAGE, Certified, pem

__all__ = ["COLLATERAL_ATTACKS"]

COLLATERAL_ATTACKS = Suite()
case = COLLATERAL_ATTACKS.case

_DAY = timedelta(days=1)
_LONG_AGO = timedelta(days=400)


# --- genuine ---


@case(GENUINE)
def processor_ca(evidence: Evidence) -> None:
    """A platform that the Processor CA certifies."""
    pcs = evidence.pcs
    pcs.ca = PckCa.PROCESSOR
    evidence.pck.issuer = pcs.authorities[pcs.ca]


@case(GENUINE)
def tcb_info_v2(evidence: Evidence) -> None:
    """TCB info of version 2."""
    evidence.tcb_info["version"] = 2
    del evidence.tcb_info["id"]
    for level in evidence.levels:
        svns = level["tcb"].pop("sgxtcbcomponents")
        level["tcb"] |= {f"sgxtcbcomp{n:02}svn": svn["svn"] for n, svn in enumerate(svns, 1)}


@case(GENUINE)
def fmspc_in_lower_case(evidence: Evidence) -> None:
    """An FMSPC in lower case."""
    evidence.tcb_info["fmspc"] = evidence.tcb_info["fmspc"].lower()


@case(GENUINE)
def tcb_levels_in_another_order(evidence: Evidence) -> None:
    """TCB levels with the lowest first."""
    evidence.levels.reverse()


# --- revocation ---


@case("pck_revoked")
def revoked_pck(evidence: Evidence) -> None:
    """A PCK certificate that is revoked."""
    evidence.pcs.ledger.revoked[evidence.pck.serial_number] = evidence.issued


@case("certificate_revoked")
def revoked_pck_ca(evidence: Evidence) -> None:
    """A PCK CA that is revoked."""
    authority = evidence.pcs.authorities[evidence.pcs.ca]
    evidence.pcs.ledger.revoked[authority.serial_number] = evidence.issued


@case("certificate_revoked")
def revoked_tcb_signer(evidence: Evidence) -> None:
    """A TCB signing certificate that is revoked."""
    evidence.pcs.ledger.revoked[evidence.pcs.tcb_signing.serial_number] = evidence.issued


@case("crl_validity")
def pck_crl_expired(evidence: Evidence) -> None:
    """A PCK CRL whose time has passed."""
    evidence.pck_crl = evidence.pcs.pck_crl(evidence.now - _LONG_AGO)


@case("crl_validity")
def pck_crl_from_the_future(evidence: Evidence) -> None:
    """A PCK CRL whose time has not come."""
    evidence.pck_crl = evidence.pcs.pck_crl(evidence.now + _DAY)


@case("crl_validity")
def root_crl_expired(evidence: Evidence) -> None:
    """A root CRL whose time has passed."""
    evidence.root_crl = evidence.pcs.root_crl(evidence.now - _LONG_AGO)


@case("crl_validity")
def root_crl_from_the_future(evidence: Evidence) -> None:
    """A root CRL whose time has not come."""
    evidence.root_crl = evidence.pcs.root_crl(evidence.now + _DAY)


@case("crl_issuer")
def pck_crl_of_an_impostor(evidence: Evidence) -> None:
    """A PCK CRL that somebody else signed in the CA's name, to hide a revocation."""
    revoked_pck(evidence)
    evidence.pck_crl = impostor_of(evidence).pcs.pck_crl(evidence.issued)


@case("crl_issuer")
def root_crl_of_an_impostor(evidence: Evidence) -> None:
    """A root CRL that somebody else signed in the root's name, to hide a revocation."""
    revoked_pck_ca(evidence)
    evidence.root_crl = impostor_of(evidence).pcs.root_crl(evidence.issued)


@case("crl_issuer")
def crl_of_the_other_pck_ca(evidence: Evidence) -> None:
    """The Processor CA's CRL where the platform's is of the Platform CA."""
    revoked_pck(evidence)
    evidence.pck_crl = evidence.pcs.pck_crl(evidence.issued, PckCa.PROCESSOR)


@case("pck_ca_differs")
def crl_and_chain_of_the_other_pck_ca(evidence: Evidence) -> None:
    """The Processor CA's CRL with its chain where the platform's is of the Platform CA."""
    crl_of_the_other_pck_ca(evidence)
    chain = pem(evidence.pcs.authorities[PckCa.PROCESSOR].chain())
    evidence.final["pck_crl_issuer_chain"] = chain


@case("crl_issuer")
def root_crl_in_place_of_the_pck_crl(evidence: Evidence) -> None:
    """The root's CRL twice, which says nothing of the PCK."""
    revoked_pck(evidence)
    evidence.pck_crl = evidence.pcs.root_crl(evidence.issued)


@case("crl_unknown_extension")
def pck_crl_that_is_partial(evidence: Evidence) -> None:
    """A delta CRL, which lists the changes since another one only."""
    authority = evidence.pcs.authorities[evidence.pcs.ca]
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.name)
        .last_update(evidence.issued)
        .next_update(evidence.now + _DAY)
        .add_extension(x509.CRLNumber(2), critical=False)
        .add_extension(x509.DeltaCRLIndicator(1), critical=True)
        .sign(authority.signing_key, SHA256())
    )
    evidence.pck_crl = made.public_bytes(Encoding.DER)


# --- certificates ---


@case("certificate_role")
def pck_ca_that_is_no_ca(evidence: Evidence) -> None:
    """An intermediate that is no CA."""
    authority = evidence.pcs.authorities[evidence.pcs.ca]
    authority.ca, authority.path_length = False, None


@case("certificate_role")
def pck_ca_that_may_not_certify(evidence: Evidence) -> None:
    """An intermediate whose key usage is a leaf's."""
    evidence.pcs.authorities[evidence.pcs.ca].usage = LEAF_USAGE


@case("certificate_role")
def tcb_signer_that_may_not_sign(evidence: Evidence) -> None:
    """A TCB signing certificate whose key usage is a CA's."""
    evidence.pcs.tcb_signing.usage = CA_USAGE


@case("certificate_role")
def pck_that_may_not_sign(evidence: Evidence) -> None:
    """A PCK certificate whose key usage is a CA's."""
    evidence.pck.usage = CA_USAGE


@case("certificate_role")
def pck_that_is_a_ca(evidence: Evidence) -> None:
    """A PCK certificate that is a CA's."""
    evidence.pck.ca, evidence.pck.path_length = True, 0


@case("certificate_role")
def pck_without_a_platform(evidence: Evidence) -> None:
    """A PCK certificate without the SGX extension."""
    evidence.pck.sgx_extension = None


@case("certificate_validity")
def pck_expired(evidence: Evidence) -> None:
    """A PCK certificate whose time has passed."""
    evidence.pck.not_after = evidence.now - _DAY


@case("certificate_validity")
def pck_ca_expired(evidence: Evidence) -> None:
    """A PCK CA whose time has passed."""
    evidence.pcs.authorities[evidence.pcs.ca].not_after = evidence.now - _DAY


@case("certificate_validity")
def tcb_signer_expired(evidence: Evidence) -> None:
    """A TCB signing certificate whose time has passed."""
    evidence.pcs.tcb_signing.not_after = evidence.now - _DAY


@case(FORMAT)
def pck_under_a_ca_too_many(evidence: Evidence) -> None:
    """A PCK certificate of a CA below the PCK CA, which may not certify CAs."""
    key = impostor_of(evidence).pck_key
    authority = evidence.pcs.authorities[evidence.pcs.ca]
    evidence.pck.issuer = replace(authority, issuer=authority, key=key, public_key=key.public_key())


@case("certificate_signature")
def pck_of_an_impostor(evidence: Evidence) -> None:
    """A PCK that somebody else certified in the CA's name."""
    authority = evidence.pcs.authorities[evidence.pcs.ca]
    evidence.pck.issuer = replace(authority, key=impostor_of(evidence).pck_key)


@case("root_not_trusted")
def second_root_of_the_same_name(evidence: Evidence) -> None:
    """Everything under a root with the trusted one's name and another key."""
    trusted = evidence.root
    vars(evidence).update(vars(impostor_of(evidence)))
    evidence.trusted = trusted


@case("root_not_trusted")
def second_root_with_intels_name(evidence: Evidence) -> None:
    """Everything under Intel's names, and Intel's own root is trusted."""
    pcs = evidence.pcs
    for entity in (pcs.root, *pcs.authorities.values(), pcs.tcb_signing, evidence.pck):
        entity.common_name = entity.common_name.replace("ensconce emulated", "Intel")
        entity.organization = "Intel Corporation"
    evidence.trusted = INTEL_ROOT_DER


def _signing(evidence: Evidence, entity: Certified) -> Certified:
    """Return an entity as a signer, with the key that the case has and the PCS does not."""
    return replace(entity, key=evidence.pck_key)


@case("chain_incomplete")
def pck_signs_tcb_info(evidence: Evidence) -> None:
    """TCB info that a platform's own PCK signed, with its genuine chain."""
    evidence.tcb_signer = _signing(evidence, evidence.pck)


@case("chain_incomplete")
def pck_signs_qe_identity(evidence: Evidence) -> None:
    """A QE identity that a platform's own PCK signed, with its genuine chain."""
    evidence.qe_signer = _signing(evidence, evidence.pck)


@case("chain_incomplete")
def tcb_signer_as_pck(evidence: Evidence) -> None:
    """A quote that the TCB signing key vouches for instead of a PCK."""
    signer = evidence.pcs.tcb_signing
    evidence.pck, evidence.pck_key = signer, signer.signing_key


# --- collateral ---


@case("pce_id_differs")
def pce_id_mismatch(evidence: Evidence) -> None:
    """TCB info for another PCE."""
    evidence.tcb_info["pceId"] = "0001"


@case("tcb_level_not_found")
def level_by_components_and_not_by_cpusvn(evidence: Evidence) -> None:
    """A platform whose CPUSVN, which is opaque, is high, and whose components are low."""
    del evidence.levels[1:]
    evidence.certify(components=(0,) * 16)


@case("tcb_info_signature")
def tcb_info_with_spaces(evidence: Evidence) -> None:
    """TCB info that was formatted anew."""
    evidence.final["tcb_info"] = json.dumps(evidence.tcb_info)


@case("tcb_info_signature")
def tcb_info_in_another_order(evidence: Evidence) -> None:
    """TCB info whose keys were sorted."""
    evidence.final["tcb_info"] = compact(dict(sorted(evidence.tcb_info.items())))


@case("qe_identity_signature")
def qe_identity_with_spaces(evidence: Evidence) -> None:
    """A QE identity that was formatted anew."""
    evidence.final["qe_identity"] = json.dumps(evidence.qe_identity, indent=1)


def _twice(fields: dict[str, Any], key: str, value: object) -> str:
    """Return JSON that gives a key twice, with another value the second time."""
    return compact(fields)[:-1] + "," + compact({key: value})[1:]


@case(FORMAT)
def tcb_info_with_a_key_twice(evidence: Evidence) -> None:
    """TCB info, rightly signed, that gives its levels twice."""
    evidence.levels[0]["tcbStatus"] = "Revoked"
    better = [evidence.levels[0] | {"tcbStatus": "UpToDate"}]
    evidence.sign("tcb_info", _twice(evidence.tcb_info, "tcbLevels", better))


@case(FORMAT)
def qe_identity_with_a_key_twice(evidence: Evidence) -> None:
    """A QE identity, rightly signed, that gives its signer twice."""
    signer = evidence.qe_identity["mrsigner"]
    fields = evidence.qe_identity | {"mrsigner": "FF" * 32}
    evidence.sign("qe_identity", _twice(fields, "mrsigner", signer))


@case("evaluation_numbers_differ")
def evaluation_numbers_differ(evidence: Evidence) -> None:
    """TCB info and QE identity of different TCB evaluations."""
    evidence.qe_identity["tcbEvaluationDataNumber"] = 2


def _evaluated(evidence: Evidence, number: int) -> None:
    """Have the collateral be of a TCB evaluation."""
    for document in (evidence.tcb_info, evidence.qe_identity):
        document["tcbEvaluationDataNumber"] = number


@case("collateral_rolled_back", before=partial(_evaluated, number=5))
def collateral_rolled_back(evidence: Evidence) -> None:
    """Collateral of TCB evaluation 4, valid still, after that of 5 was seen."""
    _evaluated(evidence, 4)


@case("collateral_rolled_back", before=revoked_pck)
def crl_rolled_back(evidence: Evidence) -> None:
    """The CRL of before a revocation, valid still, after the newer one was seen."""
