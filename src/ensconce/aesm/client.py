# SPDX-License-Identifier: Apache-2.0
"""A client of an AESM service: get quotes for an enclave's REPORTs.

client = Client()
target, _ = client.init_quote()
report = ...  # the enclave's, made for `target`
quote = client.quote(report).quote
"""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ensconce.aesm.codes import Refusal
from ensconce.aesm.endpoint import DEFAULT_SOCKET
from ensconce.aesm.keyid import QeReportInfo
from ensconce.aesm.wire import LENGTH, MOST_ANSWER, frame, parse_answer, request
from ensconce.dcap.keyid import KeyId
from ensconce.errors import ConfigError, DeviceError, FormatError, ProtocolError
from ensconce.isa.record import Record
from ensconce.isa.report import Report, TargetInfo

__all__ = ["Client", "Quoted"]

_KEY_HASH_BYTES = 32
_NONCE_BYTES = 16
_LIST_HEADER = bytes(4)
_MICROSECONDS = 1_000_000
_POLL = 0.02

_Read = TypeVar("_Read", bound=Record)
_GONE = (ConnectionError, FileNotFoundError, EOFError)


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quote and, where a nonce was given, the quoting enclave's REPORT about it."""

    quote: bytes
    qe_report: Report | None


class Client:
    """Asks the service at a socket; each request waits `timeout` seconds at most.

    A request that a restart of the service cut off is sent once more, as soon as there is a
    service again, within `patience` seconds. `retries` counts these.

    Methods raise Refusal for the service's errors, ProtocolError for nonsense, DeviceError where
    there is no service.
    """

    def __init__(
        self, path: Path = DEFAULT_SOCKET, *, timeout: float = 30.0, patience: float = 10.0
    ) -> None:
        self._path = path
        self._timeout = timeout
        self._patience = patience
        self.retries = 0

    def key_ids(self) -> tuple[KeyId, ...]:
        """Return the attestation keys that the service offers."""
        count = int(self._ask("get_supported_att_key_id_num").att_key_id_num)
        size = count * KeyId.SIZE
        data = self._ask("get_supported_att_key_ids", buf_size=size).att_key_ids
        if len(data) != size:
            raise ProtocolError(f"the service names {count} key ids in {len(data)} bytes")
        return tuple(_read(KeyId, data[at : at + KeyId.SIZE]) for at in range(0, size, KeyId.SIZE))

    def select(self, wanted: Sequence[KeyId] | None = None) -> KeyId:
        """Return the first key of those that the service has, or the service's own choice."""
        keys = None
        if wanted is not None:
            count = len(wanted).to_bytes(4, "little")
            keys = _LIST_HEADER + count + b"".join(map(bytes, wanted))
        found = self._ask("select_att_key_id", att_key_id_list=keys)
        return _read(KeyId, found.selected_att_key_id)

    def init_quote(self, key: KeyId | None = None) -> tuple[TargetInfo, bytes]:
        """Return the target info that a REPORT is to be made for, and the key's 32-byte id."""
        found = self._ask(
            "init_quote_ex",
            att_key_id=bytes(key or self.select()),
            b_pub_key_id=True,
            buf_size=_KEY_HASH_BYTES,
        )
        return _read(TargetInfo, found.target_info), bytes(found.pub_key_id)

    def quote(
        self,
        report: Report,
        key: KeyId | None = None,
        *,
        nonce: bytes = b"",
        target: TargetInfo | None = None,
    ) -> Quoted:
        """Return the quote of a REPORT.

        With a 16-byte `nonce` and a `target` the quoting enclave vouches for the quote to that
        enclave, by a REPORT whose data is SHA-256 of nonce and quote.
        """
        key_id = bytes(key or self.select())
        size = int(self._ask("get_quote_size_ex", att_key_id=key_id).quote_size)
        info = None
        if target is not None:
            if len(nonce) != _NONCE_BYTES:
                raise ConfigError(f"a nonce has {_NONCE_BYTES} bytes, not {len(nonce)}")
            info = bytes(QeReportInfo(nonce, target, Report.parse(bytes(Report.SIZE))))
        found = self._ask(
            "get_quote_ex",
            att_key_id=key_id,
            report=bytes(report),
            buf_size=size,
            qe_report_info=info,
        )
        proof = None if info is None else _read(QeReportInfo, found.qe_report_info).report
        return Quoted(bytes(found.quote), proof)

    def _ask(self, kind: str, **fields: object) -> Any:
        """Send a request and return the answer's body. Raises Refusal for an error code."""
        data = request(kind, timeout=int(self._timeout * _MICROSECONDS), **fields)
        body = parse_answer(self._exchange(data), kind)
        if body.error_code:
            raise Refusal(int(body.error_code))
        return body

    def _exchange(self, data: bytes) -> bytes:
        """Send a request and return the answer, once more if the service went away meanwhile."""
        try:
            return self._once(data)
        except _GONE:
            self.retries += 1
            self._await_service()
        try:
            return self._once(data)
        except _GONE as error:
            raise self._absent(error) from error

    def _once(self, data: bytes) -> bytes:
        """Carry out one exchange."""
        with self._connect() as connection:
            try:
                connection.sendall(frame(data))
                (length,) = LENGTH.unpack(_receive(connection, LENGTH.size))
                if length > MOST_ANSWER:
                    raise ProtocolError(f"the service's answer has {length} bytes, too many")
                return _receive(connection, length)
            except TimeoutError as error:
                raise DeviceError(
                    f"the AESM service at {self._path} gave no answer in {self._timeout:g} s; see "
                    "its log"
                ) from error

    def _connect(self) -> socket.socket:
        """Connect to the service."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._timeout)
            connection.connect(str(self._path))
        except PermissionError as error:
            connection.close()
            raise DeviceError(
                f"{self._path} may not be used by this user; make the socket 0777 and its folder "
                "0755",
                errno=error.errno or 0,
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _await_service(self) -> None:
        """Wait until somebody listens again."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._connect().close()
            except _GONE as error:
                if time.monotonic() > deadline:
                    raise self._absent(error) from error
                time.sleep(_POLL)
            else:
                return

    def _absent(self, error: Exception) -> DeviceError:
        """Return the error for a service that is not there."""
        return DeviceError(
            f"no AESM service answers at {self._path} ({error}); start one with `ensconce aesm "
            "serve`, and in a container mount the socket's folder",
            errno=getattr(error, "errno", 0) or 0,
        )


def _receive(connection: socket.socket, size: int) -> bytes:
    """Read just so many bytes."""
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError("the service closed the connection without an answer")
        parts += part
    return bytes(parts)


def _read(kind: type[_Read], data: bytes) -> _Read:
    """Read a structure of an answer."""
    try:
        return kind.parse(data)
    except FormatError as error:
        raise ProtocolError(f"the service's answer can't be read: {error}") from error
