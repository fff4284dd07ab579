# SPDX-License-Identifier: Apache-2.0
"""Real evidence gets the facts that its folder states: two other verifiers' answers.

Where another verifier refuses for what is policy here (debug, SEPT_VE_DISABLE, service TDs), the
quote is genuine, and `validate` is what refuses it (test_validate.py).
"""

from pathlib import Path
from typing import Any

from tests.dcap.corpus import (
    collateral_of,
    every_complete_case,
    facts_of,
    needs_corpus,
    quote_of,
    time_of,
)

from ensconce.dcap import Reason, TcbStatus, Verdict, verify

pytestmark = needs_corpus

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
