# SPDX-License-Identifier: Apache-2.0
"""What the vendor's C library has beyond musl: mathematics, memory, traps."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from tests.sdk.libc.conftest import Load

from ensconce.errors import EnclaveCrashed

_SIMD = 19  # #XM


@pytest.fixture
def numbers(load: Load) -> Iterator[Any]:
    with load("numbers") as enclave:
        yield enclave


@pytest.mark.parametrize("what", ["math", "complex", "memory", "traps"])
def test_known_results_come_out(numbers: Any, what: str) -> None:
    assert getattr(numbers, f"check_{what}")() == 0


def test_a_division_by_zero_traps_where_that_was_asked_for(numbers: Any) -> None:
    assert numbers.divide(0.0, 0) == math.inf
    assert numbers.divide(4.0, 1) == 0.25
    with pytest.raises(EnclaveCrashed) as caught:
        numbers.divide(0.0, 1)
    assert caught.value.vector == _SIMD
