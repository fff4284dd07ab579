# SPDX-License-Identifier: Apache-2.0
"""Runs of pages beside a plain dictionary."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ensconce.machine.runs import RunMap

CHANGES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 20), st.one_of(st.none(), st.integers(0, 2))),
    max_size=30,
)


def filled(changes: list[tuple[int, int, int | None]]) -> tuple[RunMap, dict[int, int]]:
    runs, plain = RunMap(), dict[int, int]()
    for first, count, value in changes:
        runs.put(first, first + count, value)
        for page in range(first, first + count):
            if value is None:
                plain.pop(page, None)
            else:
                plain[page] = value
    return runs, plain


@given(changes=CHANGES)
def test_runs_hold_what_a_dictionary_of_pages_holds(
    changes: list[tuple[int, int, int | None]],
) -> None:
    runs, plain = filled(changes)
    assert {page: runs.get(page) for page in range(70)} == {p: plain.get(p) for p in range(70)}
    assert runs.pages == len(plain)


@given(changes=CHANGES)
def test_runs_never_touch_a_neighbour_of_equal_value(
    changes: list[tuple[int, int, int | None]],
) -> None:
    runs, _ = filled(changes)
    whole = runs.runs()
    assert all(start < end for start, end, _ in whole)
    assert all(
        end < start or (end == start and old != new)
        for (_, end, old), (start, _, new) in pairwise(whole)
    )


@given(changes=CHANGES, first=st.integers(0, 50), count=st.integers(0, 30))
def test_spans_cover_a_range_once_and_in_order(
    changes: list[tuple[int, int, int | None]], first: int, count: int
) -> None:
    runs, plain = filled(changes)
    pages = [
        (page, value)
        for start, end, value in runs.spans(first, first + count)
        for page in range(start, end)
    ]
    assert pages == [(page, plain.get(page)) for page in range(first, first + count)]


@given(changes=CHANGES, first=st.integers(0, 50), count=st.integers(0, 30))
def test_a_range_overlaps_when_one_of_its_pages_has_a_value(
    changes: list[tuple[int, int, int | None]], first: int, count: int
) -> None:
    runs, plain = filled(changes)
    assert runs.overlaps(first, first + count) == any(
        page in plain for page in range(first, first + count)
    )


def test_sixteen_million_equal_pages_are_one_run() -> None:
    runs = RunMap()
    runs.put(0, 1 << 24, 0x203)
    runs.put(1 << 20, (1 << 20) + 1, 0x201)
    assert len(runs) == 3
    assert runs.pages == 1 << 24
