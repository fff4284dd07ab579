# SPDX-License-Identifier: Apache-2.0
"""Claims are compared with a policy: everything that differs is reported, the default is strict."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.dcap.corpus import (
    collateral_of,
    every_complete_case,
    facts_of,
    needs_corpus,
    quote_of,
    time_of,
)

from ensconce.dcap import INTEL_ROOT, Claims, TcbStatus, verify
from ensconce.dcap.pck import PckExtension, SgxType
from ensconce.dcap.policy import Policy, SgxPolicy, TcbPolicy, TdxPolicy
from ensconce.dcap.quote import (
    Body,
    Certification,
    CertificationKind,
    Quote,
    QuoteHeader,
    TdReport,
    TdReport15,
    TeeType,
    signed_part,
)
from ensconce.dcap.roots import Root
from ensconce.dcap.validate import validate
from ensconce.isa.attributes import AttributeFlags, Attributes
from ensconce.isa.report import ReportBody

NOW = datetime(2026, 11, 24, tzinfo=UTC)
GOOD = AttributeFlags.INIT | AttributeFlags.MODE64BIT
ENCLAVE = ReportBody(
    attributes=Attributes(GOOD),
    mr_enclave=b"\1" * 32,
    mr_signer=b"\2" * 32,
    isv_prod_id=3,
    isv_svn=4,
    config_id=b"\5" * 64,
    config_svn=6,
    isv_family_id=b"\7" * 16,
    isv_ext_prod_id=b"\x08" * 16,
    report_data=b"\x09" * 64,
)
SEPT_VE_DISABLE = 1 << 28
DOMAIN = TdReport(td_attributes=SEPT_VE_DISABLE, mr_td=b"\1" * 48, report_data=b"\x09" * 64)


def claims_of(body: Body = ENCLAVE, **changes: object) -> Claims:
    if isinstance(body, ReportBody):
        header = QuoteHeader()
    else:
        header = QuoteHeader(5 if isinstance(body, TdReport15) else 4, tee_type=TeeType.TDX)
    none = Certification(CertificationKind.PCK_CHAIN, b"")
    quote = Quote(signed_part(header, body), b"", b"", b"", b"", b"", none)
    platform = PckExtension(b"", (0,) * 16, 0, b"", b"", b"", SgxType.STANDARD)
    made = Claims(quote, platform, INTEL_ROOT, TcbStatus.UP_TO_DATE, (), NOW, 17, NOW)
    return replace(made, **changes)  # type: ignore[arg-type]


def keys_of(claims: Claims, policy: Policy | None = None) -> list[str]:
    return [mismatch.key for mismatch in validate(claims, policy or Policy())]


EXACT = SgxPolicy(
    mr_enclave=(bytes(32), ENCLAVE.mr_enclave),
    mr_signer=(ENCLAVE.mr_signer,),
    isv_prod_id=(3,),
    min_isv_svn=4,
    isv_ext_prod_id=(ENCLAVE.isv_ext_prod_id,),
    isv_family_id=(ENCLAVE.isv_family_id,),
    config_id=(ENCLAVE.config_id,),
    min_config_svn=6,
)


def test_an_enclave_that_is_all_that_is_wanted_is_accepted() -> None:
    assert validate(claims_of(), Policy(EXACT, report_data=ENCLAVE.report_data)) == []


def test_every_mismatch_of_an_enclave_is_reported_at_once() -> None:
    other = ReportBody(attributes=Attributes(GOOD | AttributeFlags.DEBUG))
    claims = claims_of(other, tcb_status=TcbStatus.OUT_OF_DATE)
    assert keys_of(claims, Policy(EXACT, report_data=bytes(63) + b"\1")) == [
        "sgx.allow_debug",
        "sgx.mr_signer",
        "sgx.isv_prod_id",
        "sgx.min_isv_svn",
        "sgx.isv_ext_prod_id",
        "sgx.isv_family_id",
        "sgx.config_id",
        "sgx.min_config_svn",
        "report_data",
        "tcb.statuses",
    ]


@pytest.mark.parametrize("name", ["isv_svn", "config_svn"])
def test_a_floor_is_met_by_its_own_value_and_those_above(name: str) -> None:
    value = getattr(ENCLAVE, name)
    below = claims_of(replace(ENCLAVE, **{name: value - 1}))
    above = claims_of(replace(ENCLAVE, **{name: value + 1}))
    assert keys_of(below, Policy(EXACT)) == [f"sgx.min_{name}"]
    assert keys_of(above, Policy(EXACT)) == []


def test_debug_enclaves_are_refused_unless_allowed() -> None:
    debug = claims_of(replace(ENCLAVE, attributes=Attributes(GOOD | AttributeFlags.DEBUG)))
    assert keys_of(debug) == ["sgx.allow_debug"]
    assert keys_of(debug, Policy(SgxPolicy(allow_debug=True))) == []


@pytest.mark.parametrize("missing", [AttributeFlags.INIT, AttributeFlags.MODE64BIT])
def test_enclaves_that_are_not_initialised_and_64_bit_are_refused(missing: AttributeFlags) -> None:
    claims = claims_of(replace(ENCLAVE, attributes=Attributes(GOOD & ~missing)))
    assert keys_of(claims, Policy(SgxPolicy(allow_debug=True))) == ["sgx"]


def test_the_kind_of_enclave_that_a_policy_has_no_table_for_is_refused() -> None:
    assert keys_of(claims_of(), Policy(sgx=None)) == ["sgx"]
    assert keys_of(claims_of(DOMAIN), Policy(tdx=None)) == ["tdx"]


@pytest.mark.parametrize("bit", range(64))
def test_each_attribute_of_a_domain_is_judged(bit: int) -> None:
    claims = claims_of(replace(DOMAIN, td_attributes=SEPT_VE_DISABLE | 1 << bit))
    harmless = [] if bit in (28, 30, 31, 63) else ["tdx"]
    expected = ["tdx.allow_debug"] if bit < 8 else harmless
    assert keys_of(claims) == expected


def test_a_domain_whose_host_may_inject_exceptions_is_refused_unless_allowed() -> None:
    claims = claims_of(replace(DOMAIN, td_attributes=0))
    assert keys_of(claims) == ["tdx.allow_sept_ve"]
    assert keys_of(claims, Policy(tdx=TdxPolicy(allow_sept_ve=True))) == []


@pytest.mark.parametrize(
    "name", ["mr_td", "mr_config_id", "mr_owner", "mr_owner_config", *(f"rtmr{n}" for n in "0123")]
)
def test_each_measurement_of_a_domain_is_compared(name: str) -> None:
    policy = Policy(tdx=TdxPolicy(**{name: (b"\xee" * 48,)}))  # type: ignore[arg-type]
    for body in (DOMAIN, TdReport15(DOMAIN)):
        assert keys_of(claims_of(body), policy) == [f"tdx.{name}"]
        td = replace(DOMAIN, **{name: b"\xee" * 48})  # type: ignore[arg-type]
        same = td if body is DOMAIN else TdReport15(td)
        assert keys_of(claims_of(same), policy) == []


def test_a_service_domain_is_refused_unless_named() -> None:
    served = claims_of(TdReport15(DOMAIN, mr_service_td=b"\1" * 48))
    named = Policy(tdx=TdxPolicy(mr_service_td=(b"\1" * 48,)))
    assert keys_of(served) == ["tdx.mr_service_td"]
    assert keys_of(served, named) == []
    assert keys_of(claims_of(TdReport15(DOMAIN)), named) == ["tdx.mr_service_td"]
    assert keys_of(claims_of(DOMAIN), named) == ["tdx.mr_service_td"]


def test_report_data_of_a_domain_are_compared() -> None:
    for body in (DOMAIN, TdReport15(DOMAIN)):
        assert keys_of(claims_of(body), Policy(report_data=b"\x09" * 64)) == []
        assert keys_of(claims_of(body), Policy(report_data=bytes(64))) == ["report_data"]


@pytest.mark.parametrize("status", [status for status in TcbStatus if status.value != "UpToDate"])
def test_only_up_to_date_platforms_are_accepted_unless_a_status_is_named(
    status: TcbStatus,
) -> None:
    claims = claims_of(tcb_status=status)
    assert keys_of(claims) == ["tcb.statuses"]
    assert keys_of(claims, Policy(tcb=TcbPolicy(statuses=(status,)))) == []


def test_grace_ends_at_its_time() -> None:
    claims = claims_of(tcb_status=TcbStatus.OUT_OF_DATE)
    grace = Policy(tcb=TcbPolicy(grace=((TcbStatus.OUT_OF_DATE, NOW),)))
    assert keys_of(claims, grace) == []
    late = replace(claims, verified_at=NOW + timedelta(seconds=1))
    (mismatch,) = validate(late, grace)
    assert (mismatch.key, "grace ended 2026-11-24" in mismatch.found) == ("tcb.statuses", True)
    other = replace(claims, tcb_status=TcbStatus.CONFIGURATION_NEEDED)
    assert keys_of(other, grace) == ["tcb.statuses"]


def test_advisories_other_than_those_named_are_refused() -> None:
    claims = claims_of(advisory_ids=("INTEL-SA-1", "INTEL-SA-2", "INTEL-SA-3"))
    (mismatch,) = validate(claims, Policy(tcb=TcbPolicy(advisory_ids=("INTEL-SA-2",))))
    assert (mismatch.key, mismatch.found) == ("tcb.advisory_ids", "INTEL-SA-1, INTEL-SA-3")
    assert keys_of(claims) == []


def test_collateral_of_an_older_evaluation_is_refused() -> None:
    key = "tcb.min_tcb_evaluation_data_number"
    for least, expected in ((17, []), (18, [key])):
        policy = Policy(tcb=TcbPolicy(min_tcb_evaluation_data_number=least))
        assert keys_of(claims_of(), policy) == expected


def test_an_emulated_platform_is_refused_unless_its_root_is_named() -> None:
    emulated = Root(replace(INTEL_ROOT.certificate, fingerprint=b"\1" * 32))
    claims = claims_of(root=emulated)
    assert keys_of(claims) == ["accept_emulated_root"]
    assert keys_of(claims, Policy(accept_emulated_root=b"\1" * 32)) == []
    assert keys_of(claims, Policy(accept_emulated_root=b"\2" * 32)) == ["accept_emulated_root"]


def test_a_policy_for_emulated_platforms_takes_no_production_quote() -> None:
    named = Policy(accept_emulated_root=b"\1" * 32)
    assert set(keys_of(claims_of(), named)) == {"accept_emulated_root"}
    intels = Policy(accept_emulated_root=INTEL_ROOT.fingerprint)
    assert keys_of(claims_of(), intels) == ["accept_emulated_root"]


# what another verifier refuses as part of verification, by a word of its message
POLICIES = {
    "Debug mode": {"sgx.allow_debug", "tdx.allow_debug"},
    "SEPT_VE_DISABLE": {"tdx.allow_sept_ve"},
    "MR service TD": {"tdx.mr_service_td"},
}


@needs_corpus
@every_complete_case
def test_real_evidence_is_refused_by_policy_where_another_verifier_refuses_it(case: Path) -> None:
    verdict = verify(quote_of(case), collateral_of(case), time_of(case))
    if verdict.claims is None:
        return
    policy = Policy(tcb=TcbPolicy(statuses=tuple(TcbStatus)))
    found = set(keys_of(verdict.claims, policy))
    expected = facts_of(case)["expected_dcap_qvl"]
    reasons = [keys for words, keys in POLICIES.items() if words in expected]
    assert bool(found) is bool(reasons)
    for keys in reasons:
        assert keys & found
