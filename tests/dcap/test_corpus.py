# SPDX-License-Identifier: Apache-2.0
"""Real evidence gets the facts that its folder states: two other verifiers' answers.

Where another verifier refuses for what is policy here (debug, SEPT_VE_DISABLE, service TDs), the
quote is genuine, and `validate` is what refuses it (test_validate.py).
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.dcap.corpus import (
    COMPLETE,
    CORPUS,
    collateral_of,
    every_complete_case,
    facts_of,
    needs_corpus,
    quote_of,
    signed_in,
    time_of,
)

from ensconce.dcap import (
    Collateral,
    Quote,
    Reason,
    Root,
    TcbStatus,
    Verdict,
    verify,
)
from ensconce.dcap.certificate import parse_chain, public_key, signature_holds

pytestmark = needs_corpus

SAMPLE = CORPUS / "intel-sampleapp-testca"
NO_LEVEL = "ERR: Verification failed: No matching TCB level found"
# the second opinion on SGX: Intel's own library
INTELS = {
    "STATUS_TCB_SW_HARDENING_NEEDED": TcbStatus.SW_HARDENING_NEEDED,
    "STATUS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED": (
        TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED
    ),
    "STATUS_TCB_OUT_OF_DATE": TcbStatus.OUT_OF_DATE,
}


def verdict_of(case: Path) -> tuple[Verdict, dict[str, Any]]:
    verdict = verify(quote_of(case), collateral_of(case), time_of(case))
    return verdict, facts_of(case)


@every_complete_case
def test_real_evidence_gets_the_status_and_advisories_of_another_verifier(case: Path) -> None:
    verdict, facts = verdict_of(case)
    expected = facts["expected_dcap_qvl"]
    if expected == NO_LEVEL:
        assert (verdict.reason, verdict.step) == (Reason.TCB_LEVEL_NOT_FOUND, 19)
        assert verdict.claims is None
        return
    assert verdict.genuine
    if not expected.startswith("ERR"):
        assert verdict.tcb_status is TcbStatus(expected)
        assert set(verdict.advisory_ids) == set(facts["advisories"])


@every_complete_case
def test_real_sgx_evidence_gets_the_status_of_intels_library(case: Path) -> None:
    verdict, facts = verdict_of(case)
    if facts["intel_qvl_oracle"] is not None:
        assert verdict.tcb_status is INTELS[facts["intel_qvl_oracle"]["quote"]]


@every_complete_case
def test_a_genuine_quote_says_when_its_collateral_ends_and_what_it_is_of(case: Path) -> None:
    verdict, facts = verdict_of(case)
    if verdict.claims is not None:
        assert str(verdict.expires) == facts["valid_until"]
        assert verdict.claims.tcb_evaluation_data_number == facts["tcb_eval"]
        assert verdict.claims.pck.fmspc.hex() == facts["fmspc"]
        assert verdict.claims.root.production


def sample_collateral() -> Collateral:
    """Return the collateral of Intel's sample, whose parts lie in files of their own."""
    pck_chain, tcb_chain = (
        (SAMPLE / name).read_text() for name in ("pckSignChain.pem", "tcbSignChain.pem")
    )
    tcb_info, tcb_info_signature = signed_in(SAMPLE / "tcbInfo.json", "tcbInfo")
    identity, identity_signature = signed_in(SAMPLE / "qeIdentity.json", "enclaveIdentity")
    values = {
        "pck_certificate_chain": (SAMPLE / "pckCert.pem").read_text() + pck_chain,
        "pck_crl_issuer_chain": pck_chain,
        "root_ca_crl": (SAMPLE / "rootCaCrl.der").read_bytes().hex(),
        "pck_crl": (SAMPLE / "intermediateCaCrl.der").read_bytes().hex(),
        "tcb_info_issuer_chain": tcb_chain,
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_info_signature,
        "qe_identity_issuer_chain": tcb_chain,
        "qe_identity": identity,
        "qe_identity_signature": identity_signature,
    }
    return Collateral.parse(json.dumps(values).encode())


def test_intels_sample_holds_under_its_root_but_for_its_evaluation_numbers() -> None:
    (root,) = parse_chain((SAMPLE / "trustedRootCaCert.pem").read_bytes(), "root")
    now = datetime(2025, 1, 1, tzinfo=UTC)
    quote, collateral = (SAMPLE / "quote.dat").read_bytes(), sample_collateral()
    verdict = verify(quote, collateral, now, roots=[Root(root)])
    assert (verdict.reason, verdict.step) == (Reason.EVALUATION_NUMBERS_DIFFER, 9)
    assert verify(quote, collateral, now).reason is Reason.ROOT_NOT_TRUSTED


def test_a_quote_without_a_pck_certificate_needs_one_with_the_collateral() -> None:
    case = next(case for case in COMPLETE if case.name.startswith("sgx-v3"))
    bare = (CORPUS / "negative" / "quote_raw_tcb.bin").read_bytes()
    verdict = verify(bare, collateral_of(case), time_of(case))
    assert verdict.reason is Reason.PCK_CHAIN_MISSING


def test_a_chain_with_the_root_before_the_ca_is_read_and_a_changed_signature_is_not_taken() -> None:
    case = next(case for case in COMPLETE if "Processor" in facts_of(case)["pck_ca"])
    for name, good in (("quote_pck_cert_chain", True), ("quote_pck_cert_chain_corrupted", False)):
        raw = (CORPUS / "negative" / f"{name}.bin").read_bytes()
        quote = Quote.parse(raw)
        key = public_key(quote.attestation_key)
        assert signature_holds(key, quote.signature, quote.signed) is good
        assert verify(raw, collateral_of(case), time_of(case)).reason is Reason.FMSPC_DIFFERS
