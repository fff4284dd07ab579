# SPDX-License-Identifier: Apache-2.0
"""What crosses the border in an ECALL, each kind of parameter both ways."""

import array
import ctypes
import inspect
from collections.abc import Callable

import pytest

from ensconce.enclave import Enclave, Untrusted
from ensconce.errors import ConfigError, EnclaveError

Start = Callable[..., Enclave]


def test_an_ecall_without_parameters_returns_none(start: Start) -> None:
    assert start().nothing() is None


def test_numbers_go_by_value_and_by_name(start: Start) -> None:
    enclave = start()
    assert enclave.add(3, -5) == -2
    assert enclave.add(b=2**62, a=1) == 2**62 + 1
    assert enclave.scale(1.5, 2.0) == 3.0


def test_an_in_buffer_and_an_out_buffer_are_copied(start: Start) -> None:
    target = bytearray(b"......rest")
    assert start().reverse(b"abcdef!", target, 6) == 6
    assert target == b"fedcbarest"


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 1 << 20])
def test_buffers_of_every_size_arrive_whole(start: Start, size: int) -> None:
    source = bytes(range(256)) * (size // 256 + 1)
    target = bytearray(size)
    start().reverse(memoryview(source)[:size], target, size)
    assert target == source[:size][::-1]


def test_any_writable_buffer_can_be_filled(start: Start) -> None:
    enclave, items = start(), array.array("i", [1, -2, 3])
    enclave.double_all(items, 2)
    assert items.tolist() == [2, -4, 3]
    one = ctypes.c_int32(21)
    enclave.double_all(one, 1)
    assert one.value == 42


def test_null_is_none(start: Start) -> None:
    assert start().length(None) == 0


def test_a_string_takes_text_or_bytes_and_its_end_is_added(start: Start) -> None:
    enclave = start()
    assert enclave.length("hé") == 3004
    assert enclave.length(b"\xff\xfe") == 2003
    assert enclave.wide_length("ab\N{LOCK}") == 16


def test_a_string_that_comes_back_is_changed_in_place(start: Start) -> None:
    text = bytearray(b"shout!\0 untouched")
    assert start().shout(text) == 7
    assert text == b"SHOUT!\0 untouched"


def test_a_user_check_pointer_is_an_address(start: Start) -> None:
    memory = Untrusted(8)
    memory.data[:8] = (0x1122334455667788).to_bytes(8, "little")
    assert start().first(memory.address) == 0x1122334455667788
    memory.close()


def test_structures_go_by_value_as_bytes(start: Start) -> None:
    point = (1).to_bytes(4, "little") + (-2).to_bytes(4, "little", signed=True)
    assert start().mirror(point) == point[4:] + point[:4]


def test_a_structure_is_copied_deeply_from_a_dict_and_back(start: Start) -> None:
    items = array.array("I", [5, 6, 7])
    values = {"count": 3, "items": items, "total": 0}
    assert start().sum_list(values) == 18
    assert (values["total"], items.tolist()) == (18, [6, 7, 8])


def test_arrays_enumerations_and_header_types_cross(start: Start) -> None:
    enclave = start()
    assert enclave.matrix(array.array("i", [1, 2, 3, 4, 5, 6])) == 156
    assert enclave.next_color(7) == 8
    assert enclave.opaque(0xF0F0) == 0x0F0F
    assert enclave.opaque(b"\1\0\0\0") == 0xFFFE


def test_an_enclaves_ecall_named_like_a_method_is_in_calls(start: Start) -> None:
    enclave = start()
    assert enclave.calls["close"]() is None
    assert enclave.add(1, 1) == 2


def test_a_proxy_knows_its_name_signature_and_declaration(start: Start) -> None:
    add = start().add
    assert add.__name__ == "add"
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert add.__doc__ == "int64_t add(int64_t a, int64_t b)"


WRONG: list[tuple[str, tuple[object, ...], type[Exception], str]] = [
    ("add", (1,), TypeError, r"add\(\) takes \(a, b\)"),
    ("add", (1, "2"), TypeError, r"add\(b\) takes int64_t"),
    ("add", (1, 2**63), ValueError, r"add\(b\) takes int64_t"),
    ("reverse", ("abc", bytearray(3), 3), TypeError, "encode the text first"),
    ("reverse", (b"abc", b"abc", 3), TypeError, "writable"),
    ("reverse", (b"ab", bytearray(3), 3), ValueError, r"reverse\(source\) takes 3 bytes"),
    ("reverse", (b"abc", bytearray(2), 3), ValueError, r"reverse\(target\) takes 3 bytes"),
    ("reverse", (b"abc", bytearray(3), -1), ValueError, "can't be -1"),
    ("reverse", (b"abc", bytearray(3), None), TypeError, "takes its size from n"),
    ("reverse", (memoryview(b"abcdef")[::2], bytearray(3), 3), TypeError, "contiguous"),
    ("length", ("a\0b",), ValueError, "zero character"),
    ("length", (3,), TypeError, "str or bytes"),
    ("shout", (bytearray(b"endless"),), ValueError, "ends with a zero"),
    ("first", (b"not an address",), TypeError, "address"),
    ("mirror", (b"short",), ValueError, "8 bytes"),
    ("sum_list", ({"nosuch": 1},), TypeError, "no member nosuch"),
    ("sum_list", ({"count": 2, "items": bytearray(4), "total": 0},), ValueError, "8 bytes"),
]


@pytest.mark.parametrize(("name", "arguments", "error", "text"), WRONG)
def test_a_wrong_argument_is_named_before_the_enclave_is_entered(
    start: Start, name: str, arguments: tuple[object, ...], error: type[Exception], text: str
) -> None:
    enclave = start()
    with pytest.raises(error, match=text):
        enclave.calls[name](*arguments)
    assert enclave.add(1, 2) == 3


def test_a_status_comes_as_an_error_with_name_and_mend(start: Start) -> None:
    enclave = start()
    with pytest.raises(EnclaveError, match=r"OUT_OF_MEMORY.*HeapMaxSize") as caught:
        enclave.fail(3)
    assert caught.value.status == 3
    with pytest.raises(EnclaveError, match="ECALL_NOT_ALLOWED"):
        enclave.hidden()
    with pytest.raises(EnclaveError, match="status 0x4321"):
        enclave.fail(0x4321)


def test_an_enclave_can_be_called_by_number_without_edl(start: Start) -> None:
    enclave, memory = start(edl=None), Untrusted(24)
    memory.data[8:24] = (20).to_bytes(8, "little") + (22).to_bytes(8, "little")
    enclave.ecall(1, memory.address)
    assert memory.data[0] == 42
    with pytest.raises(EnclaveError, match="count from 0"):
        enclave.ecall(-1)


def test_a_size_that_edl_does_not_tell_is_asked_for(start: Start) -> None:
    enclave = start(types=None)
    with pytest.raises(ConfigError, match=r"handle_t.*types"):
        enclave.opaque(1)
    assert enclave.add(1, 2) == 3


def test_there_is_no_method_that_the_edl_does_not_have(start: Start) -> None:
    with pytest.raises(AttributeError, match="no ECALL nosuch"):
        _ = start().nosuch
