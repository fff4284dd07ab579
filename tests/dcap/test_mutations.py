# SPDX-License-Identifier: Apache-2.0
"""A real quote or collateral with one byte changed is refused.

The bytes that no signature covers, and that may therefore change, are these alone:
- white space in the PEM text of the PCK chain (and of the collateral's chains), and a last NUL;
- of the collateral's JSON, what is outside its strings.
All else is signed, or it is a type or a length that nothing but its own value fits.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest
from tests.dcap.corpus import COMPLETE, collateral_of, needs_corpus, quote_of, time_of

from ensconce.dcap import Collateral, Epoch, Quote, check_collateral, verify
from ensconce.errors import FormatError

FLIPS = (0x01, 0x80, 0xFF)
WHITE = b"\t\n\v\f\r \0"


@cache
def epoch_of(case: Path) -> Epoch:
    return check_collateral(collateral_of(case), time_of(case))


GENUINE = [
    case for case in COMPLETE if verify(quote_of(case), epoch_of(case), time_of(case)).genuine
]
pytestmark = needs_corpus
every_genuine_case = pytest.mark.parametrize("case", GENUINE, ids=lambda case: case.name)


def genuine(quote: bytes, collateral: Collateral | Epoch, now: datetime) -> bool:
    try:
        return verify(quote, collateral, now).genuine
    except FormatError:
        return False


def changed(data: bytes, start: int, step: int) -> Iterator[tuple[int, bytes]]:
    """Yield data with one byte changed, and where."""
    for position in range(start, len(data), step):
        for flip in FLIPS:
            other = bytearray(data)
            other[position] ^= flip
            yield position, bytes(other)


def survivors(case: Path, start: int, step: int) -> list[int]:
    """Return where a quote can be changed and stay genuine, white space in PEM aside."""
    quote, now = quote_of(case), time_of(case)
    pem = len(quote) - len(Quote.parse(quote).certification.data)
    return [
        position
        for position, other in changed(quote, start, step)
        if not (position >= pem and quote[position] in WHITE and other[position] in WHITE)
        and genuine(other, epoch_of(case), now)
    ]


@every_genuine_case
def test_a_quote_with_a_byte_changed_is_refused(case: Path) -> None:
    assert survivors(case, sum(case.name.encode()) % 61, 61) == []


@pytest.mark.slow
@every_genuine_case
def test_a_quote_with_any_byte_changed_is_refused(case: Path) -> None:
    assert survivors(case, 0, 1) == []


def collateral_survivors(case: Path, start: int, step: int) -> list[tuple[str, int]]:
    """Return where collateral can be changed and its quote stay genuine, white space aside."""
    quote, now, collateral = quote_of(case), time_of(case), collateral_of(case)
    return [
        (part.name, position)
        for part in fields(collateral)
        for position, other in changed(getattr(collateral, part.name), start, step)
        if not (part.name.endswith("_chain") and other[position] in WHITE)
        and genuine(quote, replace(collateral, **{part.name: other}), now)
    ]


@every_genuine_case
def test_collateral_with_a_byte_changed_is_refused(case: Path) -> None:
    assert collateral_survivors(case, sum(case.name.encode()) % 499, 499) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", GENUINE[::6], ids=lambda case: case.name)
def test_collateral_with_any_byte_changed_is_refused(case: Path) -> None:
    assert collateral_survivors(case, 0, 1) == []
