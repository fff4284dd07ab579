# SPDX-License-Identifier: Apache-2.0
"""Quotes are read exactly, whatever they hold, and refused where their lengths lie."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dcap.corpus import every_case, facts_of, needs_corpus, quote_of

from ensconce.dcap.quote import (
    MAX_QUOTE_SIZE,
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
from ensconce.errors import FormatError
from ensconce.isa.record import Record
from ensconce.isa.report import ReportBody

INNER = [kind for kind in CertificationKind if kind is not CertificationKind.QE_REPORT]
SIZES: dict[type[Record], int] = {QuoteHeader: 48, TdReport: 584, TdReport15: 648}


def some_body(version: int, kind: type[Record], seed: int) -> tuple[QuoteHeader, Body]:
    raw = Random(seed).randbytes(kind.SIZE)  # noqa: S311 # bytes for a test
    body = kind.parse(raw)
    assert isinstance(body, ReportBody | TdReport | TdReport15)
    tee = TeeType.SGX if kind is ReportBody else TeeType.TDX
    return QuoteHeader(version=version, tee_type=tee), body


@st.composite
def quotes(draw: st.DrawFn) -> Quote:
    forms = [(3, ReportBody), (4, ReportBody), (4, TdReport), (5, ReportBody), (5, TdReport)]
    version, kind = draw(st.sampled_from([*forms, (5, TdReport15)]))
    return Quote(
        signed_part(*some_body(version, kind, draw(st.integers(0, 1 << 32)))),
        draw(st.binary(min_size=64, max_size=64)),
        draw(st.binary(min_size=64, max_size=64)),
        draw(st.binary(min_size=384, max_size=384)),
        draw(st.binary(min_size=64, max_size=64)),
        draw(st.binary(max_size=100)),
        Certification(draw(st.sampled_from(INNER)), draw(st.binary(max_size=200))),
    )


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.__name__)
@given(seed=st.integers(0, 1 << 32))
def test_a_record_has_its_size_and_round_trips(kind: type[Record], seed: int) -> None:
    raw = Random(seed).randbytes(SIZES[kind])  # noqa: S311 # bytes for a test
    assert bytes(kind.parse(raw)) == raw


@given(quotes())
def test_a_quote_round_trips(quote: Quote) -> None:
    assert Quote.parse(bytes(quote)) == quote
    assert signed_part(quote.header, quote.body) == quote.signed


@given(quotes(), st.data())
def test_a_quote_cut_short_anywhere_is_refused(quote: Quote, data: st.DataObject) -> None:
    raw = bytes(quote)
    with pytest.raises(FormatError):
        Quote.parse(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(quotes(), st.binary(min_size=1, max_size=8))
def test_bytes_after_the_end_of_a_quote_are_refused(quote: Quote, more: bytes) -> None:
    with pytest.raises(FormatError, match="follow the end"):
        Quote.parse(bytes(quote) + more)


@given(quotes(), st.integers(1, 1 << 31))
def test_a_signature_size_that_lies_is_refused(quote: Quote, change: int) -> None:
    raw = bytearray(bytes(quote))
    at = len(quote.signed)
    size = int.from_bytes(raw[at : at + 4], "little")
    raw[at : at + 4] = ((size + change) & 0xFFFFFFFF).to_bytes(4, "little")
    with pytest.raises(FormatError):
        Quote.parse(raw)


@given(quotes())
def test_authentication_data_that_reaches_past_the_end_is_refused(quote: Quote) -> None:
    raw = bytearray(bytes(quote))
    at = len(raw) - len(bytes(quote.certification)) - len(quote.qe_auth_data) - 2
    raw[at : at + 2] = b"\xff\xff"
    with pytest.raises(FormatError):
        Quote.parse(raw)


@given(quotes(), st.integers(0, 0xFFFF))
def test_an_unknown_version_is_refused(quote: Quote, version: int) -> None:
    if version in (3, 4, 5):
        return
    with pytest.raises(FormatError, match=f"version {version};"):
        Quote.parse(version.to_bytes(2, "little") + bytes(quote)[2:])


@given(quotes(), st.sampled_from((0, 1, 3, 4, 0xFFFF)))
def test_an_unknown_key_type_is_refused(quote: Quote, kind: int) -> None:
    raw = bytearray(bytes(quote))
    raw[2:4] = kind.to_bytes(2, "little")
    with pytest.raises(FormatError, match=f"attestation key type {kind};"):
        Quote.parse(raw)


@pytest.mark.parametrize(("version", "tee"), [(3, 0x81), (4, 1), (5, 0x82)])
def test_an_impossible_tee_type_is_refused(version: int, tee: int) -> None:
    header = QuoteHeader(version=version, tee_type=tee)
    with pytest.raises(FormatError, match="TEE type"):
        Quote.parse(bytes(header) + bytes(1000))


@pytest.mark.parametrize(
    ("tee", "number", "size", "message"),
    [
        (0, 2, 584, "body type 2"),
        (0x81, 1, 384, "body type 1"),
        (0x81, 4, 648, "body type 4"),
        (0x81, 3, 584, "takes 648"),
        (0, 1, 0xFFFFFFFF, "takes 384"),
    ],
)
def test_a_body_of_another_type_or_size_is_refused(
    tee: int, number: int, size: int, message: str
) -> None:
    raw = bytes(QuoteHeader(version=5, tee_type=tee)) + number.to_bytes(2, "little")
    with pytest.raises(FormatError, match=message):
        Quote.parse(raw + size.to_bytes(4, "little") + bytes(2000))


@given(quotes())
def test_certification_data_nested_twice_or_of_an_unknown_type_is_refused(quote: Quote) -> None:
    twice = replace(quote, certification=Certification(CertificationKind.QE_REPORT, b"x"))
    with pytest.raises(FormatError, match="twice"):
        Quote.parse(bytes(twice))
    end = len(bytes(quote.certification))
    for number in (0, 8, 0xFFFF):
        raw = bytearray(bytes(quote))
        raw[len(raw) - end : len(raw) - end + 2] = number.to_bytes(2, "little")
        with pytest.raises(FormatError, match=f"type {number};"):
            Quote.parse(raw)


def test_an_input_far_too_large_is_refused_unread() -> None:
    with pytest.raises(FormatError, match="more than"):
        Quote.parse(bytes(MAX_QUOTE_SIZE + 1))


@needs_corpus
@every_case
def test_real_quotes_are_read_exactly(case: Path) -> None:
    raw, facts = quote_of(case), facts_of(case)
    quote = Quote.parse(raw)
    assert bytes(quote) == raw
    assert quote.header.version == facts["version"]
    assert TeeType(quote.header.tee_type).name == facts["tee"]
    assert quote.qe_report_body.isv_svn == facts["qe_isvsvn"]
    body = quote.body.td if isinstance(quote.body, TdReport15) else quote.body
    if isinstance(body, TdReport):
        assert body.tee_tcb_svn.hex() == facts["tee_tcb_svn"]
