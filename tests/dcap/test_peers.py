# SPDX-License-Identifier: Apache-2.0
"""Verifiers that nobody here wrote: what they make of the emulated platform's quotes."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_crl
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dcap.conformance.suite import CASES
from tests.dcap.issuing import Evidence, components
from tests.platform.reporting import report_of

from ensconce.cli import cli, run
from ensconce.dcap import Collateral, Policy, Reason, Root, TcbStatus, validate, verify
from ensconce.dcap.quote import TdReport, TdReport15
from ensconce.isa.report import Report, ReportBody
from ensconce.machine.identity import Identity
from ensconce.platform.certificates import pem
from ensconce.platform.quoting import EmulatedPlatform

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


# what dcap-qvl 0.7.0 accepts and is not genuine, and refuses and is
DCAP_QVL_ACCEPTS = {
    "bytes_after_the_certification",
    "bytes_after_the_quote",
    "collateral_rolled_back",
    "crl_rolled_back",
    "enclave_of_32_bits",
    "enclave_that_is_not_initialised",
    "evaluation_numbers_differ",
    "level_by_components_and_not_by_cpusvn",
    "pce_id_mismatch",
    "pck_crl_from_the_future",
    "pck_signs_qe_identity",
    "pck_signs_tcb_info",
    "pck_that_may_not_sign",
    "ppid_of_another_platform",
    "qe_report_data_in_its_reserved_half",
    "root_crl_from_the_future",
    "tcb_signer_that_may_not_sign",
}
DCAP_QVL_REFUSES = {
    "qe_auth_data_empty",
    "qe_auth_data_longest",
    "tcb_info_v2",
    "valid_sgx_v4",
    "valid_sgx_v5",
}


def dcap_qvl() -> Any:
    """Return the peer's package."""
    return pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed")


@pytest.fixture(scope="module")
def platform() -> EmulatedPlatform:
    return EmulatedPlatform.of(Identity.generate())


@pytest.fixture(scope="module")
def report(platform: EmulatedPlatform) -> Report:
    """Give a REPORT for the quoting enclave that this platform made."""
    return report_of(platform.identity, platform.quoter.target_info)


def root_of(platform: EmulatedPlatform) -> bytes:
    return platform.pcs.root.certificate().public_bytes(Encoding.DER)


def collateral_of(platform: EmulatedPlatform) -> Collateral:
    return Collateral.parse(json.dumps(platform.pcs.collateral(NOW)).encode())


def test_dcap_qvl_accepts_a_quote_when_told_the_test_root(
    platform: EmulatedPlatform, report: Report
) -> None:
    peer = dcap_qvl()
    collateral = peer.QuoteCollateralV3.from_json(json.dumps(platform.pcs.collateral(NOW)))
    quote, now = platform.quoter.quote(report), int(NOW.timestamp())
    assert peer.verify_with_root_ca(quote, collateral, root_of(platform), now).status == "UpToDate"
    with pytest.raises(ValueError, match="Verification failed"):
        peer.verify(quote, collateral, now)


@pytest.mark.parametrize("version", [3, 4])
def test_intels_library_of_2022_accepts_a_quote_when_told_the_test_root(
    platform: EmulatedPlatform, report: Report, version: int
) -> None:
    why = "sgx-dcap-quote-verify-python is not installed"
    peer = pytest.importorskip("sgx_dcap_quote_verify", reason=why)
    made = platform.pcs.collateral(NOW)
    crls = [
        load_der_x509_crl(bytes.fromhex(made[name])).public_bytes(Encoding.PEM).decode()
        for name in ("root_ca_crl", "pck_crl")
    ]
    leaf, *above = platform.pck.chain()
    result = peer.verify(
        pem([platform.pcs.root.certificate()]),
        pem([leaf]),
        pem(above),
        *crls,
        f'{{"tcbInfo":{made["tcb_info"]},"signature":"{made["tcb_info_signature"]}"}}',
        made["tcb_info_issuer_chain"],
        platform.quoter.quote(report, version=version),
        f'{{"enclaveIdentity":{made["qe_identity"]},'
        f'"signature":"{made["qe_identity_signature"]}"}}',
        NOW.replace(tzinfo=None),
    )
    assert result.ok
    assert result.quote_status == peer.VerificationStatus.STATUS_OK


def test_dcap_qvl_agrees_with_the_suite_but_for_known_cases() -> None:
    peer = dcap_qvl()
    accepts, refuses = set(), set()
    for case in CASES:
        evidence = case.evidence(NOW)
        try:
            collateral = peer.QuoteCollateralV3.from_json(json.dumps(evidence.collateral()))
            root, now = evidence.root, int(NOW.timestamp())
            peer.verify_with_root_ca(evidence.quote(), collateral, root, now)
            accepts.add(case.name)
        except ValueError:
            refuses.add(case.name)
    genuine = {case.name for case in CASES if case.genuine}
    assert accepts - genuine == DCAP_QVL_ACCEPTS
    assert refuses & genuine == DCAP_QVL_REFUSES


# --- random TCB levels ---

LOW = st.integers(0, 2)
SVNS = st.tuples(LOW, LOW, LOW).map(bytes)
TEE_SVNS = st.tuples(st.integers(0, 5), st.integers(0, 1), LOW).map(bytes)
STATUSES = st.sampled_from(
    [status.value for status in TcbStatus if not status.value.startswith("TDRelaunch")]
)
LEVELS = st.lists(st.tuples(SVNS, LOW, SVNS, STATUSES), max_size=4)
ISV_LEVELS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["UpToDate", "OutOfDate", "Revoked"])),
    min_size=1,
    max_size=3,
    unique_by=lambda level: level[0],
)
DATE = {"tcbDate": "2026-01-01T00:00:00Z"}


def isv_levels(drawn: list[tuple[int, str]], name: str) -> list[dict[str, object]]:
    """Return the levels of an enclave or a TDX module."""
    return [
        DATE | {"tcb": {"isvsvn": least}, "tcbStatus": status, "advisoryIDs": [f"{name}-{least}"]}
        for least, status in sorted(drawn, reverse=True)
    ]


@st.composite
def evidence_at_levels(draw: st.DrawFn) -> Evidence:
    """Draw evidence of a platform, a TDX module and a QE under TCB levels as they come."""
    evidence = draw(st.sampled_from([Evidence.sgx, Evidence.tdx]))(NOW)
    cpu_svn = draw(SVNS).ljust(16, b"\0")
    evidence.certify(components=tuple(cpu_svn), cpu_svn=cpu_svn, pce_svn=draw(LOW))
    evidence.qe_report = replace(evidence.qe_report, isv_svn=draw(st.integers(0, 5)))
    evidence.tcb_info["tcbLevels"] = [
        DATE
        | {
            "tcb": {
                "sgxtcbcomponents": components(least),
                "tdxtcbcomponents": components(tdx),
                "pcesvn": pce_svn,
            },
            "tcbStatus": status,
            "advisoryIDs": [f"PLATFORM-{number}"],
        }
        for number, (least, pce_svn, tdx, status) in enumerate(
            [*draw(LEVELS), (b"", 0, b"", "OutOfDate")]
        )
    ]
    evidence.qe_identity["tcbLevels"] = isv_levels(draw(ISV_LEVELS), "QE")
    if isinstance(evidence.body, TdReport):
        module = evidence.tcb_info["tdxModuleIdentities"][0]
        module["tcbLevels"] = isv_levels(draw(ISV_LEVELS), "MODULE")
        svns = draw(TEE_SVNS).ljust(16, b"\0")
        evidence.body = replace(evidence.td, tee_tcb_svn=svns)
        if draw(st.booleans()):
            evidence.tdx_15(draw(TEE_SVNS))
    return evidence


@given(evidence_at_levels())
@settings(max_examples=300)
def test_dcap_qvl_comes_to_the_same_status(evidence: Evidence) -> None:
    peer = dcap_qvl()
    quote, collateral = evidence.quote(), json.dumps(evidence.collateral())
    roots = (Root.parse(evidence.root),)
    ours = verify(quote, Collateral.parse(collateral.encode()), NOW, roots=roots)
    now = int(NOW.timestamp())
    made = peer.QuoteCollateralV3.from_json(collateral)
    try:
        theirs = peer.verify_with_root_ca(quote, made, evidence.root, now)
    except ValueError:
        assert not ours.genuine
        return
    if not isinstance(evidence.body, ReportBody) and ours.reason is Reason.TCB_REVOKED:
        return  # the platform's SGX level is revoked, which the peer lets pass under TDX
    assert ours.tcb_status is not None
    assert ours.tcb_status.value == theirs.status
    if isinstance(evidence.body, TdReport15):  # ours are those of the running module too
        assert set(ours.advisory_ids) >= set(theirs.advisory_ids)
    else:
        assert set(ours.advisory_ids) == set(theirs.advisory_ids)


@pytest.mark.parametrize("version", [3, 4])
def test_a_production_policy_refuses_the_same_quote(
    platform: EmulatedPlatform, report: Report, version: int
) -> None:
    quote = platform.quoter.quote(report, version=version)
    collateral = collateral_of(platform)
    assert verify(quote, collateral, NOW).reason is Reason.ROOT_NOT_TRUSTED
    root = Root.parse(root_of(platform))
    claims = verify(quote, collateral, NOW, roots=(root,)).claims
    assert claims is not None
    assert [each.key for each in validate(claims, Policy())] == ["accept_emulated_root"]
    assert validate(claims, Policy(accept_emulated_root=root.fingerprint)) == []


def test_a_platform_is_out_of_date_after_an_advance_and_up_to_date_after_its_recovery(
    platform: EmulatedPlatform,
) -> None:
    def status(identity: Identity) -> tuple[str, tuple[str, ...]]:
        found = EmulatedPlatform.of(identity, ledger)
        made = report_of(identity, found.quoter.target_info)
        roots = (Root.parse(root_of(found)),)
        verdict = verify(found.quoter.quote(made), collateral_of(found), NOW, roots=roots)
        assert verdict.tcb_status is not None
        return verdict.tcb_status.value, verdict.advisory_ids

    ledger = EmulatedPlatform.of(platform.identity).pcs.ledger
    assert status(platform.identity) == ("UpToDate", ())
    ledger.advance(platform.identity, NOW, ("EXAMPLE-SA-1",))
    assert status(platform.identity) == ("OutOfDate", ("EXAMPLE-SA-1",))
    assert status(platform.identity.recovered()) == ("UpToDate", ())


def test_files_from_the_command_line_verify_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, report, quote = (tmp_path / name for name in ("platform", "report", "quote"))
    collateral, root, policy = (tmp_path / name for name in ("collateral", "root", "policy"))
    assert run(cli, ["platform", "init", "--path", str(path)]) == 0
    made = EmulatedPlatform.load(path)
    report.write_bytes(bytes(report_of(made.identity, made.quoter.target_info)))
    told = ["--path", str(path)]
    assert (
        run(cli, ["platform", "quote", *told, str(report), str(quote), "--backend", "emulated"])
        == 0
    )
    files = [str(collateral), "--root-ca", str(root)]
    assert run(cli, ["platform", "collateral", *told, *files]) == 0
    capsys.readouterr()
    verification = ["verify", str(quote), "--collateral", str(collateral), "--json"]
    assert run(cli, verification) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "root_not_trusted"
    verification += ["--root-ca", str(root)]
    assert run(cli, verification) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "policy_mismatch"
    policy.write_text(f'accept_emulated_root = "{Root.parse(root.read_bytes()).fingerprint.hex()}"')
    assert run(cli, [*verification, "--policy", str(policy)]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"] is True
    assert run(cli, ["platform", "pcs", "revoke", *told]) == 0
    assert run(cli, ["platform", "collateral", *told, *files]) == 0
    capsys.readouterr()
    assert run(cli, [*verification, "--policy", str(policy)]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "pck_revoked"
