# SPDX-License-Identifier: Apache-2.0
"""The little of rtnetlink that moves a pod's network into its machine."""

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ensconce.errors import DeviceError

__all__ = ["ADDRESS", "LINK", "ROUTE", "Attribute", "Entry", "Netlink", "attribute", "request"]

LINK, ADDRESS, ROUTE = 16, 20, 24  # RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE; + 1 deletes, + 2 gets
_BODIES = {LINK: 16, ADDRESS: 8, ROUTE: 12}  # sizes of ifinfomsg, ifaddrmsg, rtmsg
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_REQUEST, _ACK, _DUMP, _CREATE = 1, 4, 0x300, 0x400
_ERROR, _DONE = 2, 3
_TYPE_MASK = 0x3FFF

Attribute = Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Entry:
    """A link, address or route as the kernel lists it: a fixed body and attributes by number."""

    body: bytes
    attributes: dict[int, bytes]


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute's bytes, padded."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def request(kind: int, body: bytes, attributes: Attribute, *, flags: int = _CREATE) -> bytes:
    """Return a request that the kernel acknowledges."""
    tail = b"".join(attribute(number, value) for number, value in attributes.items())
    size = _HEADER.size + len(body) + len(tail)
    return _HEADER.pack(size, kind, _REQUEST | _ACK | flags, 1, 0) + body + tail


class Netlink:
    """A socket to the kernel, of the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(5)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, message: bytes) -> None:
        """Send a request; raises DeviceError where the kernel refuses."""
        self._socket.send(message)
        for kind, payload in self._answers():
            if kind == _ERROR:
                number = -struct.unpack_from("=i", payload)[0]
                if number:
                    raise DeviceError(
                        f"The pod's network can't be moved into its machine: {os.strerror(number)}",
                        errno=number,
                    )
                return

    def list(self, what: int) -> list[Entry]:
        """Return all links, addresses or routes."""
        body = bytes(_BODIES[what])
        size = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(size, what + 2, _REQUEST | _DUMP, 1, 0) + body)
        found: list[Entry] = []
        for kind, payload in self._answers():
            if kind == what:
                fixed = _BODIES[what]
                found.append(Entry(payload[:fixed], dict(_attributes(payload[fixed:]))))
        return found

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        """Yield messages until the answer is whole."""
        while True:
            data = self._socket.recv(1 << 16)
            while len(data) >= _HEADER.size:
                size, kind, _, _, _ = _HEADER.unpack_from(data)
                yield kind, data[_HEADER.size : size]
                if kind in (_DONE, _ERROR):
                    return
                data = data[(size + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes of a message."""
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & _TYPE_MASK, data[_ATTRIBUTE.size : size]
        data = data[(size + 3) & ~3 :]
