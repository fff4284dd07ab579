# SPDX-License-Identifier: Apache-2.0
"""The functions of mbusafecrt.h, against what their documentation says, narrow and wide."""

import errno
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sdk.libc.conftest import Load

_TRUNCATE = 2**64 - 1
_STRUNCATE = 80
_ROOM = 32
_TEXT = st.text(st.characters(min_codepoint=97, max_codepoint=122), max_size=40)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_COPY, _COPY_N, _APPEND, _APPEND_N = range(4)


@pytest.fixture(scope="module")
def safecrt(load: Load) -> Iterator[Any]:
    with load("safecrt") as enclave:
        yield enclave


class _Narrow:
    suffix, width, codec = "", 1, "latin-1"


class _Wide:
    suffix, width, codec = "_wide", 4, "utf-32-le"


_widths = pytest.mark.parametrize("width", [_Narrow, _Wide])
Width = type[_Narrow] | type[_Wide]


def _encoded(text: str, width: Width, room: int = 0) -> bytearray:
    return bytearray((text + "\0").encode(width.codec).ljust(room * width.width, b"\xee"))


def _text(buffer: bytes | bytearray, width: Width) -> str:
    """Return the text up to its end; its absence is an error."""
    units = [buffer[at : at + width.width] for at in range(0, len(buffer), width.width)]
    end = units.index(bytes(width.width))
    return b"".join(units[:end]).decode(width.codec)


def _put(
    safecrt: Any, width: Width, before: str, size: int, which: int, text: str | None, count: int = 0
) -> tuple[int, str]:
    buffer = _encoded(before, width, _ROOM)
    source = None if text is None else bytes(_encoded(text, width))
    call = getattr(safecrt, f"put{width.suffix}")
    status = call(buffer, size, which, source, len(source or b""), count)
    assert buffer[size * width.width :] == _encoded(before, width, _ROOM)[size * width.width :]
    return status, _text(buffer, width)


def _expected(before: str, size: int, text: str, count: int) -> tuple[int, str]:
    """Return status and result of adding `count` characters at most."""
    whole = before + text[:count]
    if len(whole) < size:
        return 0, whole
    if count == _TRUNCATE:
        return _STRUNCATE, whole[: size - 1]
    return errno.ERANGE, ""


@_widths
@given(_TEXT, st.integers(1, _ROOM), st.integers(0, 40) | st.just(_TRUNCATE))
def test_a_copy_is_whole_or_empty(
    safecrt: Any, width: Width, text: str, size: int, count: int
) -> None:
    assert _put(safecrt, width, "x", size, _COPY, text) == _expected("", size, text, 99)
    got = _put(safecrt, width, "x", size, _COPY_N, text, count)
    assert got == _expected("", size, text, count)


@_widths
@given(_TEXT.filter(lambda text: len(text) < _ROOM), _TEXT, st.integers(0, 40), st.data())
def test_an_addition_is_whole_or_leaves_nothing(
    safecrt: Any, width: Width, before: str, text: str, count: int, data: Any
) -> None:
    size = data.draw(st.integers(len(before) + 1, _ROOM))
    assert _put(safecrt, width, before, size, _APPEND, text) == _expected(before, size, text, 99)
    for limit in (count, _TRUNCATE):
        got = _put(safecrt, width, before, size, _APPEND_N, text, limit)
        assert got == _expected(before, size, text, limit)


@_widths
def test_arguments_that_make_no_sense_are_named_so(safecrt: Any, width: Width) -> None:
    for which in (_COPY, _COPY_N, _APPEND, _APPEND_N):
        assert _put(safecrt, width, "abc", 8, which, None, 2) == (errno.EINVAL, "")
        assert safecrt.put_nowhere(which, 8, 2) == errno.EINVAL
        assert safecrt.put_nowhere(which, 0, 2) == errno.EINVAL
    for which in (_COPY_N, _APPEND_N):
        assert safecrt.put_nowhere(which, 0, 0) == 0
    assert _put(safecrt, width, "abc", 8, _COPY_N, None, 0) == (0, "")
    assert _put(safecrt, width, "abc", 8, _APPEND_N, None, 0) == (0, "abc")
    unended = _put(safecrt, width, "abcdef", 3, _APPEND, "g")
    assert unended == (errno.EINVAL, "")


@_widths
@given(st.text("ab, ;", max_size=40), st.text(", ;", min_size=1, max_size=3))
def test_tokens_are_what_lies_between_delimiters(
    safecrt: Any, width: Width, text: str, delimiters: str
) -> None:
    buffer, starts = _encoded(text, width, 64), bytearray(8 * 32)
    if width is _Narrow:
        found = safecrt.tokens(buffer, delimiters, starts, 32)
    else:
        found = safecrt.tokens_wide(buffer, bytes(_encoded(delimiters, width, 8)), starts, 32)
    clean = "".join(" " if each in delimiters else each for each in text)
    expected = [each for each in clean.split(" ") if each]
    if " " not in delimiters:
        clean = "".join("\n" if each in delimiters else each for each in text)
        expected = [each for each in clean.split("\n") if each]
    at = struct.unpack_from(f"<{found}Q", starts)
    assert [_text(buffer[each * width.width :], width) for each in at] == expected


def _digits(value: int, radix: int) -> str:
    digits = ""
    while value or not digits:
        value, digit = divmod(value, radix)
        digits = _DIGITS[digit] + digits
    return digits


@_widths
@given(st.integers(-(2**63), 2**63 - 1), st.integers(2, 36), st.integers(0, 4), st.integers(0, 80))
def test_numbers_are_written_in_every_base(
    safecrt: Any, width: Width, value: int, radix: int, which: int, size: int
) -> None:
    bits = 32 if which == 0 else 64
    if which == 0:
        value = (value + 2**31) % 2**32 - 2**31
    signed = radix == 10 and value < 0 and which in (0, 1, 3)
    expected = "-" + _digits(-value, 10) if signed else _digits(value % 2**bits, radix)
    buffer = bytearray(80 * width.width)
    status = getattr(safecrt, f"number{width.suffix}")(buffer, size, which, value, radix)
    if size == 0:
        assert status == errno.EINVAL
    elif len(expected) < size:
        assert (status, _text(buffer, width)) == (0, expected)
    else:
        assert (status, _text(buffer, width)) == (errno.ERANGE, "")


@pytest.mark.parametrize("radix", [-10, 0, 1, 37])
def test_there_are_no_other_bases(safecrt: Any, radix: int) -> None:
    assert safecrt.number(bytearray(80), 80, 0, 7, radix) == errno.EINVAL
    assert safecrt.number_wide(bytearray(320), 80, 4, 7, radix) == errno.EINVAL


@_widths
@given(_TEXT, st.integers(-999, 999), st.integers(1, _ROOM))
def test_what_does_not_fit_is_not_printed(
    safecrt: Any, width: Width, text: str, number: int, size: int
) -> None:
    buffer = bytearray(_ROOM * width.width)
    length = getattr(safecrt, f"print{width.suffix}")(buffer, size, 0, 0, text, number)
    expected = f"{text}={number}"
    if len(expected) < size:
        assert (length, _text(buffer, width)) == (len(expected), expected)
        assert safecrt.last_errno() == 0
    else:
        assert (length, _text(buffer, width)) == (-1, "")
        assert safecrt.last_errno() == errno.ERANGE


@_widths
@given(_TEXT, st.integers(1, _ROOM), st.integers(0, 40) | st.just(_TRUNCATE))
def test_with_a_count_the_rest_is_cut_off(
    safecrt: Any, width: Width, text: str, size: int, count: int
) -> None:
    buffer, expected = bytearray(_ROOM * width.width), f"{text}=7"
    length = getattr(safecrt, f"print{width.suffix}")(buffer, size, 1, count, text, 7)
    most = size - 1 if count == _TRUNCATE else count
    if len(expected) <= min(most, size - 1):
        assert (length, _text(buffer, width)) == (len(expected), expected)
    elif most < size:
        assert (length, _text(buffer, width)) == (-1, expected[:most])
        assert safecrt.last_errno() == 0
    else:
        assert (length, _text(buffer, width)) == (-1, "")
        assert safecrt.last_errno() == errno.ERANGE


@pytest.mark.parametrize(("which", "error"), [(0, 22), (1, 22), (2, 22), (3, errno.EILSEQ)])
def test_printing_that_fails_says_why(safecrt: Any, which: int, error: int) -> None:
    assert safecrt.print_badly(which) == 1
    assert safecrt.last_errno() == error


def test_a_wide_text_is_looked_at_no_further_than_allowed(safecrt: Any) -> None:
    assert safecrt.wide_length("abc\0de".encode("utf-32-le"), 24) == 3
    assert safecrt.wide_length("abcdef".encode("utf-32-le"), 24) == 6
