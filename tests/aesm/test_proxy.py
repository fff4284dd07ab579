# SPDX-License-Identifier: Apache-2.0
"""A service before another one: the same answers, and only whole requests reach it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.aesm.serving import Serving, connect, eventually, exchange, serving

from ensconce.aesm.codes import Code, Refusal
from ensconce.aesm.emulated import EmulatedBackend
from ensconce.aesm.limits import Limits
from ensconce.aesm.responder import BackendResponder, ProxyResponder
from ensconce.aesm.wire import frame, make_answer, parse_request, request
from ensconce.dcap.quote import Quote
from ensconce.isa.report import Report


@pytest.fixture
def proxy(service: Serving, tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "proxy", ProxyResponder(service.path)) as running:
        yield running


@contextmanager
def upstream(path: Path, answers: list[bytes]) -> Iterator[list[bytes]]:
    """Be a service that gives these answers, one a connection; yields what it was sent."""
    seen: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        for data in answers:
            connection, _ = listener.accept()
            seen.append(connection.recv(1 << 16))
            connection.sendall(data)
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield seen
    thread.join(10)
    listener.close()


def test_a_quote_comes_through(proxy: Serving, report: Report) -> None:
    client = proxy.client()
    client.init_quote()
    assert Quote.parse(client.quote(report).quote).body == report.body


def test_an_error_comes_through_with_its_code_and_is_counted(proxy: Serving) -> None:
    with pytest.raises(Refusal) as caught:
        proxy.client().quote(Report.parse(bytes(432)))
    assert caught.value.code == Code.INVALID_REPORT
    name = "ensconce_aesm_requests_total"
    asked = {"request": "get_quote_ex", "code": "INVALID_REPORT"}
    assert eventually(lambda: proxy.count(name, **asked) == 1)


def test_a_request_and_its_answer_pass_byte_for_byte(tmp_path: Path) -> None:
    """EPID's too, and fields that this version does not know: the other service is asked."""
    data = frame(request("init_quote") + bytes.fromhex("fa0601aa"))
    kind = parse_request(data[4:]).kind
    answer = make_answer(kind, 0, target_info=bytes(512), gid=bytes(4)) + bytes.fromhex("fa0601bb")
    with (
        upstream(tmp_path / "vendor", [frame(answer)]) as seen,
        serving(tmp_path / "s", ProxyResponder(tmp_path / "vendor")) as proxy,
    ):
        assert exchange(proxy.path, data) == answer
        assert seen == [data]


def test_slow_and_broken_clients_never_reach_the_other_service(
    service: Serving, proxy: Serving
) -> None:
    slow = [connect(proxy.path) for _ in range(20)]
    exchange(proxy.path, frame(b"\xff"))
    assert eventually(lambda: proxy.count("ensconce_aesm_connections") == 20)
    assert service.count("ensconce_aesm_connections") == 0
    assert proxy.client().select().base.prod_id == 1
    for connection in slow:
        connection.close()


def test_a_service_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with serving(tmp_path / "s", ProxyResponder(tmp_path / "none")) as proxy:
        with pytest.raises(Refusal) as caught:
            proxy.client().select()
        assert caught.value.code == Code.SERVICE_UNAVAILABLE


def test_a_service_that_restarts_is_asked_again(backend: EmulatedBackend, tmp_path: Path) -> None:
    with serving(tmp_path / "s", ProxyResponder(tmp_path / "late")) as proxy:
        made: list[object] = []
        thread = threading.Thread(target=lambda: made.append(proxy.client().select()))
        thread.start()
        time.sleep(0.05)
        with serving(tmp_path / "late", BackendResponder(backend)):
            thread.join(10)
        assert made


@pytest.mark.parametrize(
    "answers",
    [
        [b"", b""],
        [b"\xff\xff\xff\x7f"],
        [frame(b"\xff")],
        [frame(b"")],
        [frame(b"\x0a\x02\x08\x00")],
        [b"\x10\0\0\0abc", b"\x10\0\0\0abc"],
    ],
)
def test_nonsense_from_the_other_service_is_an_unexpected_error(
    tmp_path: Path, answers: list[bytes]
) -> None:
    with (
        upstream(tmp_path / "vendor", answers),
        serving(tmp_path / "s", ProxyResponder(tmp_path / "vendor")) as proxy,
    ):
        with pytest.raises(Refusal) as caught:
            proxy.client().select()
        assert caught.value.code == Code.UNEXPECTED_ERROR


def test_a_service_that_hangs_makes_the_proxy_busy(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "vendor"))
        silent.listen()
        limits = Limits(work=0.2)
        with serving(tmp_path / "s", ProxyResponder(tmp_path / "vendor"), limits) as proxy:
            with pytest.raises(Refusal) as caught:
                proxy.client().select()
            assert caught.value.code == Code.BUSY
