# SPDX-License-Identifier: Apache-2.0
"""Checks that other verifiers missed, in public; each is made here, and a test shows it.

| what was missed | shown by |
|---|---|
| QE vendor ID | below, 1 |
| TDX module signer, attributes, SVN | test_tcb.py |
| a status other than UpToDate taken for valid | below, 2; test_validate.py |
| TCB component lists of other length cut by zip | test_tcb.py, test_tcb_info.py |
| MR_SERVICETD | test_validate.py |
| unbounded allocation, recursion in DER and JSON | below, 3; test_quote.py, test_tcb_info.py |
| CRLs in the collateral that nobody signed | below, 4; test_chain.py |
| TCB_REVOKED taken for success | below, 5 |
| quotes of the Processor CA, or of the Platform CA, refused | below, 6; test_chain.py |
| a verifying enclave's nonce in untrusted memory | no enclave and no nonce take part |
| a QE identity that is built in | below, 7 |
| FMSPC and PCE-ID of the TCB info not compared with the PCK certificate's | below, 8 |
| the evaluation number unused | below, 9; test_remembering.py, test_validate.py |
| expired collateral let pass, or not reported (TDX too) | below, 10 |
| issue date and next update of TCB info and QE identity | below, 10 |
| JSON serialised anew before its signature is checked | below, 11; test_mutations.py |
| the SGX QE identity used for TDX | below, 12 |
| wrong offsets in the QE report | records; test_quote.py |
| basic constraints, path length, key usage | test_chain.py |
| raw exceptions from malformed chains | below, 13; test_chain.py, fuzz_collateral.py |
| unchecked collateral kept in a shared cache | below, 14; test_remembering.py |
| the quote's signature checked without its chain | below, 15 |
| debug and 64-bit mode | test_validate.py |
| QE identity not checked at all | below, 7 and 16 |
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.dcap.certifying import NOW, Issuer
from tests.dcap.corpus import (
    COMPLETE,
    collateral_of,
    every_complete_case,
    facts_of,
    needs_corpus,
    quote_of,
    time_of,
)

from ensconce.dcap import (
    INTEL_ROOT,
    Cache,
    Collateral,
    Epoch,
    Quote,
    Reason,
    TcbStatus,
    Verdict,
    check_collateral,
    verify,
)
from ensconce.dcap.quote import QuoteHeader
from ensconce.dcap.tcb_info import IsvLevel
from ensconce.dcap.verdict import Refusal
from ensconce.errors import FormatError

pytestmark = needs_corpus
SECOND = timedelta(seconds=1)


def named(start: str) -> Path:
    return next(case for case in COMPLETE if case.name.startswith(start))


@pytest.fixture
def case() -> Path:
    return named("sgx-v3-00606a000000")


@pytest.fixture
def epoch(case: Path) -> Epoch:
    return check_collateral(collateral_of(case), time_of(case))


def told(case: Path, collateral: Collateral | Epoch, now: datetime | None = None) -> Verdict:
    return verify(quote_of(case), collateral, now or time_of(case))


def test_1_another_qe_vendor_is_refused(case: Path, epoch: Epoch) -> None:
    raw = bytearray(quote_of(case))
    at = QuoteHeader.offset_of("qe_vendor_id")
    raw[at : at + 16] = bytes(16)
    assert verify(bytes(raw), epoch, time_of(case)).reason is Reason.QE_VENDOR


def test_2_a_verdict_is_neither_true_nor_false(case: Path, epoch: Epoch) -> None:
    with pytest.raises(TypeError, match="genuine"):
        bool(told(case, epoch))


def test_3_sizes_that_lie_allocate_nothing(case: Path) -> None:
    raw = bytearray(quote_of(case))
    end = len(Quote.parse(raw).signed)
    raw[end : end + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(FormatError, match="takes 4294967295 bytes"):
        Quote.parse(raw)


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_4_a_crl_that_its_ca_did_not_sign_is_refused(case: Path, name: str) -> None:
    stranger = Issuer.root().crl()
    collateral = replace(collateral_of(case), **{name: stranger})
    assert told(case, collateral).reason is Reason.CRL_ISSUER


@pytest.mark.parametrize("revoked", ["platform", "qe"])
def test_5_a_revoked_platform_or_qe_is_not_genuine(case: Path, epoch: Epoch, revoked: str) -> None:
    info, identity = epoch.tcb_info, epoch.qe_identity
    if revoked == "platform":
        levels = tuple(replace(one, status=TcbStatus.REVOKED) for one in info.levels)
        changed = replace(epoch, tcb_info=replace(info, levels=levels))
    else:
        dead = (IsvLevel(0, NOW, TcbStatus.REVOKED, ()),)
        changed = replace(epoch, qe_identity=replace(identity, levels=dead))
    verdict = told(case, changed)
    assert verdict.reason in (Reason.TCB_REVOKED, Reason.QE_REVOKED)
    assert (verdict.genuine, verdict.claims) == (False, None)
    assert verdict.tcb_status is TcbStatus.REVOKED
    with pytest.raises(Refusal):
        verdict.require()


@pytest.mark.parametrize("ca", ["Processor", "Platform"])
def test_6_quotes_of_either_pck_ca_are_taken_with_its_own_crl(ca: str) -> None:
    ours, theirs = (
        [case for case in COMPLETE if (ca in facts_of(case)["pck_ca"]) is same]
        for same in (True, False)
    )
    assert told(ours[-1], collateral_of(ours[-1])).step > 18
    swapped = replace(collateral_of(ours[-1]), pck_crl=collateral_of(theirs[-1]).pck_crl)
    assert told(ours[-1], swapped).reason is Reason.CRL_ISSUER


def changed_identity(epoch: Epoch, **changes: object) -> Epoch:
    identity = replace(epoch.qe_identity, **changes)  # type: ignore[arg-type]
    return replace(epoch, qe_identity=identity)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mr_signer": bytes(32)}, Reason.QE_MR_SIGNER),
        ({"isv_prod_id": 9}, Reason.QE_ISV_PROD_ID),
        ({"misc_select": 1}, Reason.QE_MISC_SELECT),
        ({"attributes": b"\x13" + bytes(15)}, Reason.QE_ATTRIBUTES),
        ({"levels": (IsvLevel(999, NOW, TcbStatus.UP_TO_DATE, ()),)}, Reason.QE_LEVEL_NOT_FOUND),
    ],
)
def test_7_the_quoting_enclave_must_be_the_identitys(
    case: Path, epoch: Epoch, changes: dict[str, object], reason: Reason
) -> None:
    assert told(case, changed_identity(epoch, **changes)).reason is reason


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [("fmspc", 6, Reason.FMSPC_DIFFERS), ("pce_id", 2, Reason.PCE_ID_DIFFERS)],
)
def test_8_the_tcb_info_must_be_of_the_platforms_family(
    case: Path, epoch: Epoch, name: str, size: int, reason: Reason
) -> None:
    info = replace(epoch.tcb_info, **{name: b"\7" * size})  # type: ignore[arg-type]
    assert told(case, replace(epoch, tcb_info=info)).reason is reason


def test_9_parts_of_two_evaluations_are_refused() -> None:
    new = named("tdx-v4-00806f050000-85ef3b3f-eval19")
    other = collateral_of(named("tdx-v4-00806f050000-85ef3b3f-eval21"))
    mixed = replace(
        collateral_of(new), tcb_info=other.tcb_info, tcb_info_signature=other.tcb_info_signature
    )
    verdict = told(new, mixed)
    assert (verdict.reason, verdict.step) == (Reason.EVALUATION_NUMBERS_DIFFER, 9)


@every_complete_case
def test_10_each_part_of_the_collateral_has_its_time(case: Path) -> None:
    collateral = collateral_of(case)
    epoch = check_collateral(collateral, time_of(case))
    for now, inside in (
        (epoch.begins, True),
        (epoch.expires, True),
        (epoch.begins - SECOND, False),
        (epoch.expires + SECOND, False),
    ):
        verdict = told(case, collateral, now)
        assert (verdict.step > 9) is inside
        assert inside or verdict.reason.value.endswith("validity")


@pytest.mark.parametrize("name", ["tcb_info", "qe_identity"])
@pytest.mark.parametrize("change", ["spaces", "order", "duplicate"])
def test_11_signed_json_is_not_written_anew(case: Path, name: str, change: str) -> None:
    text = getattr(collateral_of(case), name)
    values = json.loads(text)
    forms: dict[str, Callable[[], bytes]] = {
        "spaces": lambda: json.dumps(values).encode(),
        "order": lambda: json.dumps(dict(reversed(values.items())), separators=(",", ":")).encode(),
        "duplicate": lambda: text.replace(b'"version"', b'"version":9,"version"', 1),
    }
    collateral = replace(collateral_of(case), **{name: forms[change]()})
    assert told(case, collateral).reason.value == f"{name}_signature"


def test_12_an_identity_or_tcb_info_of_the_other_tee_is_refused(case: Path) -> None:
    domain = named("tdx-v4-20a06f000000-9069d475-eval17")
    ours, theirs, now = collateral_of(domain), collateral_of(case), time_of(domain)
    mixed = replace(
        ours,
        qe_identity=theirs.qe_identity,
        qe_identity_signature=theirs.qe_identity_signature,
    )
    assert told(domain, mixed).reason is Reason.QE_IDENTITY_TEE
    assert told(domain, theirs, now).reason is Reason.TCB_INFO_TEE
    assert told(case, ours, now).reason is Reason.TCB_INFO_TEE


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----", b"\xff" * 99])
def test_13_a_malformed_chain_is_a_format_error(case: Path, pem: bytes) -> None:
    for name in ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        with pytest.raises(FormatError):
            told(case, replace(collateral_of(case), **{name: pem}))


def test_14_a_refused_crl_poisons_no_cache(case: Path) -> None:
    cache = Cache()
    stranger = Issuer.root().crl()
    poisoned = replace(collateral_of(case), pck_crl=stranger)
    assert not verify(quote_of(case), poisoned, time_of(case), cache=cache).genuine
    assert len(cache) == 0
    assert verify(quote_of(case), collateral_of(case), time_of(case), cache=cache).genuine


def test_15_a_quote_under_another_root_is_refused(case: Path, epoch: Epoch) -> None:
    stranger = Issuer.root("Intel SGX Root CA").trusted
    verdict = verify(quote_of(case), collateral_of(case), time_of(case), roots=[stranger])
    assert verdict.reason is Reason.ROOT_NOT_TRUSTED
    ca = Issuer.root("Intel SGX PCK Platform CA").certificate
    assert told(case, replace(epoch, pck_ca=ca)).reason is Reason.PCK_CA_DIFFERS
    assert epoch.root == INTEL_ROOT


def test_16_an_identity_that_nobody_signed_is_refused(case: Path) -> None:
    collateral = replace(collateral_of(case), qe_identity_signature=bytes(64))
    assert told(case, collateral).reason is Reason.QE_IDENTITY_SIGNATURE
