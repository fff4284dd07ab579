# SPDX-License-Identifier: Apache-2.0
"""JSON that Intel signs, read from the very bytes that the signature covers.

Keys that are given twice are refused, numbers are integers, and every value is fetched with its
type and range. Keys without a meaning here are let pass: Intel adds some without a new version.
"""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NoReturn

from ensconce.errors import FormatError

__all__ = ["Fields", "parse_object"]

_TIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def parse_object(text: bytes, source: str, largest: int = 1 << 20) -> "Fields":
    """Return the object that a JSON text of up to `largest` bytes is, or raise FormatError."""
    if len(text) > largest:
        raise FormatError(
            f"{source} has {len(text)} bytes, more than {largest}; it is something else",
            source=source,
        )

    def refuse(what: str) -> NoReturn:
        raise FormatError(f"{source} holds {what}; integers are its only numbers", source=source)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FormatError(f"{source} gives a key twice; it was tampered with", source=source)
        return found

    try:
        value = json.loads(
            text.decode(), object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{source} is not JSON: {error}", source=source) from error
    if not isinstance(value, dict):
        raise FormatError(f"{source} is JSON and not an object", source=source)
    return Fields(value, source)


class Fields:
    """A JSON object whose values are fetched with their type; errors name the key's path."""

    def __init__(self, values: dict[str, Any], source: str) -> None:
        self._values = values
        self._source = source

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        """Return a string."""
        value: str = self._get(key, str, "a string")
        return value

    def text_if_any(self, key: str) -> str:
        """Return a string, empty if it is not there or null."""
        return "" if self._values.get(key) is None else self.text(key)

    def number(self, key: str, largest: int) -> int:
        """Return an integer from 0 to the largest that is allowed."""
        value: int = self._get(key, int, "an integer")
        if isinstance(value, bool) or not 0 <= value <= largest:
            raise self._fault(key, f"an integer from 0 to {largest}")
        return value

    def flag(self, key: str) -> bool:
        """Return a boolean."""
        value: bool = self._get(key, bool, "true or false")
        return value

    def octets(self, key: str, size: int) -> bytes:
        """Return the bytes that a string has in hex."""
        value = self.text(key)
        if len(value) != 2 * size or not value.isalnum():
            raise self._fault(key, f"{size} bytes in hex")
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise self._fault(key, f"{size} bytes in hex") from None

    def time(self, key: str) -> datetime:
        """Return a time in UTC, to the second."""
        value = self.text(key)
        try:
            if _TIME.fullmatch(value):
                return datetime.fromisoformat(value)
        except ValueError:
            pass
        raise self._fault(key, "a time like 2025-08-15T05:08:18Z")

    def object(self, key: str) -> "Fields":
        """Return an object."""
        return Fields(self._get(key, dict, "an object"), f"{self._source}: {key}")

    def objects(self, key: str) -> Iterable["Fields"]:
        """Return a list of objects."""
        for number, value in enumerate(self._get(key, list, "a list")):
            if not isinstance(value, dict):
                raise self._fault(key, "a list of objects")
            yield Fields(value, f"{self._source}: {key}[{number}]")

    def numbers(self, key: str, name: str, count: int, largest: int) -> tuple[int, ...]:
        """Return what a list of so many objects has under a name: integers from 0 on."""
        values = self._get(key, list, "a list of objects")
        found: tuple[Any, ...] = tuple(
            one.get(name) if isinstance(one, dict) else None for one in values
        )
        if len(found) != count or not all(type(n) is int and 0 <= n <= largest for n in found):
            raise self._fault(key, f"a list of {count} objects with {name} from 0 to {largest}")
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty if it is not there."""
        values = self._get(key, list, "a list of strings") if key in self else []
        if not all(isinstance(value, str) for value in values):
            raise self._fault(key, "a list of strings")
        return tuple(values)

    def choice(self, key: str, choices: Iterable[str]) -> str:
        """Return one of the strings that are allowed."""
        value, allowed = self.text(key), tuple(choices)
        if value not in allowed:
            raise self._fault(key, "one of " + ", ".join(allowed))
        return value

    def compact(self) -> bytes:
        """Return the object as JSON without white space, its keys in the order they were read."""
        return json.dumps(self._values, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "replace"
        )

    def refuse(self, key: str, wanted: str) -> NoReturn:
        """Refuse what a key holds."""
        raise self._fault(key, wanted)

    def _get(self, key: str, kind: type, wanted: str) -> Any:
        """Return the value of a key if it has the type."""
        value = self._values.get(key)
        if not isinstance(value, kind):
            raise self._fault(key, wanted)
        return value

    def _fault(self, key: str, wanted: str) -> FormatError:
        """Return the error of a value that is missing or wrong."""
        return FormatError(
            f"{self._source}: {key} is missing or is not {wanted}", source=self._source
        )
