# SPDX-License-Identifier: Apache-2.0
"""Marshalling structures byte for byte, without an enclave behind them."""

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce import _core, edl
from ensconce.enclave.ecalls import compile_ecall
from ensconce.enclave.memory import Space
from ensconce.enclave.ocalls import Frame, compile_ocall
from ensconce.enclave.scalars import Types
from ensconce.errors import ConfigError, EnclaveError, OcallError

BASE = 0x10000
INTEGERS = {
    "char": (-128, 255),
    "unsigned char": (0, 255),
    "short": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "unsigned int": (0, 2**32 - 1),
    "long": (-(2**63), 2**63 - 1),
    "unsigned long long": (0, 2**64 - 1),
    "int8_t": (-128, 127),
    "uint16_t": (0, 2**16 - 1),
    "size_t": (0, 2**64 - 1),
    "wchar_t": (-(2**31), 2**31 - 1),
    "bool": (0, 1),
    "sgx_status_t": (0, 2**32 - 1),
    "off_t": (0, 2**64 - 1),
}


class Recorder:
    """Stands for an enclave's thread: keeps the structure, and answers as it is told."""

    def __init__(self, size: int = 64) -> None:
        self.space = Space(4096)
        self.size = size
        self.ms = b""
        self.answer: Callable[[memoryview], None] = lambda _ms: None

    def ecall(self, number: int, ms: int) -> None:
        assert number == 3
        view = _core.view(ms, self.size)
        self.ms = bytes(view)
        self.answer(view)
        view.release()


def proxy(recorder: Recorder, text: str, types: Any = None) -> Callable[..., Any]:
    interface = edl.loads(f"enclave {{ trusted {{ public {text}; }}; }};")
    return compile_ecall(interface.ecalls[0], 3, Types(interface, types), lambda: recorder)


@given(st.data())
def test_every_integer_goes_and_comes_back(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(INTEGERS)))
    low, high = INTEGERS[name]
    value = data.draw(st.integers(low, high))
    recorder = Recorder()

    def echo(ms: memoryview) -> None:
        size = Types(edl.loads("enclave { trusted { public void f(); }; };")).sizeof(kind)
        ms[:size] = ms[size : 2 * size]

    interface = edl.loads(f"enclave {{ trusted {{ public {name} f({name} v); }}; }};")
    kind = interface.ecalls[0].result
    recorder.answer = echo
    returned = proxy(recorder, f"{name} f({name} v)")(value)
    assert returned == (value - 256 if name == "char" and value > 127 else value)


@given(st.floats(width=32))
def test_floating_point_numbers_cross(value: float) -> None:
    recorder = Recorder()
    proxy(recorder, "void f(float a, double b, long double c)")(value, value, value)
    a, b = struct.unpack_from("<f4xd", recorder.ms)
    c = ctypes.c_longdouble.from_buffer_copy(recorder.ms[16:32]).value
    assert struct.pack("<3d", a, b, c) == struct.pack("<3d", value, value, value)


def test_fields_lie_where_c_puts_them() -> None:
    recorder = Recorder()
    proxy(recorder, "int f(char a, short b, char c, uint64_t d, uint8_t e)")(b"x", -2, 3, 4, 5)
    assert struct.unpack_from("<4xbxhb7xQB", recorder.ms) == (ord("x"), -2, 3, 4, 5)


def test_a_string_is_followed_by_its_length() -> None:
    recorder = Recorder()
    proxy(recorder, "void f([in, string] const char* s, int n)")("abc", 7)
    address, length, number = struct.unpack_from("<QQi", recorder.ms)
    assert (length, number) == (4, 7)
    assert bytes(_core.view(address, 4)) == b"abc\0"


def test_size_and_count_multiply() -> None:
    call = proxy(Recorder(), "void f([in, size = a, count = b] void* p, size_t a, size_t b)")
    call(bytes(12), 3, 4)
    with pytest.raises(ValueError, match=r"f\(p\) takes 13 bytes, and was given 12"):
        call(bytes(12), 13, 1)
    call = proxy(Recorder(), "void f([in, count = 3] uint16_t* p)")
    with pytest.raises(ValueError, match="takes 6 bytes"):
        call(bytes(5))


def test_a_pointer_without_size_stands_for_one_element() -> None:
    recorder, value = Recorder(), ctypes.c_uint64()

    def fill(ms: memoryview) -> None:
        (address,) = struct.unpack_from("<Q", ms)
        _core.view(address, 8)[:] = b"\7" + bytes(7)

    recorder.answer = fill
    proxy(recorder, "void f([out] uint64_t* p)")(value)
    assert value.value == 7


def test_a_structure_without_pointers_goes_from_a_dict_and_comes_back_in_it() -> None:
    recorder = Recorder(8)
    interface = edl.loads(
        "enclave { struct p { int8_t x; int y; }; trusted {"
        " public void f([in, out] struct p* one); public void g([in, count=2] struct p* two); }; };"
    )
    types = Types(interface)
    first = compile_ecall(interface.ecalls[0], 3, types, lambda: recorder)
    second = compile_ecall(interface.ecalls[1], 3, types, lambda: recorder)
    seen: list[bytes] = []

    def answer(ms: memoryview) -> None:
        (address,) = struct.unpack("<Q", ms)
        view = _core.view(address, 16)
        seen.append(bytes(view))
        struct.pack_into("<b3xi", view, 0, 9, 10)

    recorder.answer = answer
    values = {"x": -1, "y": 7}
    first(values)
    assert (struct.unpack_from("<b3xi", seen[0]), values) == ((-1, 7), {"x": 9, "y": 10})
    second([{"x": 1}, {"y": 2}])
    assert struct.unpack("<b3xib3xi", seen[1]) == (1, 0, 0, 2)
    first(bytearray(8))
    with pytest.raises(TypeError, match="struct p has no member z"):
        first({"z": 1})
    with pytest.raises(ValueError, match="takes 2 structures, not 1"):
        second([{"x": 1}])


def test_nothing_is_written_back_when_the_ecall_fails() -> None:
    recorder, target = Recorder(), bytearray(b"before")

    def fail(ms: memoryview) -> None:
        (address,) = struct.unpack_from("<Q", ms)
        _core.view(address, 6)[:] = b"inside"
        raise EnclaveError("no")

    recorder.answer = fail
    with pytest.raises(EnclaveError):
        proxy(recorder, "void f([in, out, size = 6] char* p)")(target)
    assert target == b"before"
    assert (recorder.space.top, recorder.space.after) == (0, [])


def test_header_types_that_are_pointers_or_arrays_take_their_size() -> None:
    call = proxy(Recorder(), "void f([in, isptr, size = 4] handle_p p)")
    call(b"four")
    call = proxy(Recorder(), "void f([in, isary] block_t p)", {"block_t": 16})
    call(bytes(16))
    with pytest.raises(ValueError, match="takes 16 bytes"):
        call(bytes(15))
    with pytest.raises(ConfigError, match="block_t"):
        proxy(Recorder(), "void f([in, isary] block_t p)")


def test_a_bare_pointer_is_an_address_or_none() -> None:
    recorder = Recorder()
    call = proxy(recorder, "void* f([user_check] void* p)")
    recorder.answer = lambda ms: struct.pack_into("<Q", ms, 0, 0x123)
    assert call(0x7000) == 0x123
    assert struct.unpack_from("<8xQ", recorder.ms) == (0x7000,)
    call(None)
    assert struct.unpack_from("<8xQ", recorder.ms) == (0,)


def test_ecalls_that_nest_without_end_run_out_of_space_and_not_over_it() -> None:
    recorder = Recorder()
    call = proxy(recorder, "void f(int n)")
    recorder.answer = lambda _ms: call(1)
    with pytest.raises(MemoryError, match="nested too deeply"):
        call(1)
    assert recorder.space.top == 0


def run(text: str, function: Callable[..., Any], stack: bytearray) -> None:
    """Run one OCALL whose marshalling structure lies at the start of a stack."""
    everything = f"enclave {{ trusted {{ public void e(); }}; untrusted {{ {text}; }}; }};"
    interface = edl.loads(everything)
    handler = compile_ocall(interface.ocalls[0], function, Types(interface))
    handler(Frame(BASE, memoryview(stack)), BASE)


@given(st.binary(max_size=200), st.integers(-8, 1 << 20), st.integers(-9, 1 << 20))
def test_no_pointer_of_an_ocall_reaches_out_of_the_stack(
    content: bytes, offset: int, size: int
) -> None:
    stack = bytearray(struct.pack("<Qq", (BASE + offset) & (1 << 64) - 1, size) + content)
    got: list[bytes] = []
    text = "void o([in, size = n] const uint8_t* p, int64_t n)"
    try:
        run(text, lambda data, _size: got.append(data), stack)
    except OcallError:
        assert not 0 <= offset <= offset + size <= len(stack)
    else:
        assert got == [bytes(stack[offset : offset + size])]


def test_an_ocalls_structure_must_lie_on_the_stack() -> None:
    with pytest.raises(OcallError, match="not on the stack"):
        run("int o(int a, int b, int c)", lambda *_: 0, bytearray(15))


def test_a_string_of_an_ocall_must_have_an_end() -> None:
    stack = bytearray(struct.pack("<Q", BASE + 8) + b"endless")
    with pytest.raises(OcallError, match="string without an end"):
        run("void o([in, string] const char* s)", lambda _text: None, stack)


def test_results_of_every_kind_are_stored() -> None:
    stack = bytearray(24)
    run("uint16_t o(uint8_t v)", lambda value: value * 2, bytearray(b"\0\0\x21\0"))
    for text, value, code in (
        ("double o()", 1.5, "<d"),
        ("int64_t o()", -3, "<q"),
        ("void* o()", None, "<Q"),
    ):
        run(text, lambda value=value: value, stack)
        assert struct.unpack_from(code, stack)[0] == (value or 0)


@pytest.mark.parametrize("value", [1 << 31, "text", 1.5])
def test_a_result_that_does_not_fit_is_told(value: object) -> None:
    with pytest.raises(TypeError, match=r"OCALL o must return int \(int\)"):
        run("int o()", lambda: value, bytearray(8))
