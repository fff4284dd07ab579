# SPDX-License-Identifier: Apache-2.0
"""Clients of the platform service that want quotes, and those that want trouble."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.platform.reporting import report_of

from ensconce.dcap.quote import Quote
from ensconce.errors import ProtocolError
from ensconce.isa.report import Report, TargetInfo
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor
from ensconce.platform.quote_session import Quoting
from ensconce.platform.quoting import EmulatedPlatform, Quoter
from ensconce.platform.roles import QE_MR_SIGNER, QE_TARGET
from ensconce.platform.service import Service, take_socket
from ensconce.platform.wire import (
    QUOTE_REPLY,
    QUOTER,
    Hello,
    Kind,
    QuoteRequest,
    QuoteStatus,
    QuoteTopic,
)

_DEADLINE = 0.5
_LONGEST = 1 << 16
_GREETING = bytes(Hello(Kind.QUOTE, 0, 0, bytes(16), bytes(64), ""))
_DESCRIBE = bytes(QuoteRequest(QuoteTopic.DESCRIBE))


@pytest.fixture(scope="module")
def platform() -> EmulatedPlatform:
    return EmulatedPlatform.of(Identity.generate())


@pytest.fixture
def start(tmp_path: Path, platform: EmulatedPlatform) -> Iterator[Callable[..., Path]]:
    """Start a service with a quoting role, or without, and return its socket's path."""
    running = []

    def run(quoting: Quoting | None) -> Path:
        place = tmp_path / "run" / "service.sock"
        listener, lock = take_socket(place)
        processor = Processor(platform.identity, epc_size=1 << 20)
        service = Service(processor, listener, quoting=quoting, deadline=_DEADLINE)
        thread = threading.Thread(target=service.run)
        thread.start()
        running.append((service, thread, lock))
        return place

    yield run
    for service, thread, lock in running:
        service.stop()
        thread.join()
        service.close()
        os.close(lock)


@pytest.fixture
def path(start: Callable[..., Path], platform: EmulatedPlatform) -> Path:
    return start(Quoting(lambda: platform.quoter))


def _connect(path: Path, greeting: bytes = _GREETING) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(30)
    connection.connect(str(path))
    connection.send(greeting)
    return connection


def _ask(connection: socket.socket, request: QuoteRequest) -> tuple[int, bytes]:
    """Return an answer's status and content."""
    connection.send(bytes(request))
    answer = connection.recv(_LONGEST)
    topic, status, length = QUOTE_REPLY.unpack_from(answer)
    assert (topic, length) == (request.topic, len(answer) - QUOTE_REPLY.size)
    return status, answer[QUOTE_REPLY.size :]


def _hung_up(connection: socket.socket) -> bool:
    """Return whether the service ends a connection, without a word."""
    try:
        return connection.recv(_LONGEST) == b""
    except ConnectionResetError:
        return True


def test_a_client_learns_who_quotes_and_gets_quotes_and_proofs(
    path: Path, platform: EmulatedPlatform
) -> None:
    report, own = report_of(platform.identity, QE_TARGET), TargetInfo(measurement=b"\x0a" * 32)
    nonce = bytes(range(16))
    with _connect(path) as connection:
        status, told = _ask(connection, QuoteRequest(QuoteTopic.DESCRIBE))
        key, _, target, key_hash, size = QUOTER.unpack(told)
        assert (status, target) == (QuoteStatus.DONE, bytes(QE_TARGET))
        assert key[6:38] == QE_MR_SIGNER
        status, quote = _ask(connection, QuoteRequest(QuoteTopic.QUOTE, bytes(report)))
        assert (status, len(quote)) == (QuoteStatus.DONE, size)
        made = Quote.parse(quote)
        assert made.body == report.body
        assert hashlib.sha256(made.attestation_key).digest() == key_hash
        wanted = QuoteRequest(QuoteTopic.PROVE, bytes(report), nonce, bytes(own))
        status, both = _ask(connection, wanted)
        proof, quote = Report.parse(both[: Report.SIZE]), both[Report.SIZE :]
        assert proof.body.report_data == hashlib.sha256(nonce + quote).digest() + bytes(32)


def test_a_report_from_elsewhere_is_refused_and_the_next_one_served(
    path: Path, platform: EmulatedPlatform
) -> None:
    good = report_of(platform.identity, QE_TARGET)
    bad = [
        bytes(432),
        b"\xff" * 432,
        bytes(report_of(Identity.generate(), QE_TARGET)),
        bytes(report_of(platform.identity, TargetInfo())),
        bytes(replace(good, body=replace(good.body, isv_svn=9))),
    ]
    with _connect(path) as connection:
        for report in bad:
            for topic in (QuoteTopic.QUOTE, QuoteTopic.PROVE):
                request = QuoteRequest(topic, report, b"\xff" * 16, b"\xff" * 512)
                assert _ask(connection, request) == (QuoteStatus.BAD_REPORT, b"")
        assert _ask(connection, QuoteRequest(QuoteTopic.QUOTE, bytes(good)))[0] == QuoteStatus.DONE


@pytest.mark.parametrize(
    "message",
    [
        b"x",
        _DESCRIBE[:-1],
        _DESCRIBE + b"x",
        bytes(1 << 17),
        bytes(QuoteRequest.SIZE),
        b"\x04" + _DESCRIBE[1:],
        _DESCRIBE[:4] + b"\1" + _DESCRIBE[5:],  # reserved
        _GREETING,
    ],
)
def test_a_message_that_is_no_request_ends_its_connection_alone(path: Path, message: bytes) -> None:
    with _connect(path) as other, _connect(path) as connection:
        connection.send(message)
        assert _hung_up(connection)
        assert _ask(other, QuoteRequest(QuoteTopic.DESCRIBE))[0] == QuoteStatus.DONE
    with pytest.raises(ProtocolError):
        QuoteRequest.parse(message)


def test_a_request_before_the_greeting_is_refused(path: Path) -> None:
    with _connect(path, _DESCRIBE) as connection:
        assert _hung_up(connection)


def test_a_greeting_for_quotes_brings_no_file(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(path))
        socket.send_fds(connection, [_GREETING], [connection.fileno()])
        assert _hung_up(connection)


def test_a_silent_client_is_dropped_after_the_deadline(path: Path) -> None:
    with _connect(path) as connection:
        begun = time.monotonic()
        assert _hung_up(connection)
        assert time.monotonic() - begun > _DEADLINE / 2


def test_a_client_that_takes_no_answers_is_dropped(path: Path) -> None:
    def ask_without_end() -> None:
        while True:
            connection.send(_DESCRIBE)

    with _connect(path) as connection, pytest.raises(ConnectionError):
        ask_without_end()


def test_many_clients_at_once_get_what_they_asked_for(
    path: Path, platform: EmulatedPlatform
) -> None:
    report = bytes(report_of(platform.identity, QE_TARGET))

    def client(_: int) -> int:
        with _connect(path) as connection:
            return sum(
                len(_ask(connection, QuoteRequest(QuoteTopic.QUOTE, report))[1]) for _ in range(5)
            )

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(client, range(32))) == {5 * platform.quoter.size()}


def test_the_role_is_made_once_and_when_it_is_asked_for(
    start: Callable[..., Path], platform: EmulatedPlatform
) -> None:
    made = []

    def make() -> Quoter:
        made.append(1)
        return platform.quoter

    path = start(Quoting(make))
    with _connect(path) as one, _connect(path) as two:
        assert not made
        for connection in (one, two, one):
            _ask(connection, QuoteRequest(QuoteTopic.DESCRIBE))
    assert made == [1]


def test_a_service_without_a_quoting_role_says_nothing(start: Callable[..., Path]) -> None:
    with _connect(start(None)) as connection:
        connection.send(_DESCRIBE)
        assert _hung_up(connection)
