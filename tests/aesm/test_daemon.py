# SPDX-License-Identifier: Apache-2.0
"""The service on its socket: what hostile clients do to it, and what others notice of that."""

import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.aesm.serving import Serving, connect, eventually, exchange, rest, serving, start

from ensconce.aesm.backend import Backend
from ensconce.aesm.client import Client
from ensconce.aesm.codes import Code, Refusal
from ensconce.aesm.emulated import EmulatedBackend
from ensconce.aesm.keyid import QeReportInfo
from ensconce.aesm.limits import Limits
from ensconce.aesm.responder import BackendResponder
from ensconce.aesm.wire import MOST_REQUEST, frame, parse_answer, request
from ensconce.dcap.keyid import KeyId
from ensconce.errors import ConfigError, DeviceError, ProtocolError
from ensconce.isa.report import Report, TargetInfo

NUMBER = frame(request("get_supported_att_key_id_num"))
QUICK = Limits(receive=0.3, work=0.3, send=0.3, drain=2.0)


class Gated:
    """A backend that may be slow, as hardware is: it waits until the test opens the gate."""

    name = "gated"
    slow = True

    def __init__(self, inner: EmulatedBackend) -> None:
        self._inner = inner
        self.gate = threading.Event()

    def key_ids(self) -> tuple[KeyId, ...]:
        return self._inner.key_ids()

    def also_known_as(self) -> tuple[KeyId, ...]:
        return ()

    def target_info(self) -> tuple[TargetInfo, bytes]:
        assert self.gate.wait(60)
        return self._inner.target_info()

    def quote_size(self) -> int:
        return self._inner.quote_size()

    def quote(self, report: Report, info: QeReportInfo | None) -> tuple[bytes, Report | None]:
        return self._inner.quote(report, info)


@pytest.fixture
def gated(backend: EmulatedBackend) -> Iterator[Gated]:
    made = Gated(backend)
    yield made
    made.gate.set()


class Broken(Gated):
    """A backend with a mistake in it."""

    slow = False

    def target_info(self) -> tuple[TargetInfo, bytes]:
        raise KeyError("a mistake")


def answers(path: Path) -> bool:
    """Return whether an honest client is served."""
    body = parse_answer(exchange(path, NUMBER), "get_supported_att_key_id_num")
    return bool(body.att_key_id_num == 1)


def test_everybody_may_connect(service: Serving) -> None:
    assert stat.S_IMODE(service.path.stat().st_mode) == 0o777


def test_one_request_is_answered_and_the_connection_closed(service: Serving) -> None:
    assert answers(service.path)
    assert len(exchange(service.path, NUMBER * 3)) == len(exchange(service.path, NUMBER))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(b""), "malformed"),
        (frame(b"\xff" * 20), "malformed"),
        (frame(b"\xa2\x01\x00"), "malformed"),
        ((MOST_REQUEST + 1).to_bytes(4, "little"), "too_long"),
        (b"\xff" * 4, "too_long"),
    ],
)
def test_what_is_no_request_gets_no_answer(service: Serving, data: bytes, reason: str) -> None:
    assert exchange(service.path, data) == b""
    assert eventually(lambda: service.dropped(reason) == 1)
    assert answers(service.path)


@pytest.mark.parametrize("data", [b"\x04", b"\x05\0\0\0", b"\x05\0\0\0abc"])
def test_a_request_that_ends_early_gets_no_answer(service: Serving, data: bytes) -> None:
    with connect(service.path) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b""
    assert eventually(lambda: service.dropped("truncated") == 1)


def test_the_largest_request_is_read(service: Serving) -> None:
    padding = MOST_REQUEST - len(request("get_quote_size_ex", att_key_id=bytes(60000))) + 60000
    data = request("get_quote_size_ex", att_key_id=bytes(padding))
    assert len(data) == MOST_REQUEST
    body = parse_answer(exchange(service.path, frame(data)), "get_quote_size_ex")
    assert body.error_code == Code.UNSUPPORTED_ATT_KEY_ID


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=300))
def test_no_bytes_harm_the_service(service: Serving, data: bytes) -> None:
    with connect(service.path) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        rest(connection)
    assert answers(service.path)


def test_slow_clients_are_dropped_and_others_served_meanwhile(
    backend: EmulatedBackend, tmp_path: Path
) -> None:
    with serving(tmp_path / "s", BackendResponder(backend), Limits(receive=1.5)) as service:
        slow = [connect(service.path) for _ in range(50)]
        for connection in slow[:25]:
            connection.sendall(NUMBER[:5])
        assert answers(service.path)
        assert service.dropped("deadline") == 0
        for connection in slow:
            assert rest(connection) == b""
            connection.close()
        assert eventually(lambda: service.dropped("deadline") == 50)


def test_a_byte_now_and_then_does_not_stretch_the_deadline(
    backend: EmulatedBackend, tmp_path: Path
) -> None:
    with (
        serving(tmp_path / "s", BackendResponder(backend), QUICK) as service,
        connect(service.path) as connection,
        pytest.raises((BrokenPipeError, ConnectionResetError)),
    ):
        trickle(connection)


def trickle(connection: socket.socket) -> None:
    """Send a request byte by byte, which takes most of a minute where nobody minds."""
    for byte in frame(bytes(1000)):
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def test_a_client_that_does_not_read_is_dropped(
    backend: EmulatedBackend, tmp_path: Path, report: Report
) -> None:
    key = bytes(backend.key_ids()[0])
    data = request("get_quote_ex", att_key_id=key, report=bytes(report), buf_size=1_000_000)
    with (
        serving(tmp_path / "s", BackendResponder(backend), QUICK) as service,
        connect(service.path) as connection,
    ):
        connection.sendall(frame(data))
        assert eventually(lambda: service.dropped("deadline") == 1)
        assert answers(service.path)


def test_one_process_can_have_its_share_of_connections_and_no_more(
    gated: Gated, tmp_path: Path
) -> None:
    with serving(tmp_path / "s", BackendResponder(gated), Limits(per_process=4)) as service:
        working = [connect(service.path) for _ in range(4)]
        for connection in working:
            connection.sendall(init_of(gated))
        assert eventually(lambda: service.count("ensconce_aesm_connections") == 4)
        time.sleep(0.1)  # until their requests are read
        assert exchange_or_nothing(service.path) == b""
        assert service.dropped("quota") == 1
        gated.gate.set()
        for connection in working:
            assert rest(connection)
            connection.close()
        assert eventually(lambda: service.count("ensconce_aesm_connections") == 0)
        assert answers(service.path)


def exchange_or_nothing(path: Path) -> bytes:
    """Ask where the service may close before it has read."""
    try:
        return exchange(path, NUMBER)
    except (BrokenPipeError, ConnectionResetError):
        return b""


def test_where_all_connections_are_held_an_honest_client_is_served(
    backend: EmulatedBackend, tmp_path: Path
) -> None:
    limits = Limits(connections=20, receive=60)
    with serving(tmp_path / "s", BackendResponder(backend), limits) as service:
        held = [connect(service.path) for _ in range(20)]
        assert eventually(lambda: service.count("ensconce_aesm_connections") == 20)
        for _ in range(5):
            assert answers(service.path)
        assert service.dropped("evicted") == 1
        for connection in held:
            connection.close()


def test_clients_that_come_in_a_flood_are_all_served(service: Serving) -> None:
    served: list[bool] = []

    def many() -> None:
        for _ in range(25):
            served.append(answers(service.path))  # noqa: PERF401 # what came before a failure counts

    threads = [threading.Thread(target=many) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert served == [True] * 400
    answered = "ensconce_aesm_requests_total"
    kind = "get_supported_att_key_id_num"
    assert service.count(answered, request=kind, code="SUCCESS") == 400


def test_a_slow_backend_holds_up_nobody_who_does_not_need_it(gated: Gated, tmp_path: Path) -> None:
    slow: Backend = gated
    with serving(tmp_path / "s", BackendResponder(slow)) as service:
        waiting = [connect(service.path) for _ in range(8)]
        for connection in waiting:
            connection.sendall(init_of(gated))
        assert all(answers(service.path) for _ in range(20))
        gated.gate.set()
        for connection in waiting:
            assert parse_answer(rest(connection)[4:], "init_quote_ex").error_code == Code.SUCCESS
            connection.close()


def init_of(backend: Backend, timeout: int | None = None) -> bytes:
    """Return a request that needs the backend."""
    key = bytes(backend.key_ids()[0])
    return frame(request("init_quote_ex", att_key_id=key, b_pub_key_id=False, timeout=timeout))


@pytest.mark.parametrize(("limits", "timeout"), [(QUICK, None), (Limits(), 100_000)])
def test_a_backend_that_hangs_is_an_answer_in_the_services_time_or_the_clients(
    gated: Gated, tmp_path: Path, limits: Limits, timeout: int | None
) -> None:
    with serving(tmp_path / "s", BackendResponder(gated), limits) as service:
        answer = exchange(service.path, init_of(gated, timeout))
        assert parse_answer(answer, "init_quote_ex").error_code == Code.BUSY
        gated.gate.set()


def test_a_mistake_in_the_backend_is_one_answer_and_a_log_entry(
    backend: EmulatedBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path / "s", BackendResponder(Broken(backend))) as service:
        with pytest.raises(Refusal) as caught:
            service.client().init_quote()
        assert caught.value.code == Code.UNEXPECTED_ERROR
        assert answers(service.path)
    assert "a mistake" in caplog.text


def test_an_error_is_explained_in_the_log_and_counted_by_its_name(
    service: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        exchange(service.path, frame(request("init_quote")))
    assert eventually(lambda: caplog.records)
    facts = caplog.records[-1].__dict__["facts"]
    assert facts["code"] == "SERVICE_UNAVAILABLE (30)"
    assert "DCAP" in facts["reason"]
    assert "init_quote_ex" in facts["mend"]
    assert (facts["uid"], facts["pid"]) == (os.getuid(), os.getpid())
    name = "ensconce_aesm_requests_total"
    assert service.count(name, request="init_quote", code="SERVICE_UNAVAILABLE") == 1


def test_whoever_is_connected_when_the_service_stops_is_answered(
    backend: EmulatedBackend, tmp_path: Path
) -> None:
    service = start(tmp_path / "s", BackendResponder(backend))
    with connect(service.path) as connection:
        assert eventually(lambda: service.count("ensconce_aesm_connections") == 1)
        service.begin_stop()
        assert eventually(lambda: not service.path.exists())
        connection.sendall(NUMBER)
        assert rest(connection)
    service.stop()
    assert service.failures == []


def test_a_silent_client_does_not_hold_up_the_end(backend: EmulatedBackend, tmp_path: Path) -> None:
    limits = Limits(drain=0.2, receive=1000)
    service = start(tmp_path / "s", BackendResponder(backend), limits)
    with connect(service.path):
        assert eventually(lambda: service.count("ensconce_aesm_connections") == 1)
        service.stop()
    assert service.dropped("stopped") == 1


def test_a_service_whose_socket_is_taken_away_ends_and_says_so(
    backend: EmulatedBackend, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    service = start(path, BackendResponder(backend))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:  # as the vendor's service does
        other.bind(str(path))
        other.listen()
        service.thread.join(10)
        assert not service.thread.is_alive()
        assert path.exists()
    (error,) = service.failures
    assert isinstance(error, ConfigError)
    assert "aesmd" in str(error)


def test_a_client_says_where_there_is_no_service(tmp_path: Path) -> None:
    client = Client(tmp_path / "s", patience=0.1)
    with pytest.raises(DeviceError, match="ensconce aesm serve"):
        client.key_ids()


def test_a_client_refuses_nonsense(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def answer() -> None:
            for data in (b"\xff\xff\xff\xff", frame(b"\xff"), frame(b"")):
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.sendall(data)
                connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        client = Client(tmp_path / "s")
        for _ in range(3):
            with pytest.raises(ProtocolError):
                client.select()
        thread.join()
