# SPDX-License-Identifier: Apache-2.0
"""What crosses the border in an OCALL, and what becomes of a host function that fails."""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from ensconce.enclave import Enclave
from ensconce.errors import ConfigError, OcallError

Start = Callable[..., Enclave]


def test_a_number_goes_out_and_its_answer_comes_back(start: Start) -> None:
    assert start(ocalls={"twice": lambda value: value * 2}).relay(-21) == -42


def test_an_object_can_have_the_ocalls_as_methods(start: Start) -> None:
    class Host:
        def twice(self, value: int) -> int:
            return value + 1

    assert start(ocalls=Host()).relay(1) == 2


def test_an_ocall_may_make_an_ecall(start: Start) -> None:
    calls: list[Enclave] = []
    enclave = start(ocalls={"again": lambda value: calls[0].add(value, 100)})
    calls.append(enclave)
    assert enclave.through(5) == 105


def test_ecalls_nest_in_ocalls_many_deep(start: Start) -> None:
    depth: list[int] = []

    def again(value: int) -> int:
        depth.append(value)
        return enclave.through(value - 1) + 1 if value else 0

    enclave = start(ocalls={"again": again})
    assert enclave.through(8) == 8
    assert len(depth) == 9


def test_in_comes_as_bytes(start: Start) -> None:
    got: list[object] = []
    start(ocalls={"receive": lambda data, n: got.append((data, n))}).converse(1, 5)
    assert got == [(b"\0\1\2\3\4", 5)]


def test_out_comes_as_a_view_that_ends_with_the_call(start: Start) -> None:
    kept: list[memoryview] = []

    def fill(data: memoryview, n: int) -> int:
        data[:] = bytes([7]) * n
        kept.append(data)
        return 3

    assert start(ocalls={"fill": fill}).converse(2, 4) == 300028
    with pytest.raises(ValueError, match="released"):
        _ = kept[0][0]


def test_strings_come_as_text(start: Start) -> None:
    got: list[object] = []

    def say(text: str, wide: str) -> int:
        got.append((text, wide))
        return 12

    assert start(ocalls={"say": say}).converse(3, 0) == 12
    assert got == [("hé", "\N{LOCK}k")]


def test_an_oserror_becomes_errno_where_the_edl_propagates_it(start: Start) -> None:
    def may_fail(code: int) -> int:
        if code:
            raise OSError(code, "no")
        return 9

    enclave = start(ocalls={"may_fail": may_fail})
    assert enclave.converse(4, 0) == 9000
    assert enclave.converse(4, errno.EACCES) == -1000 + errno.EACCES


def test_a_deep_structure_comes_as_a_dict_and_goes_back(start: Start) -> None:
    def sum_items(values: dict[str, Any]) -> int:
        items = values["items"].cast("I")
        values["total"] = sum(items)
        items[2] = 9
        return int(values["count"])

    assert start(ocalls={"sum_items": sum_items}).converse(5, 7) == 3_024_009


def test_a_string_that_goes_back_is_a_view_with_its_end(start: Start) -> None:
    got: list[object] = []

    def change(text: memoryview, point: bytes, by: float) -> None:
        got.extend((bytes(text), point, by))
        text[:6] = b"AFTERX"

    assert start(ocalls={"change": change}).converse(6, 0) == ord("A") << 8 | ord("X")
    assert got == [b"before\0", b"\3\0\0\0\xfc\xff\xff\xff", 2.5]


def test_an_exception_in_an_ocall_is_the_cause_of_ocall_error(start: Start) -> None:
    def twice(value: int) -> int:
        raise ZeroDivisionError(f"{value}")

    enclave = start(ocalls={"twice": twice})
    with pytest.raises(OcallError, match="OCALL twice raised ZeroDivisionError: 7") as caught:
        enclave.relay(7)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert enclave.add(1, 2) == 3


def test_an_exception_in_a_nested_ecalls_ocall_comes_all_the_way(start: Start) -> None:
    enclave: Enclave = start(
        ocalls={"again": lambda value: enclave.relay(value), "twice": lambda _: 1 / 0}
    )
    with pytest.raises(OcallError, match="OCALL twice raised ZeroDivisionError"):
        enclave.through(1)
    assert enclave.add(1, 2) == 3


def test_an_interrupt_in_an_ocall_comes_out_as_itself(start: Start) -> None:
    def twice(value: int) -> int:
        del value
        raise KeyboardInterrupt

    enclave = start(ocalls={"twice": twice})
    with pytest.raises(KeyboardInterrupt):
        enclave.relay(1)
    assert enclave.add(1, 2) == 3


def test_a_missing_ocall_is_named(start: Start) -> None:
    enclave = start()
    with pytest.raises(OcallError, match="made OCALL twice, which the host does not have"):
        enclave.relay(1)
    with pytest.raises(OcallError, match="made OCALL 40"):
        enclave.converse(40, 0)
    assert enclave.add(1, 2) == 3


def test_an_ocall_that_the_edl_does_not_have_is_refused_at_load(start: Start) -> None:
    with pytest.raises(ConfigError, match="no OCALL twise; it has twice"):
        start(ocalls={"twise": print})
    with pytest.raises(ConfigError, match="takes a function"):
        start(ocalls={"twice": 2})


def test_a_result_of_the_wrong_type_is_named(start: Start) -> None:
    with pytest.raises(OcallError, match=r"must return int64_t.*returned None"):
        start(ocalls={"twice": lambda _value: None}).relay(1)


def test_a_pointer_off_the_untrusted_stack_is_refused(start: Start) -> None:
    enclave = start(ocalls={"stray": lambda *_: None})
    with pytest.raises(OcallError, match="not on the stack"):
        enclave.converse(7, 16)
    assert enclave.add(1, 2) == 3


def test_ocalls_can_be_served_by_number_with_an_address(start: Start) -> None:
    got: list[int] = []
    start(edl=None, ocalls={0: got.append}).ocall  # noqa: B018  # bound without EDL
    enclave = start(ocalls={0: got.append})
    enclave.relay(3)
    assert len(got) == 1
