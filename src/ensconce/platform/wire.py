# SPDX-License-Identifier: Apache-2.0
"""What the host library and the platform service say to each other, over SOCK_SEQPACKET.

A connection begins with a `Hello`. One that loads an enclave is answered with commands, which the
library carries out in its process; the last of them tells it that the enclave is ready, and those
that follow come as they must. One that attaches to an enclave carries requests of its threads.
One that wants quotes carries its own requests: what the quoting role is, and a quote of a REPORT.
All integers are little-endian; the library's side is sdk/host/service.h.
"""

import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from ensconce.errors import ConfigError, ProtocolError

__all__ = [
    "COMMAND",
    "COMMAND_REPLY",
    "DEBUG",
    "HELLO_SIZE",
    "KSS",
    "QUOTER",
    "QUOTE_REPLY",
    "REQUEST",
    "REQUEST_REPLY",
    "VERSION",
    "Command",
    "Hello",
    "Kind",
    "QuoteRequest",
    "QuoteStatus",
    "QuoteTopic",
    "Request",
    "socket_path",
]

VERSION = 1
DEBUG, KSS = 1, 2  # Hello.flags; KSS: the client gives `config_id` and `config_svn`

COMMAND = struct.Struct("<II8Q")  # command, length of what follows, arguments
COMMAND_REPLY = struct.Struct("<Ii4Q")  # command, errno value or 0, results
REQUEST = struct.Struct("<II20Q")  # request, 0, arguments
REQUEST_REPLY = struct.Struct("<Ii20Q")  # request, verdict, results
QUOTE_REPLY = struct.Struct("<III")  # topic, status, length of what follows
QUOTER = struct.Struct("<256s256s512s32sI")
"""The key's id, the other id it goes by, target info, the key's hash, the size of a quote."""

_HELLO = struct.Struct("<4sIIII16s64s256s")
_QUOTE = struct.Struct("<II432s16s512s")
_MAGIC = b"ensc"
HELLO_SIZE = _HELLO.size
_LONGEST_PATH = 107


class Kind(IntEnum):
    """What a connection is for."""

    LOAD = 1
    ATTACH = 2
    QUOTE = 3


class Command(IntEnum):
    """What the service has the library do."""

    RESERVE = 1
    OPEN = 2
    PROTECT = 3
    SET_TCS = 4
    BLOCK_TCS = 5
    REMOVE_TCS = 6
    TCS = 7
    SET_CSSA = 8
    ADVANCE_EPOCH = 9
    INSIDE_BEFORE = 10
    KICK = 11
    ENABLE = 12
    LOADED = 13
    FAILED = 14


class Request(IntEnum):
    """What a thread of an enclave asks of the service."""

    LEAF = 1
    FAULT = 2
    CPUID = 3


class QuoteTopic(IntEnum):
    """What a client asks of the quoting role.

    DESCRIBE is answered with a `QUOTER`. QUOTE is answered with a quote, and PROVE with the QE's
    REPORT for the client's enclave and then a quote.
    """

    DESCRIBE = 1
    QUOTE = 2
    PROVE = 3


class QuoteStatus(IntEnum):
    """How a request for a quote went."""

    DONE = 0
    BAD_REPORT = 1


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """A request of the quoting role: 968 bytes, whatever it is about.

    `report` is what shall be quoted; `nonce` and `target` are for PROVE.
    """

    topic: QuoteTopic
    report: bytes = bytes(432)
    nonce: bytes = bytes(16)
    target: bytes = bytes(512)

    SIZE: ClassVar[int] = _QUOTE.size

    @classmethod
    def parse(cls, data: bytes) -> "QuoteRequest":
        """Read a message. Raises ProtocolError."""
        if len(data) != _QUOTE.size:
            raise ProtocolError(f"a request for quotes has {_QUOTE.size} bytes, not {len(data)}")
        topic, reserved, report, nonce, target = _QUOTE.unpack(data)
        if topic not in set(QuoteTopic) or reserved:
            raise ProtocolError(f"there is no request {topic} for quotes")
        return cls(QuoteTopic(topic), report, nonce, target)

    def __bytes__(self) -> bytes:
        return _QUOTE.pack(self.topic, 0, self.report, self.nonce, self.target)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a connection: 356 bytes.

    `token` is that of the enclave to attach to; the others are for loading.
    """

    kind: Kind
    flags: int
    config_svn: int
    token: bytes
    config_id: bytes
    name: str

    @classmethod
    def parse(cls, data: bytes) -> "Hello":
        """Read a message. Raises ProtocolError."""
        if len(data) != HELLO_SIZE:
            raise ProtocolError(f"a greeting has {HELLO_SIZE} bytes, not {len(data)}")
        magic, version, kind, flags, svn, token, config_id, name = _HELLO.unpack(data)
        if magic != _MAGIC or version != VERSION:
            raise ProtocolError(
                f"the host library speaks version {version} of the protocol, and this service "
                f"{VERSION}; use those of one installation"
            )
        if kind not in set(Kind) or svn > 0xFFFF or flags & ~(DEBUG | KSS):
            raise ProtocolError("the greeting asks for what there is not")
        text = name.split(b"\0", 1)[0].decode(errors="replace")
        return cls(Kind(kind), flags, svn, token, config_id, text)

    def __bytes__(self) -> bytes:
        name = self.name.encode()[:255]
        return _HELLO.pack(
            _MAGIC,
            VERSION,
            self.kind,
            self.flags,
            self.config_svn,
            self.token,
            self.config_id,
            name,
        )


def socket_path() -> Path:
    """Return the service's socket: $ENSCONCE_SERVICE, else in the user's runtime or state folder.

    The host library looks in the same places. Raises ConfigError for a path too long for one.
    """
    environment = os.environ
    if chosen := environment.get("ENSCONCE_SERVICE"):
        path = Path(chosen)
    elif runtime := environment.get("XDG_RUNTIME_DIR"):
        path = Path(runtime) / "ensconce" / "service.sock"
    else:
        state = environment.get("XDG_STATE_HOME")
        folder = Path(state) if state else Path.home() / ".local" / "state"
        path = folder / "ensconce" / "service.sock"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"{path} is too long for a socket; set ENSCONCE_SERVICE to a path of at most "
            f"{_LONGEST_PATH} bytes"
        )
    return path
