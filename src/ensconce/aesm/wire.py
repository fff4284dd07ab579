# SPDX-License-Identifier: Apache-2.0
"""Requests and answers as they lie on the socket: a length (u32, little-endian), then protobuf.

A connection carries one request and one answer.
"""

import struct
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from ensconce.aesm.codes import Code
from ensconce.aesm.messages import KINDS, Kind, Request, Response
from ensconce.errors import ProtocolError

__all__ = [
    "LENGTH",
    "MOST_ANSWER",
    "MOST_REQUEST",
    "Question",
    "code_of",
    "frame",
    "make_answer",
    "parse_answer",
    "parse_request",
    "request",
]

LENGTH = struct.Struct("<I")
MOST_REQUEST = 64 << 10
MOST_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class Question:
    """A request: its kind, its fields, and the bytes that it came as."""

    kind: Kind
    body: Any
    raw: bytes

    @property
    def timeout(self) -> float:
        """How long the client says it waits, in seconds; 0 where it does not say."""
        return int(self.body.timeout) / 1e6


def parse_request(data: bytes) -> Question:
    """Read a request's bytes. Raises ProtocolError for what no service would answer."""
    try:
        message = Request.FromString(data)
    except DecodeError:
        raise ProtocolError("the request is not a message of the AESM protocol") from None
    for kind in KINDS:
        if message.HasField(kind.name):
            if not message.IsInitialized():
                raise ProtocolError(f"the request {kind.name} lacks a field that it must have")
            return Question(kind, getattr(message, kind.name), data)
    raise ProtocolError("the request asks for nothing that the AESM protocol has")


def request(kind: str, **fields: object) -> bytes:
    """Return a request's bytes, without its length; fields that are None are left out."""
    message = Request()
    body = getattr(message, kind)
    body.SetInParent()
    _fill(body, fields)
    return bytes(message.SerializeToString())


def make_answer(kind: Kind, code: int, **fields: object) -> bytes:
    """Return an answer's bytes, without its length."""
    message = Response()
    body = getattr(message, kind.name)
    body.error_code = code
    _fill(body, fields)
    data = bytes(message.SerializeToString())
    return data if len(data) <= MOST_ANSWER else make_answer(kind, Code.PARAMETER_ERROR)


def parse_answer(data: bytes, kind: str) -> Any:
    """Return the body of an answer of a kind. Raises ProtocolError where it is none."""
    try:
        message = Response.FromString(data)
    except DecodeError:
        raise ProtocolError("the answer is not a message of the AESM protocol") from None
    if not message.HasField(kind) or not message.IsInitialized():
        raise ProtocolError(f"the answer is none to {kind}")
    return getattr(message, kind)


def code_of(data: bytes, kind: Kind) -> int:
    """Return the error code of an answer. Raises ProtocolError where it is none."""
    return int(parse_answer(data, kind.name).error_code)


def frame(data: bytes) -> bytes:
    """Return a message with its length before it."""
    return LENGTH.pack(len(data)) + data


def _fill(body: Any, fields: dict[str, object]) -> None:
    """Set the fields that are there."""
    for name, value in fields.items():
        if value is not None:
            setattr(body, name, value)
