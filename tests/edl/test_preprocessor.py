# SPDX-License-Identifier: Apache-2.0
"""Conditions, macros and inclusion before the language proper."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.edl.conditions import ConditionError, evaluate
from ensconce.edl.preprocessor import tokens
from ensconce.errors import FormatError


def words(text: str, **files: str) -> str:
    def read(path: str) -> str:
        if path in files:
            return files[path]
        raise FileNotFoundError(path)

    return " ".join(token.text for token in tokens(text, "main", read))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\n#ifdef X\nb\n#endif\nc", "a c"),
        ("#define X\n#ifdef X\nb\n#else\nc\n#endif", "b"),
        ("#ifndef X\nb\n#else\nc\n#endif", "b"),
        ("#define X\n#undef X\n#ifdef X\nb\n#endif", ""),
        ("#if 1\na\n#elif 1\nb\n#else\nc\n#endif", "a"),
        ("#if 0\na\n#elif 1\nb\n#elif 1\nc\n#else\nd\n#endif", "b"),
        ("#if 0\n#if 1\na\n#else\nb\n#endif\n#elif 0\nc\n#else\nd\n#endif", "d"),
        ("#define N 16\n[ N ]", "[ 16 ]"),
        ("#define A B\n#define B 7\nA B", "7 7"),
        ("#define A A x\nA", "A x"),
        ("#define A B\n#define B A\nA B", "A B"),
        ("#define N 1\nN\n#define N 2\nN", "1 2"),
        ("#define LONG a \\\n  b \\\n  c\nLONG", "a b c"),
        ("#ifdef __linux__\na\n#endif\n#ifdef _WIN32\nb\n#endif", "a"),
        ('#pragma once\n#warning x\n# 1 "f"\n#\na', "a"),
        ("  #  define  N  3 /* three */\nN", "3"),
        ("#define F(x) x + 1\na", "a"),
        ("#if 0\n'tis @ no % token\n#error\n#nonsense\n#endif\na", "a"),
        ("#if defined(F) || \\\n 1\na\n#endif", "a"),
        ('#include "x"\nN', "x 5"),
    ],
)
def test_the_preprocessor_leaves_what_gcc_leaves(text: str, left: str) -> None:
    assert words(text, x="x\n#define N 5\n") == left


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#if 1\na", "this condition never ends"),
        ("#endif", "#endif has no #if"),
        ("#else", "#else has no #if"),
        ("#if 1\n#else\n#else\n#endif", "#else has no #if"),
        ("#if 1\n#else\n#elif 1\n#endif", "#elif has no #if"),
        ("#define", "#define needs a name"),
        ("#ifdef\n#endif", "needs a name"),
        ("#error stop here", "#error stop here"),
        ("#nonsense", "unknown directive `#nonsense`"),
        ("#define F(x) x\nF(1)", "the macro `F` has parameters"),
        ("#include <stdio.h>", "takes a file name in double quotes"),
        ('#include "absent"', "absent can't be read"),
        ('#include "main"', "include each other without end"),
        ("#if (1\n#endif", "a parenthesis is never closed"),
        ("#if\n#endif", "the condition ends too early"),
        ("\n".join("#if 1" for _ in range(1001)), "nest too deeply"),
    ],
)
def test_wrong_directives_are_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        words(text, main='#include "main"')
    assert message in str(caught.value)


def test_more_than_is_read_cannot_be_included() -> None:
    with pytest.raises(FormatError, match="main:2:1: more is included than is read, at big"):
        words('#include "big"\n#include "big"', big=" " * 600_000)


def test_macros_that_multiply_are_stopped() -> None:
    defined = "".join(f"#define M{i} M{i + 1} M{i + 1}\n" for i in range(30))
    with pytest.raises(FormatError, match="tokens after its macros"):
        words(f"{defined}\n#define M30\nM0")


def test_macros_that_nest_too_deeply_are_stopped() -> None:
    defined = "".join(f"#define M{i} M{i + 1}\n" for i in range(100))
    with pytest.raises(FormatError, match="nests too deeply"):
        words(f"{defined}M0")


def test_a_token_keeps_its_place_through_macros_and_conditions() -> None:
    found = list(tokens("#define N 4\n#ifdef N\n  a N\n#endif", "main"))
    assert [str(token.position) for token in found] == ["main:3:3", "main:3:5"]


MACROS = {"ZERO": "0", "ONE": "1", "TEN": "(ONE + 9)", "SELF": "SELF", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 2 - 3", 5),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("1 << 4 | 1", 17),
        ("0x1F & ~1", 30),
        ("010", 8),
        ("5ul", 5),
        ("3 > 2 && 2 >= 2 && 1 < 2 && 1 <= 1", 1),
        ("1 == 2 || 1 != 2", 1),
        ("6 ^ 3", 5),
        ("!0 + !5", 1),
        ("TEN == 10", 1),
        ("UNKNOWN", 0),
        ("SELF", 0),
        ("defined ONE && defined(TEN) && !defined(UNKNOWN)", 1),
        ("9223372036854775807 + 1 < 0", 1),
        ("1 << 200", 1 << (200 & 63)),
    ],
)
def test_conditions_are_computed_as_c_does(text: str, value: int) -> None:
    assert evaluate(text, MACROS.get) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 +",
        "(",
        ")",
        "1 2",
        "1 / 0",
        "1 % 0",
        "09",
        "1x",
        "$",
        "defined",
        "defined (",
        "EMPTY",
    ],
)
def test_wrong_conditions_are_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        evaluate(text, MACROS.get)


@given(text=st.text("0123456789()+-*/%<>=!~&|^ xdefined", max_size=200))
def test_no_condition_does_anything_but_answer_or_refuse(text: str) -> None:
    with contextlib.suppress(ConditionError):
        assert -(1 << 63) <= evaluate(text, MACROS.get) < 1 << 63


@pytest.mark.parametrize("text", ["(" * 900, "!" * 900, "1+" * 900, "-" * 2000])
def test_deep_conditions_are_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        evaluate(text, MACROS.get)
