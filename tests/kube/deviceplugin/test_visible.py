# SPDX-License-Identifier: Apache-2.0
"""SGX_VISIBLE_DEVICES in its three forms."""

import base64
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ensconce.kube.deviceplugin.visible import (
    LONGEST_LIST,
    MOST_DEVICES,
    runs,
    visible_devices,
)

_LONGEST_STRING = 128 << 10  # MAX_ARG_STRLEN: what Linux takes as one string


def read(text: str) -> list[int]:
    """A reader written from the description alone."""
    if text.startswith("bitmap:"):
        bits = base64.b64decode(text.removeprefix("bitmap:"))
        return [n for n in range(len(bits) * 8) if bits[n // 8] >> n % 8 & 1]
    parts = [part.split("-") for part in text.split(",") if part]
    return [n for part in parts for n in range(int(part[0]), int(part[-1]) + 1)]


indices = st.lists(st.integers(0, MOST_DEVICES - 1), unique=True)
patterns = st.builds(
    lambda start, step, count: list(range(start, MOST_DEVICES, step))[:count],
    st.integers(0, 1000),
    st.integers(1, 7),
    st.integers(0, MOST_DEVICES),
)


@given(indices | patterns)
def test_whatever_is_allocated_can_be_read_and_fits_one_string(devices: list[int]) -> None:
    text = visible_devices(devices)
    assert len("SGX_VISIBLE_DEVICES=" + text) < _LONGEST_STRING
    assert sorted(read(text)) == sorted(devices)


def test_few_devices_are_listed_in_the_order_given() -> None:
    assert visible_devices([12, 3, 4]) == "12,3,4"


def test_many_devices_side_by_side_are_a_range() -> None:
    assert visible_devices(range(10, 60_000)) == "10-59999"


def test_a_list_that_just_fits_stays_a_list() -> None:
    count = LONGEST_LIST // 5  # four digits and a comma
    assert visible_devices(range(1000, 1000 + count)).count(",") == count - 1


def test_many_scattered_devices_are_a_bitmap() -> None:
    assert visible_devices(range(0, MOST_DEVICES, 2)).startswith("bitmap:")


@given(st.sets(st.integers(0, 50)))
def test_runs_are_the_set_in_as_few_pieces_as_can_be(numbers: set[int]) -> None:
    found = list(runs(numbers))
    assert {n for first, last in found for n in range(first, last + 1)} == numbers
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(found))
