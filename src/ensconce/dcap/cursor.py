# SPDX-License-Identifier: Apache-2.0
"""Read variable-length evidence front to back; every length is checked before it is used."""

from typing import TypeVar

from ensconce.errors import FormatError
from ensconce.isa.record import BytesLike, Record

__all__ = ["Cursor"]

_R = TypeVar("_R", bound=Record)


class Cursor:
    """A position in a buffer that was copied once; `source` names the buffer in errors."""

    def __init__(self, data: BytesLike, source: str) -> None:
        self._data = bytes(data)
        self._source = source
        self.offset = 0

    def take(self, size: int, what: str) -> bytes:
        """Return the next `size` bytes; a FormatError names what is cut short."""
        end = self.offset + size
        if end > len(self._data):
            raise FormatError(
                f"{self._source}: {what} takes {size} bytes at {self.offset}, and only "
                f"{len(self._data) - self.offset} are left; it is cut short or its lengths lie",
                source=self._source,
                offset=self.offset,
            )
        taken = self._data[self.offset : end]
        self.offset = end
        return taken

    def u16(self, what: str) -> int:
        """Return the next unsigned 16-bit little-endian number."""
        return int.from_bytes(self.take(2, what), "little")

    def u32(self, what: str) -> int:
        """Return the next unsigned 32-bit little-endian number."""
        return int.from_bytes(self.take(4, what), "little")

    def record(self, kind: type[_R]) -> _R:
        """Return the next structure of a kind."""
        return kind.parse(self.take(kind.SIZE, kind.__name__), source=self._source)

    def finish(self, what: str) -> None:
        """Refuse bytes after the end."""
        left = len(self._data) - self.offset
        if left:
            raise FormatError(
                f"{self._source}: {left} bytes follow the end of {what}; nothing may",
                source=self._source,
                offset=self.offset,
            )
