# SPDX-License-Identifier: Apache-2.0
"""Decisions read from bytes, so that a fuzzer and a test can make them; all zeroes is ordinary."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Numbers, choices and content out of a string of bytes; zeroes when it is used up."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def take(self, size: int) -> bytes:
        found = self._content[self._at : self._at + size]
        self._at += size
        return found.ljust(size, b"\0")

    def number(self, limit: int) -> int:
        """Return a number below `limit`."""
        size = (max(limit - 1, 1).bit_length() + 7) // 8
        return int.from_bytes(self.take(size), "little") % limit

    def rarely(self, one_in: int) -> bool:
        return self.number(one_in) == one_in - 1

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.number(len(choices))]

    def length(self) -> int:
        """Return a length: most often small, now and then one that overflows something."""
        if not self.rarely(6):
            return self.number(9)
        way = self.number(4)
        if way == 0:
            return self.number(1 << 12)
        if way == 1:
            return (1 << self.number(65)) - self.number(3)
        if way == 2:
            return -1 - self.number(9)
        return int.from_bytes(self.take(8), "little")

    def fill(self, size: int) -> bytes:
        """Return content of any size, of which only the first bytes are the fuzzer's own."""
        if size <= 8:
            return self.take(size)
        own = self.take(4)
        return own + random.Random(own).randbytes(size - 4)  # noqa: S311 (no secret)
