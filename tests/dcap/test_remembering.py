# SPDX-License-Identifier: Apache-2.0
"""What was checked is remembered for as long as it holds, and numbers of collateral only rise."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.dcap.certifying import NOW, Issuer
from tests.dcap.corpus import COMPLETE, collateral_of, needs_corpus, quote_of, time_of
from tests.dcap.test_tcb import INFO

from ensconce.dcap import (
    Cache,
    Claims,
    Epoch,
    Reason,
    Verdict,
    Watermarks,
    check_collateral,
    verify,
)
from ensconce.dcap.chain import PckCa
from ensconce.dcap.quote import TeeType
from ensconce.dcap.tcb_info import QeIdentity, TcbInfo
from ensconce.dcap.verdict import Refusal
from ensconce.errors import ConfigError

DAY = timedelta(days=1)
ROOT = Issuer.root()
CA = ROOT.certify("Test SGX PCK Platform CA", ca=True)


@dataclass(frozen=True)
class Entry:
    begins: datetime = NOW
    expires: datetime = NOW + DAY


def epoch_of(number: int = 17, crl_number: int = 7, fmspc: bytes = bytes(6)) -> Epoch:
    info: TcbInfo = replace(INFO, tcb_evaluation_data_number=number, fmspc=fmspc)
    identity = QeIdentity(
        TeeType.TDX, 2, NOW, NOW, number, 0, 0, bytes(16), bytes(16), bytes(32), 1, ()
    )
    crl = replace(CA.revoke(), number=crl_number)
    return Epoch(
        b"", ROOT.trusted, CA.certificate, PckCa.PLATFORM, ROOT.revoke(), crl, info, identity, (),
        NOW, NOW + DAY,
    )  # fmt: skip


def test_an_entry_is_checked_again_outside_its_time_and_not_within() -> None:
    cache = Cache()
    checks: list[int] = []

    def check() -> Entry:
        checks.append(1)
        return Entry()

    for now in (NOW, NOW + DAY, NOW):
        cache.get(Entry, "key", now, check)
    assert len(checks) == 1
    for now in (NOW - timedelta(seconds=1), NOW + DAY + timedelta(seconds=1)):
        cache.get(Entry, "key", now, check)
    assert len(checks) == 3


def test_a_check_that_fails_leaves_nothing_behind() -> None:
    cache = Cache()

    def fail() -> Entry:
        raise Refusal(5, Reason.CRL_ISSUER, "unsigned")

    for _ in range(2):
        with pytest.raises(Refusal):
            cache.get(Entry, "key", NOW, fail)
    assert len(cache) == 0


def test_a_full_cache_drops_what_was_not_used_for_longest() -> None:
    cache = Cache(2)
    for key in ("a", "b", "a", "c"):
        cache.get(Entry, key, NOW, Entry)
    assert len(cache) == 2

    def forgotten() -> Entry:
        raise LookupError

    assert cache.get(Entry, "a", NOW, forgotten) == Entry()
    with pytest.raises(LookupError):
        cache.get(Entry, "b", NOW, forgotten)


def test_numbers_may_stay_or_rise_and_not_fall() -> None:
    marks = Watermarks()
    for number, crl_number in ((17, 7), (17, 7), (18, 9)):
        marks.rise(epoch_of(number, crl_number))
    for number, crl_number in ((17, 9), (18, 8)):
        with pytest.raises(Refusal) as refused:
            marks.rise(epoch_of(number, crl_number))
        assert refused.value.reason is Reason.COLLATERAL_ROLLED_BACK
    marks.rise(epoch_of(18, 9))


def test_a_refused_epoch_raises_no_number() -> None:
    marks = Watermarks()
    marks.rise(epoch_of(17, 7))
    with pytest.raises(Refusal):
        marks.rise(epoch_of(19, 6))
    marks.rise(epoch_of(18, 7))


def test_evaluation_numbers_are_kept_for_each_family_of_platforms() -> None:
    marks = Watermarks()
    marks.rise(epoch_of(18))
    marks.rise(epoch_of(17, fmspc=b"\1" * 6))
    with pytest.raises(Refusal):
        marks.rise(epoch_of(17))


def test_numbers_survive_in_a_file_that_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "watermarks.json"
    marks = Watermarks.load(path)
    marks.rise(epoch_of(18))
    marks.save(path)
    with pytest.raises(Refusal):
        Watermarks.load(path).rise(epoch_of(17))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_saving_lowers_no_number_that_another_program_saved(tmp_path: Path) -> None:
    path = tmp_path / "watermarks.json"
    slow, fast = Watermarks.load(path), Watermarks.load(path)
    slow.rise(epoch_of(17))
    fast.rise(epoch_of(18))
    fast.save(path)
    slow.save(path)
    with pytest.raises(Refusal):
        Watermarks.load(path).rise(epoch_of(17))


@pytest.mark.parametrize("text", ["", "[]", '{"a": "b"}', '{"a": true}', "\0"])
def test_a_file_that_holds_no_numbers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "watermarks.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="remove it to start anew"):
        Watermarks.load(path)


def told(verdict: Verdict) -> tuple[object, ...]:
    claims: Claims | None = verdict.claims
    return verdict.reason, verdict.tcb_status, verdict.advisory_ids, verdict.expires, claims


@needs_corpus
def test_a_cache_and_an_epoch_change_no_verdict() -> None:
    cache = Cache()
    for _ in range(2):
        for case in COMPLETE:
            quote, collateral, now = quote_of(case), collateral_of(case), time_of(case)
            plain = verify(quote, collateral, now)
            assert told(verify(quote, collateral, now, cache=cache)) == told(plain)
            epoch = check_collateral(collateral, now)
            assert told(verify(quote, epoch, now, cache=cache)) == told(plain)


@needs_corpus
def test_an_epoch_serves_neither_another_time_nor_another_root() -> None:
    case = COMPLETE[0]
    epoch, now = check_collateral(collateral_of(case), time_of(case)), time_of(case)
    for when in (epoch.begins - timedelta(seconds=1), epoch.expires + timedelta(seconds=1)):
        verdict = verify(quote_of(case), epoch, when)
        assert (verdict.reason, verdict.step) == (Reason.COLLATERAL_VALIDITY, 9)
    verdict = verify(quote_of(case), epoch, now, roots=[ROOT.trusted])
    assert (verdict.reason, verdict.step) == (Reason.ROOT_NOT_TRUSTED, 2)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="no zone"):
        verify(b"", epoch_of(), datetime(2026, 1, 1))


def test_an_epoch_is_immutable() -> None:
    with pytest.raises(AttributeError):
        epoch_of().expires = datetime(9999, 1, 1, tzinfo=UTC)  # type: ignore[misc]
