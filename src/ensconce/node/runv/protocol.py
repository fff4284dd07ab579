# SPDX-License-Identifier: Apache-2.0
"""What the host and the agent in the guest say to each other (guest/wire.h is the other side).

A frame is its payload's size, a stream and a kind, 32 bits each, little-endian, and the payload.
The guest is taken for an enemy: sizes, kinds, streams and credit are checked, and a breach ends
the pod.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from ensconce.errors import ProtocolError

__all__ = [
    "MOST_DATA",
    "MOST_FRAME",
    "VERSION",
    "WINDOW",
    "Frame",
    "Kind",
    "Reader",
    "Tag",
    "frame",
    "number",
    "record",
    "text",
]

VERSION = 1
MOST_DATA = 32 * 1024  # bytes of payload in any frame from the guest
MOST_FRAME = 1 << 20  # bytes of payload in a frame that describes a process
WINDOW = 128 * 1024  # bytes of a stream that are under way at once

_HEADER = struct.Struct("<III")
_NUMBER = struct.Struct("<I")
_RECORD = struct.Struct("<II")


class Kind(IntEnum):
    """What a frame is for."""

    POD = 1
    RUN = 2
    START = 3
    INPUT = 4
    INPUT_END = 5
    CREDIT = 6
    SIGNAL = 7
    RESIZE = 8
    READY = 64
    DONE = 65
    FAILED = 66
    OUTPUT = 67
    ERRORS = 68
    EXITED = 69
    TAKEN = 70


_FROM_GUEST = frozenset(kind for kind in Kind if kind >= Kind.READY)
_SIZES = {Kind.DONE: 4, Kind.EXITED: 8, Kind.TAKEN: 4}


class Tag(IntEnum):
    """What a record of a POD or RUN frame is about."""

    CONTAINER = 1
    JOIN = 2
    ROOT = 3
    ROOT_READONLY = 4
    HOSTNAME = 5
    DOMAINNAME = 6
    MOUNT = 7
    MASKED = 8
    READONLY = 9
    DEVICE = 10
    SYSCTL = 11
    LIMIT = 12
    NAMESPACES = 13
    PROPAGATION = 14
    SHARED = 15
    ARGUMENT = 32
    ENVIRONMENT = 33
    FOLDER = 34
    USER = 35
    GROUP = 36
    UMASK = 37
    RLIMIT = 38
    CAPABILITIES = 39
    NO_NEW_PRIVILEGES = 40
    TERMINAL = 41
    FILTER = 42
    OOM_SCORE = 43
    NETLINK = 64
    CLOCK = 65
    ENTROPY = 66
    SHARE = 67


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the guest's."""

    kind: Kind
    stream: int
    payload: bytes

    @property
    def number(self) -> int:
        """The payload's first number."""
        return int(_NUMBER.unpack_from(self.payload)[0])

    @property
    def text(self) -> str:
        """The payload as a line that is safe to show."""
        shown = self.payload[:1024].decode(errors="replace")
        return "".join(c if c.isprintable() else "\ufffd" for c in shown)


class Reader:
    """Cuts the guest's bytes into frames; keeps at most one frame that is not whole yet."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are whole now; raises ProtocolError for what is none."""
        self._bytes += data
        frames: list[Frame] = []
        at = 0
        while len(self._bytes) - at >= _HEADER.size:
            size, stream, code = _HEADER.unpack_from(self._bytes, at)
            kind = _kind(code, size)
            end = at + _HEADER.size + size
            if len(self._bytes) < end:
                break
            frames.append(Frame(kind, stream, bytes(self._bytes[at + _HEADER.size : end])))
            at = end
        del self._bytes[:at]
        return frames


def _kind(code: int, size: int) -> Kind:
    """Return the kind of a guest's frame whose header says this."""
    if size > MOST_DATA:
        raise ProtocolError(f"the guest sent a frame of {size} bytes; {MOST_DATA} are the most")
    try:
        kind = Kind(code)
    except ValueError:
        kind = Kind.POD
    if kind not in _FROM_GUEST:
        raise ProtocolError(f"the guest sent a frame of kind {code}, which is none of a guest's")
    if size != _SIZES.get(kind, size) or (kind == Kind.READY and size < _NUMBER.size):
        raise ProtocolError(f"the guest sent a {kind.name} frame of {size} bytes")
    return kind


def frame(kind: Kind, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame's bytes."""
    return _HEADER.pack(len(payload), stream, kind) + payload


def number(*values: int) -> bytes:
    """Return numbers of 32 bits."""
    return b"".join(_NUMBER.pack(value & 0xFFFFFFFF) for value in values)


def text(*values: str) -> bytes:
    """Return texts with the NUL that ends each."""
    return b"".join(value.encode(errors="surrogateescape") + b"\0" for value in values)


def record(tag: Tag, payload: bytes = b"") -> bytes:
    """Return one record of a POD or RUN frame."""
    return _RECORD.pack(tag, len(payload)) + payload
