# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities that are whole numbers, as extended resources are."""

import re
from fractions import Fraction

from ensconce.errors import FormatError

__all__ = ["binary_quantity", "parse_quantity"]

_FORM = re.compile(
    r"([0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?"
)
_BINARY = {suffix: 1 << 10 * n for n, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_DECIMAL = {suffix: 1000**n for n, suffix in enumerate(("", "k", "M", "G", "T", "P", "E"))}
_SCALES = (
    _BINARY | _DECIMAL | {"m": Fraction(1, 10**3), "u": Fraction(1, 10**6), "n": Fraction(1, 10**9)}
)
_MOST = (1 << 63) - 1


def parse_quantity(value: object) -> int:
    """Return a quantity as a number; FormatError unless it is whole and from 0 to 2^63 - 1."""
    text = str(value) if type(value) is int else value
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise FormatError(f"{_short(value)} is no quantity; write a whole number or one like 10Mi")
    digits, suffix = found[1], found[2] or ""
    scale = _SCALES.get(suffix) or Fraction(10) ** int(suffix[1:])
    number = (int(digits) if digits.isdigit() else Fraction(digits)) * scale
    if number.denominator != 1 or number > _MOST:
        raise FormatError(f"{_short(value)} is no whole number up to 2^63 - 1")
    return int(number)


def binary_quantity(number: int) -> str:
    """Return a number with the largest binary suffix that leaves it whole, as Kubernetes does."""
    suffix = ""
    for each in _BINARY:
        if number == 0 or number % 1024:
            break
        number, suffix = number // 1024, each
    return f"{number}{suffix}"


def _short(value: object) -> str:
    """Return a value for a message, cut to a length that one can read."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
