# SPDX-License-Identifier: Apache-2.0
"""Walk a tar archive of strangers: every size within bounds, every path below the root.

Python's own module is for archives of one's own: it takes negative sizes, sparse files and far
more formats than images have. This one knows ustar, pax and GNU's long names (POSIX.1-2017, pax,
"ustar Interchange Format" and "pax Header Block").
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ensconce.errors import FormatError

__all__ = ["Member", "MemberKind", "Readable", "TarWalk"]

_BLOCK = 512
_MAX_MEMBERS = 1 << 18
_MAX_EXTENSION = 1 << 16  # bytes of one pax header or long name
_PIECE = 1 << 20


class Readable(Protocol):
    """A stream that is read forward; fewer bytes than asked for means its end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        ...


class MemberKind(Enum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    HARD_LINK = "hard_link"
    OTHER = "other"


_KINDS = {
    b"0": MemberKind.FILE,
    b"\0": MemberKind.FILE,
    b"7": MemberKind.FILE,
    b"5": MemberKind.FOLDER,
    b"2": MemberKind.LINK,
    b"1": MemberKind.HARD_LINK,
}
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK = b"x", b"g", b"L", b"K"


@dataclass(frozen=True, slots=True)
class Member:
    """A member; its path is relative and has no `.` or `..`, its bytes begin at `offset`."""

    path: str
    kind: MemberKind
    mode: int
    target: str
    offset: int
    size: int


@dataclass(slots=True)
class _Extension:
    """What the headers before a member say of it."""

    path: bytes | None = None
    target: bytes | None = None
    size: int | None = None


class TarWalk:
    """The members of an archive of at most `limit` bytes, in order, each readable in its turn.

    Every error is a FormatError that names `source`.
    """

    def __init__(self, stream: Readable, source: str, limit: int) -> None:
        self._stream, self._source, self._limit = stream, source, limit
        self._position = 0
        self._left = 0  # bytes of the current member that nobody has read
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        extension = _Extension()
        for _ in range(_MAX_MEMBERS):
            self._finish()
            header = self._take(_BLOCK, at_end=True)
            if not header.strip(b"\0"):
                return
            self._check(header)
            kind = header[156:157]
            if kind in (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK):
                self._open(self._number(header[124:136]))
                self._extend(extension, kind)
                continue
            member = self._member(header, extension)
            extension = _Extension()
            self._open(member.size)
            yield member
        raise self.fault(f"has more than {_MAX_MEMBERS} members")

    def read(self, size: int | None = None) -> bytes:
        """Return the rest of the current member, or at most `size` bytes of it."""
        size = self._left if size is None else min(size, self._left)
        self._left -= size
        return self._take(size)

    def fault(self, what: str) -> FormatError:
        """Return the error that says what is wrong with the archive."""
        message = f"{self._source} {what}, so it is no tar archive that an image can have"
        return FormatError(message, source=self._source, offset=self._position)

    def _take(self, size: int, *, at_end: bool = False) -> bytes:
        """Return bytes of the stream, of which there must be enough, or none where it may end."""
        if self._position + size > self._limit:
            raise self.fault(f"is larger than {self._limit} bytes")
        data = self._stream.read(size)
        if len(data) != size and not (at_end and not data):
            raise self.fault("ends too early")
        self._position += len(data)
        return data

    def _open(self, size: int) -> None:
        """Begin the content of a member."""
        if self._position + size > self._limit:
            raise self.fault(f"is larger than {self._limit} bytes")
        self._left, self._padding = size, -size % _BLOCK

    def _finish(self) -> None:
        """Go to the next header."""
        while self._left:
            self.read(_PIECE)
        self._take(self._padding)
        self._padding = 0

    def _check(self, header: bytes) -> None:
        """Check a header's sum, in which its own field counts as spaces."""
        total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if self._number(header[148:156]) != total:
            raise self.fault("has a header whose checksum is wrong")

    def _number(self, text: bytes) -> int:
        """Return a number in octal, or in base 256 where the first bit says so."""
        if text[0] == 0x80:
            return int.from_bytes(text[1:])
        digits = text.strip(b" \0")
        if not all(byte in b"01234567" for byte in digits):
            raise self.fault(f"has a header with the number {text!r}")
        return int(digits or b"0", 8)

    def _extend(self, extension: _Extension, kind: bytes) -> None:
        """Read a header that says more about the member after it."""
        if self._left > _MAX_EXTENSION:
            raise self.fault(f"has an extended header of {self._left} bytes")
        data = self.read()
        if kind == _GNU_NAME:
            extension.path = data.rstrip(b"\0")
        elif kind == _GNU_LINK:
            extension.target = data.rstrip(b"\0")
        else:
            self._extend_by_pax(extension, data, everyone=kind == _PAX_GLOBAL)

    def _extend_by_pax(self, extension: _Extension, data: bytes, *, everyone: bool) -> None:
        """Read records of the form `length key=value`."""
        for key, value in self._records(data):
            if everyone and key in (b"path", b"linkpath", b"size"):
                raise self.fault(f"has the same {key.decode()} for all members")
            if key == b"path":
                extension.path = value
            elif key == b"linkpath":
                extension.target = value
            elif key == b"size":
                if not value.isdigit() or len(value) > 19:
                    raise self.fault(f"has a member of size {value!r}")
                extension.size = int(value)
            elif key.startswith(b"GNU.sparse"):
                raise self.fault("has a sparse file")

    def _records(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the keys and values of a pax header."""
        while data:
            length, space, _ = data[:8].partition(b" ")
            size = int(length) if length.isdigit() else 0
            record = data[len(length) + 1 : size]
            key, equals, value = record.partition(b"=")
            if not (space and equals and size <= len(data) and value.endswith(b"\n")):
                raise self.fault("has a broken pax header")
            yield key, value[:-1]
            data = data[size:]

    def _member(self, header: bytes, extension: _Extension) -> Member:
        """Return the member of a header."""
        name, prefix = (header[a:b].split(b"\0")[0] for a, b in ((0, 100), (345, 500)))
        if header[257:263] != b"ustar\0":
            prefix = b""  # GNU's format and older ones have other things there
        path = (
            (prefix + b"/" + name if prefix else name) if extension.path is None else extension.path
        )
        target = header[157:257].split(b"\0")[0] if extension.target is None else extension.target
        kind = _KINDS.get(header[156:157], MemberKind.OTHER)
        size = self._number(header[124:136]) if extension.size is None else extension.size
        return Member(
            self._path(path),
            kind,
            self._number(header[100:108]) & 0o7777,
            self._path(target) if kind is MemberKind.HARD_LINK else self._text(target),
            self._position,
            size if kind is MemberKind.FILE else 0,
        )

    def _text(self, name: bytes) -> str:
        """Return a name as text."""
        if b"\0" in name:
            raise self.fault(f"has the name {name!r}")
        return name.decode(errors="surrogateescape")

    def _path(self, name: bytes) -> str:
        """Return a path below the root."""
        parts = [part for part in self._text(name).split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.fault(f"has the path {self._text(name)!r}, which leads out of it")
        return "/".join(parts)
