# SPDX-License-Identifier: Apache-2.0
"""Trusted bridges of ECALLs, called by an honest and by a hostile host."""

import re
import struct
from typing import Any

import pytest

SUCCESS, UNEXPECTED, INVALID_PARAMETER, OUT_OF_MEMORY = range(4)
HUGE = (1 << 64) - 1


def test_values_go_in_and_the_result_comes_out(enclave: Any) -> None:
    assert enclave.ecall("ecall_add", a=40, b=2) == (SUCCESS, 42)


def test_a_naked_function_takes_no_structure(enclave: Any) -> None:
    assert enclave.bridge("ecall_naked")(None) == SUCCESS
    assert enclave.last_seen == 1
    assert enclave.bridge("ecall_naked")(enclave.outside(b"x")) == INVALID_PARAMETER


def test_a_structure_must_be_there_and_outside(enclave: Any) -> None:
    bridge = enclave.bridge("ecall_add")
    assert bridge(None) == INVALID_PARAMETER
    assert bridge(enclave.enclave_base) == INVALID_PARAMETER
    assert bridge(enclave.enclave_base - 4) == INVALID_PARAMETER  # its end lies inside
    assert bridge(HUGE - 3) == INVALID_PARAMETER  # its end wraps


def test_the_structure_is_fenced_then_read_once(enclave: Any) -> None:
    enclave.ecall("ecall_add", a=1, b=2)
    assert enclave.events == "ofrw"


def test_in_is_copied_to_the_enclave(enclave: Any) -> None:
    values = enclave.outside(struct.pack("<3I", 1, 2, 3))
    assert enclave.ecall("ecall_sum", values=values, n=3) == (SUCCESS, 6)
    assert enclave.is_inside(enclave.last_seen)


def test_checks_come_before_a_fence_and_the_fence_before_copies(enclave: Any) -> None:
    enclave.ecall("ecall_sum", values=enclave.outside(bytes(12)), n=3)
    assert re.fullmatch("ofr" + "of" + "r" + "w", enclave.events)


def test_a_structure_changed_after_its_check_is_of_no_use(enclave: Any) -> None:
    enclave.set("scribbling", 1)
    values = enclave.outside(struct.pack("<3I", 1, 2, 3))
    assert enclave.ecall("ecall_sum", values=values, n=3) == (SUCCESS, 6)


def test_null_and_nothing_reach_the_function_as_null(enclave: Any) -> None:
    assert enclave.ecall("ecall_sum", values=0, n=9) == (SUCCESS, 0)
    assert enclave.last_seen is None
    assert enclave.ecall("ecall_sum", values=enclave.outside(b"x"), n=0) == (SUCCESS, 0)
    assert enclave.last_seen is None


@pytest.mark.parametrize(("offset", "n"), [(0, 1), (-4, 2), (-(1 << 19), 1 << 18), (0, 1 << 40)])
def test_a_pointer_into_the_enclave_is_refused(enclave: Any, offset: int, n: int) -> None:
    status, _ = enclave.ecall("ecall_sum", values=enclave.enclave_base + offset, n=n)
    assert status == INVALID_PARAMETER


@pytest.mark.parametrize("n", [1 << 62, (1 << 62) + 1, HUGE])
def test_a_count_that_makes_the_size_wrap_is_refused(enclave: Any, n: int) -> None:
    status, _ = enclave.ecall("ecall_sum", values=enclave.outside(bytes(64)), n=n)
    assert status == INVALID_PARAMETER


@pytest.mark.parametrize(("size", "count"), [(65536, 65536), (-1, 2), (2, -1), (-2, -2)])
def test_size_times_count_is_computed_in_full_width(enclave: Any, size: int, count: int) -> None:
    # In 32 bits each product would be 0 or small, and the call would be made.
    data = enclave.outside(bytes(8))
    assert enclave.ecall("ecall_product", data=data, size=size, count=count)[0] != SUCCESS


def test_a_size_of_broken_elements_is_refused(enclave: Any) -> None:
    data = enclave.outside(bytes(8))
    assert enclave.ecall("ecall_product", data=data, size=3, count=1)[0] == INVALID_PARAMETER
    assert enclave.ecall("ecall_product", data=data, size=3, count=2)[0] == SUCCESS


def test_out_starts_as_zeroes_and_comes_back(enclave: Any) -> None:
    target = enclave.outside(b"\xff" * 6)
    assert enclave.ecall("ecall_fill", bytes=target, n=5) == (SUCCESS, None)
    assert enclave.read(target, 6) == b"\x01\x00\x03\x00\x05\xff"


def test_out_is_never_written_inside_the_enclave(enclave: Any) -> None:
    secret = enclave.inside(b"secret")
    assert enclave.ecall("ecall_fill", bytes=secret, n=6)[0] == INVALID_PARAMETER
    assert enclave.read(secret, 6) == b"secret"


def test_an_array_of_two_dimensions_goes_both_ways(enclave: Any) -> None:
    grid = enclave.outside(struct.pack("<6i", *range(6)))
    assert enclave.ecall("ecall_grid", grid=grid)[0] == SUCCESS
    assert struct.unpack("<6i", enclave.read(grid, 24)) == (0, 1, 3, 2, 4, 5)


def test_a_string_goes_in(enclave: Any) -> None:
    text = enclave.outside(b"hello\0")
    assert enclave.ecall("ecall_length", text=text, text_len=6) == (SUCCESS, 5)
    assert enclave.ecall("ecall_length", text=0, text_len=0) == (SUCCESS, 0xFFFFFFFF)


def test_a_string_that_ends_before_the_host_says_is_refused(enclave: Any) -> None:
    text = enclave.outside(b"he\0lo\0")
    assert enclave.ecall("ecall_length", text=text, text_len=6)[0] == UNEXPECTED


def test_a_string_without_an_end_gets_one(enclave: Any) -> None:
    text = enclave.outside(b"hello")
    assert enclave.ecall("ecall_length", text=text, text_len=3) == (SUCCESS, 2)


def test_a_string_is_cut_at_its_end_on_the_way_out(enclave: Any) -> None:
    text = enclave.outside(b"ab!cd\0")
    assert enclave.ecall("ecall_upper", text=text, text_len=6)[0] == SUCCESS
    assert enclave.read(text, 6) == b"AB\0cd\0"


def test_a_wide_string_goes_both_ways(enclave: Any) -> None:
    text = enclave.outside("hi\0".encode("utf-32-le"))
    assert enclave.ecall("ecall_wide", text=text, text_len=12) == (SUCCESS, 2)
    assert enclave.read(text, 12).decode("utf-32-le") == "Wi\0"
    assert enclave.ecall("ecall_wide", text=text, text_len=11)[0] == UNEXPECTED


def test_a_wide_string_must_end_where_the_host_says(enclave: Any) -> None:
    text = enclave.outside("h\0i\0".encode("utf-32-le"))
    assert enclave.ecall("ecall_wide", text=text, text_len=16)[0] == UNEXPECTED


def test_an_unchecked_address_passes_as_it_is(enclave: Any) -> None:
    assert enclave.ecall("ecall_raw", address=0x1234) == (SUCCESS, 0x1234)


@pytest.mark.parametrize("call", ["ecall_sum", "ecall_fill", "ecall_upper"])
def test_without_memory_the_call_is_not_made(enclave: Any, call: str) -> None:
    enclave.set("failing", 1)
    pointer = enclave.outside(bytes(4))
    fields = {
        "ecall_sum": {"values": pointer, "n": 1},
        "ecall_fill": {"bytes": pointer, "n": 4},
        "ecall_upper": {"text": pointer, "text_len": 1},
    }[call]
    assert enclave.ecall(call, **fields)[0] == OUT_OF_MEMORY


# Deep copies


def item(n: int, values: int, tag: int, opaque: int = 0) -> bytes:
    return struct.pack("<I4xQQQ", n, values, tag, opaque)


def test_what_members_point_to_is_copied_both_ways(enclave: Any) -> None:
    first, second = enclave.outside(struct.pack("<2H", 1, 2)), enclave.outside(struct.pack("<H", 7))
    tag = enclave.outside(b"host....")
    items = enclave.outside(item(2, first, tag, 0x99) + item(1, second, 0))
    assert enclave.ecall("ecall_items", items=items, n=2)[0] == SUCCESS
    assert struct.unpack("<2H", enclave.read(first, 4)) == (2, 3)
    assert struct.unpack("<H", enclave.read(second, 2)) == (8,)
    assert enclave.read(tag, 8) == b"enclave\0"


def test_the_host_gets_its_own_pointers_back(enclave: Any) -> None:
    content = item(1, enclave.outside(b"\0\0"), 0, 0x99)
    items = enclave.outside(content)
    assert enclave.ecall("ecall_items", items=items, n=1)[0] == SUCCESS
    assert enclave.read(items, len(content)) == content


def test_a_declared_array_of_structures_is_copied_deeply_too(enclave: Any) -> None:
    values = enclave.outside(struct.pack("<H", 77))
    items = enclave.outside(item(0, 0, 0) + item(1, values, 0))
    assert enclave.ecall("ecall_peek", items=items) == (SUCCESS, 77)


@pytest.mark.parametrize("member", ["values", "tag"])
def test_a_member_that_points_into_the_enclave_is_refused(enclave: Any, member: str) -> None:
    base = enclave.enclave_base + 64
    bad = item(1, base, 0) if member == "values" else item(0, 0, base)
    good = item(1, enclave.outside(b"\0\0"), 0)
    items = enclave.outside(good + bad)
    assert enclave.ecall("ecall_items", items=items, n=2)[0] == INVALID_PARAMETER


def test_members_are_read_once(enclave: Any) -> None:
    enclave.set("scribbling", 1)
    values = enclave.outside(struct.pack("<2H", 1, 2))
    items = enclave.outside(item(2, values, 0))
    assert enclave.ecall("ecall_items", items=items, n=1)[0] == SUCCESS
    assert struct.unpack("<2H", enclave.read(values, 4)) == (2, 3)


def test_more_than_the_host_gave_is_not_copied_back(enclave: Any) -> None:
    enclave.set("grow_items", 1)
    values = enclave.outside(struct.pack("<2H", 1, 2))
    items = enclave.outside(item(1, values, 0))
    status, _ = enclave.ecall("ecall_items", items=items, n=1)
    enclave.set("grow_items", 0)
    assert status == INVALID_PARAMETER
    assert struct.unpack("<2H", enclave.read(values, 4)) == (1, 2)


def test_only_the_enclaves_own_memory_is_copied_back(enclave: Any) -> None:
    enclave.set_pointer("other_values", enclave.outside(b"\0\0"))
    items = enclave.outside(item(1, enclave.outside(b"\0\0"), 0))
    status, _ = enclave.ecall("ecall_items", items=items, n=1)
    enclave.set_pointer("other_values", None)
    assert status == INVALID_PARAMETER


def test_what_the_function_points_to_instead_is_copied_back(enclave: Any) -> None:
    enclave.set_pointer("other_values", enclave.inside(b"\x07\x00"))
    values = enclave.outside(b"\0\0")
    items = enclave.outside(item(1, values, 0))
    status, _ = enclave.ecall("ecall_items", items=items, n=1)
    enclave.set_pointer("other_values", None)
    assert (status, enclave.read(values, 2)) == (SUCCESS, b"\x07\x00")
    assert enclave.read(items, 32) == item(1, values, 0)


def test_every_member_is_fenced_between_its_check_and_its_copy(enclave: Any) -> None:
    one = item(1, enclave.outside(b"\0\0"), enclave.outside(bytes(8)))
    enclave.ecall("ecall_items", items=enclave.outside(one), n=1)
    assert enclave.events.startswith("ofr" + "of" + "r" + "ofr" + "ofr")


@pytest.mark.parametrize("failing", [1, 2, 3, 4, 5])
def test_a_deep_copy_without_memory_frees_what_it_has(enclave: Any, failing: int) -> None:
    one = item(1, enclave.outside(b"\0\0"), enclave.outside(bytes(8)))
    enclave.set("failing", failing)
    status, _ = enclave.ecall("ecall_items", items=enclave.outside(one + one), n=2)
    assert status == OUT_OF_MEMORY
