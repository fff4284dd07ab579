# SPDX-License-Identifier: Apache-2.0
"""The state save area's sizes and EXITINFO."""

import pytest

from ensconce.isa.ssa import Vector, exit_info, ssa_frame_pages, xsave_size


@pytest.mark.parametrize(
    ("xfrm", "size"), [(3, 576), (7, 832), (0xE7, 2688), (0x2E7, 2696), (0x602E7, 11008)]
)
def test_the_xsave_area_grows_with_xfrm(xfrm: int, size: int) -> None:
    assert xsave_size(xfrm) == size


def test_amx_needs_three_pages_of_ssa() -> None:
    assert ssa_frame_pages(0xE7) == 1
    assert ssa_frame_pages(0x602E7) == 3


@pytest.mark.parametrize(
    ("vector", "with_exinfo", "expected"),
    [
        (Vector.DE, False, 0x80000300),
        (Vector.BP, False, 0x80000603),
        (Vector.UD, False, 0x80000306),
        (Vector.GP, False, 0),
        (Vector.GP, True, 0x8000030D),
        (Vector.PF, True, 0x8000030E),
        (Vector.NM, True, 0),
    ],
)
def test_exit_info_tells_what_the_manual_says(
    vector: Vector,
    with_exinfo: bool,
    expected: int,
) -> None:
    assert exit_info(vector, with_exinfo=with_exinfo) == expected
