# SPDX-License-Identifier: Apache-2.0
"""The little of CBOR (RFC 8949) that evidence in certificates is written in: read strictly.

Unsigned numbers, byte and text strings, arrays, maps with text keys, and tags; of definite length,
each length in its shortest form, no key twice, nothing after the end. Whatever else CBOR has is
refused. Depth and number of items are bounded before anything is built.
"""

from dataclasses import dataclass

from ensconce.errors import FormatError

__all__ = ["Tagged", "Value", "decode", "encode"]

MAX_DEPTH = 6
MAX_ITEMS = 256

_UNSIGNED, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = 0, 2, 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value with the number that says what it is."""

    tag: int
    value: "Value"


Value = int | bytes | str | tuple["Value", ...] | dict[str, "Value"] | Tagged


def decode(data: bytes, source: str) -> Value:
    """Return the one value that the bytes are; FormatError if they are anything else."""
    reader = _Reader(data, source)
    value = reader.value(MAX_DEPTH)
    if reader.offset != len(data):
        raise reader.fault("bytes after its end")
    return value


def encode(value: Value) -> bytes:
    """Return a value's bytes, in the order in which maps have their keys."""
    match value:
        case int():
            return _head(_UNSIGNED, value)
        case bytes():
            return _head(_BYTES, len(value)) + value
        case str():
            text = value.encode()
            return _head(_TEXT, len(text)) + text
        case Tagged():
            return _head(_TAG, value.tag) + encode(value.value)
        case dict():
            items = (encode(key) + encode(one) for key, one in value.items())
            return _head(_MAP, len(value)) + b"".join(items)
        case _:
            return _head(_ARRAY, len(value)) + b"".join(map(encode, value))


def _head(kind: int, number: int) -> bytes:
    """Return what an item begins with: its major type and a number in its shortest form."""
    if number < 24:
        return bytes((kind << 5 | number,))
    power = next(power for power in range(4) if number < 1 << (8 << power))
    return bytes((kind << 5 | 24 + power,)) + number.to_bytes(1 << power, "big")


class _Reader:
    """A position in bytes that are not trusted."""

    def __init__(self, data: bytes, source: str) -> None:
        self._data = data
        self._source = source
        self._items = 0
        self.offset = 0

    def fault(self, what: str) -> FormatError:
        """Return the error of what stands at the position."""
        return FormatError(
            f"{self._source} has {what} at {self.offset}; it is not the CBOR that evidence uses",
            source=self._source,
            offset=self.offset,
        )

    def value(self, depth: int) -> Value:
        """Return the next item, with at most so many levels in it."""
        self._items += 1
        if not depth or self._items > MAX_ITEMS:
            raise self.fault("too many levels or items")
        kind, number = self._item_head()
        match kind:
            case 0:
                return number
            case 2:
                return self._take(number)
            case 3:
                return self._text(number)
            case 4:
                return tuple(self.value(depth - 1) for _ in range(self._count(number)))
            case 5:
                return self._map(self._count(number), depth - 1)
            case 6:
                return Tagged(number, self.value(depth - 1))
            case _:
                raise self.fault(f"an item of major type {kind}")

    def _item_head(self) -> tuple[int, int]:
        """Return an item's major type and number."""
        first = self._take(1)[0]
        kind, number = first >> 5, first & 0x1F
        if number < 24:
            return kind, number
        if number > 27:
            raise self.fault("an indefinite length")
        size = 1 << (number - 24)
        number = int.from_bytes(self._take(size), "big")
        if number < (24 if size == 1 else 1 << (4 * size)):
            raise self.fault("a number that is not in its shortest form")
        return kind, number

    def _take(self, size: int) -> bytes:
        """Return the next bytes."""
        end = self.offset + size
        if end > len(self._data):
            raise self.fault(f"{size} bytes announced that are not there")
        taken = self._data[self.offset : end]
        self.offset = end
        return taken

    def _count(self, number: int) -> int:
        """Return a number of items that there is room for."""
        if number > MAX_ITEMS or number > len(self._data) - self.offset:
            raise self.fault(f"{number} items announced that are not there")
        return number

    def _text(self, size: int) -> str:
        """Return a text of so many bytes."""
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise self.fault("a text that is not UTF-8") from error

    def _map(self, count: int, depth: int) -> dict[str, Value]:
        """Return a map of so many keys."""
        found: dict[str, Value] = {}
        for _ in range(count):
            key = self.value(depth)
            if not isinstance(key, str) or key in found:
                raise self.fault("a key that is no text or stands there twice")
            found[key] = self.value(depth)
        return found
