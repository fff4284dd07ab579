# SPDX-License-Identifier: Apache-2.0
"""Evaluate the integer expression of an `#if`."""

import re
from collections.abc import Callable

__all__ = ["ConditionError", "evaluate"]

_MAX_TOKENS = 1000
_MAX_DEPTH = 50
_TOKEN = re.compile(r"\s*(\d\w*|[A-Za-z_]\w*|&&|\|\||<<|>>|[=!<>]=|[-+*/%!~<>()&|^])", re.ASCII)
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]{1,16}|\d{1,20})[uUlL]{0,3}")
_LEVELS = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!="),
    ("<", ">", "<=", ">="),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)
_BINARY: dict[str, Callable[[int, int], int]] = {
    "||": lambda a, b: int(bool(a or b)),
    "&&": lambda a, b: int(bool(a and b)),
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "&": lambda a, b: a & b,
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "<": lambda a, b: int(a < b),
    ">": lambda a, b: int(a > b),
    "<=": lambda a, b: int(a <= b),
    ">=": lambda a, b: int(a >= b),
    "<<": lambda a, b: a << (b & 63),
    ">>": lambda a, b: a >> (b & 63),
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
    "%": lambda a, b: abs(a) % abs(b) * (-1 if a < 0 else 1),
}


class ConditionError(ValueError):
    """The expression is none; the message says what is wrong with it."""


def evaluate(text: str, macro: Callable[[str], str | None]) -> int:
    """Return the value of a C integer expression, computed in 64 bits.

    `macro` gives the body of a defined name, or None; a name without a value counts as 0.
    """
    reader = _Reader(_expand(_split(text), macro))
    value = reader.binary(0, 0)
    if reader.tokens:
        raise ConditionError(f"`{reader.tokens[-1]}` can't stand here")
    return value


def _split(text: str) -> list[str]:
    tokens: list[str] = []
    offset = 0
    text = text.rstrip()
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None:
            raise ConditionError(f"{text[offset]!a} can't stand in a condition")
        if len(tokens) == _MAX_TOKENS:
            raise ConditionError("the condition is too long")
        tokens.append(match[1])
        offset = match.end()
    return tokens


def _expand(tokens: list[str], macro: Callable[[str], str | None]) -> list[str]:
    """Replace names by their macros and `defined` by its answer; reversed, ready to pop."""
    pending = [(token, frozenset[str]()) for token in reversed(tokens)]
    done: list[str] = []
    for _ in range(_MAX_TOKENS * 2):
        if not pending:
            return done[::-1]
        word, hidden = pending.pop()
        if word == "defined":
            done.append(_defined(pending, macro))
        elif _is_name(word) and word not in hidden:
            body = macro(word)
            inside = _split("0" if body is None else body)
            pending += [(item, hidden | {word}) for item in reversed(inside)]
        else:
            done.append("0" if _is_name(word) else word)
    raise ConditionError("the condition's macros expand without end")


def _is_name(word: str) -> bool:
    return word[0].isalpha() or word[0] == "_"


def _defined(pending: list[tuple[str, frozenset[str]]], macro: Callable[[str], str | None]) -> str:
    words = [pending.pop()[0] for _ in range(min(3, len(pending)))]
    if len(words) == 3 and words[0] == "(" and words[2] == ")":
        name = words[1]
    elif words and words[0] != "(":
        name = words[0]
        pending += [(word, frozenset[str]()) for word in reversed(words[1:])]
    else:
        raise ConditionError("`defined` needs a name")
    return str(int(macro(name) is not None))


class _Reader:
    """Precedence climbing over reversed tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def binary(self, level: int, depth: int) -> int:
        if level == len(_LEVELS):
            return self.unary(depth)
        value = self.binary(level + 1, depth)
        while self.tokens and self.tokens[-1] in _LEVELS[level]:
            operator = self.tokens.pop()
            right = self.binary(level + 1, depth)
            if operator in "/%" and right == 0:
                raise ConditionError("the condition divides by zero")
            value = _wrap(_BINARY[operator](value, right))
        return value

    def unary(self, depth: int) -> int:
        if depth == _MAX_DEPTH:
            raise ConditionError("the condition nests too deeply")
        if not self.tokens:
            raise ConditionError("the condition ends too early")
        word = self.tokens.pop()
        if word in ("!", "~", "-", "+"):
            value = self.unary(depth + 1)
            return {"!": int(not value), "~": ~value, "-": _wrap(-value), "+": value}[word]
        if word == "(":
            value = self.binary(0, depth + 1)
            if not self.tokens or self.tokens.pop() != ")":
                raise ConditionError("a parenthesis is never closed")
            return value
        match = _NUMBER.fullmatch(word)
        if match is None:
            raise ConditionError(f"`{word[:40]}` is no number")
        digits = match[1]
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
        try:
            return _wrap(int(digits, base))
        except ValueError:
            raise ConditionError(f"`{digits}` is no octal number") from None


def _wrap(value: int) -> int:
    """Bring a value into the range of a signed 64-bit integer."""
    return ((value + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)
