# SPDX-License-Identifier: Apache-2.0
"""Quantities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.errors import FormatError
from ensconce.quantity import binary_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("10", 10), ("1Ki", 1024), ("10Mi", 10 << 20), ("1.5Gi", 3 << 29), ("2k", 2000),
        ("3E", 3 * 10**18), ("1e3", 1000), ("1E3", 1000), ("2000m", 2), (".5Ki", 512),
        ("1.", 1), (7, 7),
    ],
)  # fmt: skip
def test_forms_that_kubernetes_knows(text: object, number: int) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    "value", ["", "x", "1.5", "-1", "1Kb", "1e", "٣", "8Ei", "1ei", "1e99", "1" * 99, 1.0, None]
)
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(FormatError):
        parse_quantity(value)


@given(st.integers(0, (1 << 63) - 1))
def test_binary_quantities_read_back(number: int) -> None:
    assert parse_quantity(binary_quantity(number)) == number


def test_binary_quantities_have_the_largest_suffix_that_fits() -> None:
    assert [binary_quantity(n) for n in (0, 1023, 3 << 20, 1 << 40)] == ["0", "1023", "3Mi", "1Ti"]
