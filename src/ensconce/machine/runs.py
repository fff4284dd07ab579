# SPDX-License-Identifier: Apache-2.0
"""Integers kept per page as runs of equal value, so that 16 million equal pages are one entry."""

from bisect import bisect_right

__all__ = ["RunMap", "Span"]

Span = tuple[int, int, int | None]


class RunMap:
    """A sparse map from page numbers to integers; neighbours of equal value share one run.

    A look-up is a bisection; a change costs the runs it touches. Not safe against concurrent
    changes: whoever owns the map has the lock.
    """

    __slots__ = ("_ends", "_starts", "_values", "pages")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[int] = []
        self.pages = 0

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._starts)

    def get(self, page: int) -> int | None:
        """Return a page's value, None where it has none."""
        at = bisect_right(self._starts, page) - 1
        if at < 0 or page >= self._ends[at]:
            return None
        return self._values[at]

    def runs(self) -> list[tuple[int, int, int]]:
        """Return all runs as (first page, one past the last, value), in order."""
        return list(zip(self._starts, self._ends, self._values, strict=True))

    def spans(self, first: int, end: int) -> list[Span]:
        """Return [first, end) cut into (from, to, value), gaps included with the value None."""
        spans: list[Span] = []
        at = max(bisect_right(self._starts, first) - 1, 0)
        here = first
        while here < end and at < len(self._starts):
            start, stop, value = self._starts[at], self._ends[at], self._values[at]
            at += 1
            if stop <= here:
                continue
            if start >= end:
                break
            if start > here:
                spans.append((here, start, None))
                here = start
            stop = min(stop, end)
            spans.append((here, stop, value))
            here = stop
        if here < end:
            spans.append((here, end, None))
        return spans

    def overlaps(self, first: int, end: int) -> bool:
        """Return whether any page of [first, end) has a value."""
        at = bisect_right(self._starts, first) - 1
        if at >= 0 and self._ends[at] > first:
            return first < end
        return at + 1 < len(self._starts) and self._starts[at + 1] < end

    def put(self, first: int, end: int, value: int | None) -> None:
        """Give every page of [first, end) a value, or none."""
        if first >= end:
            return
        low, high, before, after = self._cut(first, end)
        starts, ends, values = [], [], []
        if before is not None:
            starts.append(before[0])
            ends.append(first)
            values.append(before[1])
        if value is not None:
            starts.append(first)
            ends.append(end)
            values.append(value)
            self.pages += end - first
        if after is not None:
            starts.append(end)
            ends.append(after[0])
            values.append(after[1])
        self._starts[low:high] = starts
        self._ends[low:high] = ends
        self._values[low:high] = values
        self._join(max(low - 1, 0), min(low + len(starts) + 1, len(self._starts)))

    def _cut(
        self, first: int, end: int
    ) -> tuple[int, int, tuple[int, int] | None, tuple[int, int] | None]:
        """Return the index range that [first, end) touches and what sticks out on either side."""
        low = bisect_right(self._starts, first) - 1
        if low < 0 or self._ends[low] <= first:
            low += 1
        high = low
        before = after = None
        while high < len(self._starts) and self._starts[high] < end:
            start, stop, value = self._starts[high], self._ends[high], self._values[high]
            if start < first:
                before = (start, value)
            if stop > end:
                after = (stop, value)
            self.pages -= min(stop, end) - max(start, first)
            high += 1
        return low, high, before, after

    def _join(self, low: int, high: int) -> None:
        """Merge equal neighbours among the runs of the index range [low, high)."""
        at = high - 1
        while at > low:
            touches = self._ends[at - 1] == self._starts[at]
            if touches and self._values[at - 1] == self._values[at]:
                self._ends[at - 1] = self._ends[at]
                del self._starts[at], self._ends[at], self._values[at]
            at -= 1
