# SPDX-License-Identifier: Apache-2.0
"""Remember what was checked: collateral, platforms, and quoting enclaves with their keys.

Entries are found by every byte that their check looked at, and hold only in the time for which
the check would come out the same. What was refused is never kept.
"""

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Protocol, TypeVar

__all__ = ["Cache"]


class _Timed(Protocol):
    """Something that holds from one time to another, both included."""

    @property
    def begins(self) -> datetime: ...
    @property
    def expires(self) -> datetime: ...


_T = TypeVar("_T", bound=_Timed)


class Cache:
    """A bounded memory of checks that were passed, least recently used out first."""

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._entries: dict[Hashable, object] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, kind: type[_T], key: Hashable, now: datetime, check: Callable[[], _T]) -> _T:
        """Return the entry of a key if it holds now, else what the check returns."""
        place = (kind, key)
        found = self._entries.pop(place, None)
        if not isinstance(found, kind) or not found.begins <= now <= found.expires:
            found = check()
            if len(self._entries) >= self._limit:
                self._entries.pop(next(iter(self._entries), None), None)
        self._entries[place] = found
        return found
