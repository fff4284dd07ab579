# SPDX-License-Identifier: Apache-2.0
"""Trusted proxies of OCALLs, answered by an honest and by a hostile host."""

import struct
from typing import Any

import pytest

SUCCESS, UNEXPECTED, INVALID_PARAMETER, OUT_OF_MEMORY = range(4)
FAILED = 0x1234


def never(index: int, ms: int) -> int:
    raise AssertionError(f"OCALL {index} reached the host at {ms:#x}")


def test_a_string_is_lent_and_the_result_comes_back(enclave: Any) -> None:
    seen = []

    def host(index: int, ms: int) -> int:
        fields = enclave.fields("ocall_print", ms)
        seen.append((index, enclave.read(fields["ms_text"], 6)))
        assert not enclave.is_inside(ms)
        assert not enclave.is_inside(fields["ms_text"])
        enclave.write(ms, struct.pack("<i", 5))
        return SUCCESS

    enclave.play_host(host)
    result = enclave.inside(bytes(4))
    assert enclave.ocall("ocall_print", result, enclave.inside(b"hello\0")) == SUCCESS
    assert seen == [(0, b"hello\0")]
    assert enclave.read(result, 4) == struct.pack("<i", 5)


def test_the_result_may_be_ignored(enclave: Any) -> None:
    enclave.play_host(lambda _index, _ms: SUCCESS)
    assert enclave.ocall("ocall_print", 0, 0) == SUCCESS


def test_a_naked_ocall_sends_no_structure(enclave: Any) -> None:
    enclave.play_host(lambda index, ms: SUCCESS if (index, ms) == (1, 0) else FAILED)
    assert enclave.ocall("ocall_naked") == SUCCESS


def test_out_is_lent_as_zeroes_and_copied_back(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        fields = enclave.fields("ocall_read", ms)
        assert (fields["ms_fd"], fields["ms_n"]) == (3, 4)
        assert enclave.read(fields["ms_buffer"], 4) == bytes(4)
        enclave.write(fields["ms_buffer"], b"data")
        place = enclave.places("ocall_read")["ocall_errno"]
        enclave.write(ms + place.offset, struct.pack("<i", 11))
        return SUCCESS

    enclave.play_host(host)
    buffer = enclave.inside(b"secret")
    assert enclave.ocall("ocall_read", 0, 3, buffer, 4) == SUCCESS
    assert enclave.read(buffer, 6) == b"dataet"


def test_the_host_cannot_redirect_what_is_copied_back(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        place = enclave.places("ocall_read")["ms_buffer"]
        enclave.write(ms + place.offset, struct.pack("<Q", 0x10))
        return SUCCESS

    enclave.play_host(host)
    buffer = enclave.inside(b"\xff" * 4)
    assert enclave.ocall("ocall_read", 0, 3, buffer, 4) == SUCCESS
    assert enclave.read(buffer, 4) == bytes(4)


def test_in_and_out_go_both_ways(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        address = enclave.fields("ocall_swap", ms)["ms_values"]
        enclave.write(address, enclave.read(address, 8)[::-1])
        return SUCCESS

    enclave.play_host(host)
    values = enclave.inside(bytes(range(8)))
    assert enclave.ocall("ocall_swap", values, 2) == SUCCESS
    assert enclave.read(values, 8) == bytes(range(8))[::-1]


@pytest.mark.parametrize("n", [-1, -(1 << 31), (1 << 31) - 1])
def test_a_length_larger_than_the_buffer_can_be_is_refused(enclave: Any, n: int) -> None:
    enclave.play_host(never)
    assert enclave.ocall("ocall_swap", enclave.inside(bytes(8)), n) == INVALID_PARAMETER


def test_only_the_enclaves_own_memory_is_lent(enclave: Any) -> None:
    enclave.play_host(never)
    assert enclave.ocall("ocall_swap", enclave.outside(bytes(8)), 2) == INVALID_PARAMETER


def test_a_host_stack_inside_the_enclave_is_refused(enclave: Any) -> None:
    enclave.play_host(never)
    enclave.set("stack_is_inside", 1)
    assert enclave.ocall("ocall_swap", enclave.inside(bytes(8)), 2) == UNEXPECTED


def test_a_full_host_stack_is_an_error(enclave: Any) -> None:
    enclave.play_host(never)
    buffer = enclave.enclave_base
    assert enclave.ocall("ocall_read", 0, 3, buffer, 1 << 20) == UNEXPECTED


def test_nothing_is_copied_back_from_an_ocall_that_failed(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        enclave.write(enclave.fields("ocall_swap", ms)["ms_values"], b"\xff" * 8)
        return FAILED

    enclave.play_host(host)
    values = enclave.inside(bytes(8))
    assert enclave.ocall("ocall_swap", values, 2) == FAILED
    assert enclave.read(values, 8) == bytes(8)


def test_a_string_that_comes_back_ends_and_is_clean_behind(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        enclave.write(enclave.fields("ocall_edit", ms)["ms_text"], b"a\0bcXX")
        return SUCCESS

    enclave.play_host(host)
    text = enclave.inside(b"hello\0")
    assert enclave.ocall("ocall_edit", text) == SUCCESS
    assert enclave.read(text, 6) == b"a\0\0\0\0\0"


def test_a_string_that_comes_back_without_an_end_gets_one(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        enclave.write(enclave.fields("ocall_edit", ms)["ms_text"], b"XXXXXX")
        return SUCCESS

    enclave.play_host(host)
    text = enclave.inside(b"hello\0behind")
    assert enclave.ocall("ocall_edit", text) == SUCCESS
    assert enclave.read(text, 12) == b"XXXXX\0behind"


def test_a_wide_string_that_comes_back_ends(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        enclave.write(enclave.fields("ocall_edit_wide", ms)["ms_text"], b"x\0\0\0" * 3)
        return SUCCESS

    enclave.play_host(host)
    text = enclave.inside("hi\0".encode("utf-32-le"))
    assert enclave.ocall("ocall_edit_wide", text) == SUCCESS
    assert enclave.read(text, 12).decode("utf-32-le") == "xx\0"


def test_an_unchecked_address_passes_as_it_is(enclave: Any) -> None:
    enclave.play_host(
        lambda _index, ms: (
            SUCCESS if enclave.fields("ocall_raw", ms)["ms_address"] == 0x77 else FAILED
        )
    )
    assert enclave.ocall("ocall_raw", 0x77) == SUCCESS
    assert enclave.events.endswith("s")  # by the switchless way


# Deep copies


def item(n: int, values: int, tag: int) -> bytes:
    return struct.pack("<I4xQQQ", n, values, tag, 0)


def members(enclave: Any, ms: int) -> tuple[int, int, int, int]:
    address = enclave.fields("ocall_items", ms)["ms_items"]
    n, values, tag, _ = struct.unpack("<I4xQQQ", enclave.read(address, 32))
    return address, n, values, tag


def test_members_are_lent_and_come_back(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        address, n, values, tag = members(enclave, ms)
        assert n == 2
        assert not enclave.is_inside(values)
        assert (enclave.read(values, 4), enclave.read(tag, 8)) == (b"abcd", b"enclave\0")
        enclave.write(values, b"ABCD")
        enclave.write(address, struct.pack("<I", 1))
        return SUCCESS

    enclave.play_host(host)
    values, tag = enclave.inside(b"abcd"), enclave.inside(b"enclave\0")
    items = enclave.inside(item(2, values, tag))
    assert enclave.ocall("ocall_items", items, 1) == SUCCESS
    assert enclave.read(values, 4) == b"ABcd"  # one element is what the host says it gives back
    assert enclave.read(items, 32) == item(1, values, tag)


@pytest.mark.parametrize("n", [3, 1 << 31, 0xFFFFFFFF])
@pytest.mark.parametrize("before", [0, 2])
def test_the_host_cannot_claim_more_than_was_lent(enclave: Any, n: int, before: int) -> None:
    def host(_index: int, ms: int) -> int:
        enclave.write(members(enclave, ms)[0], struct.pack("<I", n))
        return SUCCESS

    enclave.play_host(host)
    values = enclave.inside(b"abcd")
    items = enclave.inside(item(before, values, 0))
    assert enclave.ocall("ocall_items", items, 1) == INVALID_PARAMETER
    assert enclave.read(items, 32) == item(before, values, 0)


def test_the_host_cannot_change_a_members_pointer(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        address = members(enclave, ms)[0]
        enclave.write(address + 8, struct.pack("<Q", enclave.enclave_base))
        return SUCCESS

    enclave.play_host(host)
    items = enclave.inside(item(2, enclave.inside(b"abcd"), 0))
    assert enclave.ocall("ocall_items", items, 1) == INVALID_PARAMETER


def test_a_null_member_stays_null(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        address = members(enclave, ms)[0]
        enclave.write(address + 8, struct.pack("<QQ", 0x1000, 0x2000))
        return SUCCESS

    enclave.play_host(host)
    items = enclave.inside(item(0, 0, 0))
    assert enclave.ocall("ocall_items", items, 1) == SUCCESS
    assert enclave.read(items, 32) == item(0, 0, 0)


def test_a_member_that_points_outside_is_not_lent(enclave: Any) -> None:
    enclave.play_host(never)
    items = enclave.inside(item(2, enclave.outside(b"abcd"), 0))
    assert enclave.ocall("ocall_items", items, 1) == INVALID_PARAMETER


def test_what_only_goes_in_is_not_copied_back(enclave: Any) -> None:
    def host(_index: int, ms: int) -> int:
        address = enclave.fields("ocall_show", ms)["ms_item"]
        values = struct.unpack("<Q", enclave.read(address + 8, 8))[0]
        enclave.write(values, b"ABCD")
        return SUCCESS

    enclave.play_host(host)
    values = enclave.inside(b"abcd")
    assert enclave.ocall("ocall_show", enclave.inside(item(2, values, 0))) == SUCCESS
    assert enclave.read(values, 4) == b"abcd"


def test_structures_of_none_and_null_are_sent_as_such(enclave: Any) -> None:
    enclave.play_host(lambda _index, _ms: SUCCESS)
    assert enclave.ocall("ocall_items", enclave.inside(item(0, 0, 0)), 0) == SUCCESS
    assert enclave.ocall("ocall_items", 0, 5) == SUCCESS
