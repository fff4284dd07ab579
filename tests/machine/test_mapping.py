# SPDX-License-Identifier: Apache-2.0
"""Effective permission: page tables AND EPCM, beside a plain model of both."""

from hypothesis import given
from hypothesis import strategies as st

from ensconce.machine.epc import BLOCKED, MODIFIED, PENDING, REG, TCS, TRIM
from ensconce.machine.mapping import Mapping
from ensconce.machine.runs import RunMap

PAGES = 24
ENTRIES = st.one_of(
    st.none(),
    st.builds(
        lambda kind, permissions, state: kind | permissions | state,
        st.sampled_from((REG, REG, TCS, TRIM)),
        st.integers(0, 7),
        st.sampled_from((0, 0, PENDING, MODIFIED, BLOCKED)),
    ),
)
CHANGES = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, PAGES - 1),
        st.integers(1, PAGES),
        ENTRIES,
        st.one_of(st.none(), st.integers(0, 7)),
    ),
    max_size=12,
)


class Memory:
    """Protections as `protect` set them, by page."""

    def __init__(self) -> None:
        self.pages = [0] * PAGES
        self.calls = 0

    def protect(self, offset: int, length: int, protection: int, /) -> None:
        assert length
        self.calls += 1
        for page in range(offset // 4096, (offset + length) // 4096):
            assert self.pages[page] != protection, "a change that changes nothing"
            self.pages[page] = protection


def expected(entry: int | None, permission: int | None) -> int:
    closed = entry is None or entry & 0xFF00 != REG or entry & (PENDING | MODIFIED | BLOCKED)
    return 0 if closed or entry is None or permission is None else entry & permission & 7


@given(changes=CHANGES)
def test_what_is_in_force_is_the_meet_of_both(
    changes: list[tuple[bool, int, int, int | None, int | None]],
) -> None:
    memory, epcm = Memory(), RunMap()
    mapping = Mapping(memory, epcm)
    entries: list[int | None] = [None] * PAGES
    table: list[int | None] = [None] * PAGES
    for of_epcm, first, count, entry, permission in changes:
        end = min(first + count, PAGES)
        if of_epcm:
            epcm.put(first, end, entry)
            mapping.refresh(first, end)
            entries[first:end] = [entry] * (end - first)
        else:
            mapping.enter(first, end, permission)
            table[first:end] = [permission] * (end - first)
    wanted = [expected(*pair) for pair in zip(entries, table, strict=True)]
    assert memory.pages == wanted
    assert [mapping.effective.get(page) or 0 for page in range(PAGES)] == wanted


def test_neighbours_that_change_alike_are_changed_at_once() -> None:
    memory, epcm = Memory(), RunMap()
    mapping = Mapping(memory, epcm)
    epcm.put(0, 8, REG | 3)
    epcm.put(8, 16, REG | 7)
    mapping.enter(0, 16, 3)
    assert memory.calls == 1
