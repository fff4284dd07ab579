# SPDX-License-Identifier: Apache-2.0
"""A webhook's process: what it answers besides, what it bears, and how it changes and ends."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.kube.webhook.pods import container, epc, pod
from tests.kube.webhook.serving import ENSCONCE, SETTINGS, VALIDATE, Running, review, running


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_refusal_says_why_and_which_kind_it_is(webhook: Running) -> None:
    response = webhook.review(pod(epc("app"), quotes="app"))
    assert (response["allowed"], "patch" in response) == (False, False)
    assert (response["status"]["code"], response["status"]["reason"]) == (403, "Forbidden")
    assert "'app' is the quote provider" in response["status"]["message"]
    assert webhook.review(pod(epc("app", "1m")))["status"]["code"] == 422


def test_a_pod_without_sgx_is_allowed_as_it_is(webhook: Running) -> None:
    assert webhook.review(pod(container("web"))) == {"uid": "7b1d", "allowed": True}


def test_warnings_reach_the_author(webhook: Running) -> None:
    response = webhook.review(pod(container("app", {"openenclave.io/sgx_epc_MiB": "1"})))
    assert "sgx.intel.com/epc: 1Mi" in response["warnings"][0]


def test_the_path_says_whether_emulated_nodes_are_allowed(webhook: Running) -> None:
    assert "tolerations" not in webhook.create(pod(epc("app")))["spec"]
    made = webhook.create(pod(epc("app")), path="/emulated/mutate--v1-pod")
    assert made["spec"]["tolerations"][0]["key"] == "ensconce.dev/emulated-sgx"
    assert webhook.review(made, path="/emulated" + VALIDATE)["allowed"] is True
    assert webhook.review(made, path=VALIDATE)["allowed"] is False


def test_a_pod_of_three_megabytes_is_answered(webhook: Running) -> None:
    large = pod(epc("app"))
    large["metadata"]["annotations"] = {"large": "x" * (3 << 20)}
    assert webhook.review(large)["allowed"] is True


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"request": {}}', b"9" * 10_000,
        json.dumps(review({}) | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(),
        json.dumps(review([])).encode(),
        json.dumps(review({}, "")).encode(),
        json.dumps(review({})).replace("CREATE", "UPDATE").encode(),
        json.dumps(review({})).replace('"Pod"', '"Secret"').encode(),
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_review_of_a_pod_is_a_bad_request(webhook: Running, body: bytes) -> None:
    answer = webhook.post(body)
    assert (answer.status_code, answer.text.count("\n")) == (400, 1)


def test_a_body_that_is_too_large_is_refused(webhook: Running) -> None:
    answer = webhook.post(b" " * (9 << 20))
    assert (answer.status_code, "8388608" in answer.text) == (400, True)


@contextmanager
def connected(server: Running) -> Iterator[ssl.SSLSocket]:
    """Give a connection that has said nothing yet."""
    raw = socket.create_connection(_address(server.url))
    with server.tls.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        connection.settimeout(25)
        yield connection


def test_a_client_that_never_says_what_it_wants_is_let_go(webhook: Running) -> None:
    with connected(webhook) as slow:
        slow.sendall(b"POST /mutate--v1-pod HTTP/1.1\r\n")
        assert slow.recv(1) == b""


def test_a_body_that_does_not_come_is_given_up(webhook: Running) -> None:
    with connected(webhook) as slow:
        slow.sendall(b"POST /mutate--v1-pod HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 400")


def test_metrics_count_answers_and_their_time(webhook: Running) -> None:
    webhook.review(pod(epc("app")))
    text = webhook.get("/metrics").text
    reviews = 'ensconce_webhook_reviews_total{answer="mutated",path="/mutate--v1-pod"} '
    assert float(text.split(reviews)[1].split("\n")[0]) >= 1
    assert 'ensconce_webhook_review_seconds_bucket{le="0.005",path="/mutate--v1-pod"}' in text
    assert "ensconce_webhook_settings_good 1.0" in text
    end = float(text.split("\nensconce_webhook_certificate_end_seconds ")[1].split("\n")[0])
    assert 29 < (end - time.time()) / 86400 <= 30


def test_settings_and_ca_count_without_a_restart(tmp_path: Path) -> None:
    before = pod(epc("app"), quotes="app")
    with running(tmp_path) as server:
        assert server.review(before)["allowed"] is False
        (tmp_path / "webhook.toml").write_text(SETTINGS.replace("trusted", "team"))
        eventually(lambda: server.review(before)["allowed"] is True)
        (tmp_path / "webhook.toml").write_text("epc = 7")
        eventually(lambda: "settings_good 0.0" in server.get("/metrics").text)
        assert server.review(before)["allowed"] is True  # by the last that were good
        old = server.tls
        shutil.rmtree(tmp_path / "ca")
        subprocess.run([*ENSCONCE, "webhook", "authority", tmp_path / "ca"], check=True)
        (tmp_path / "webhook.toml").write_text(SETTINGS)
        eventually(lambda: _trusted(server, server.tls))
        assert not _trusted(server, old)


def _trusted(server: Running, tls: ssl.SSLContext) -> bool:
    """Return whether a client that trusts a CA trusts the server."""
    try:
        return httpx.get(server.url + "/healthz", verify=tls).status_code == 200
    except httpx.ConnectError:
        return False


def test_two_replicas_with_one_ca_have_keys_of_their_own(tmp_path: Path) -> None:
    with running(tmp_path) as one, running(tmp_path) as other:
        assert one.review(pod(epc("a"))) == other.review(pod(epc("a")))
        seen = {ssl.get_server_certificate(_address(each.url)) for each in (one, other)}
        assert len(seen) == 2


def _address(url: str) -> tuple[str, int]:
    """Return a URL's host and port."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    return host, int(port)


def test_a_server_that_stops_says_so_first_and_still_answers(tmp_path: Path) -> None:
    with running(tmp_path, drain=3) as server:
        with httpx.Client(verify=server.tls, base_url=server.url) as client:
            assert client.get("/readyz").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: client.get("/readyz").status_code == 503, 2)
            assert client.get("/healthz").status_code == 200
            assert server.review(pod(epc("a")))["allowed"] is True
        assert server.process.wait(20) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("epc = [", "is not TOML"),
        ("epc = []", "epc names nothing"),
        ('epc = ["cpu"]', "epc names cpu"),
        ('provision_pods = ["a b"]', "neither a namespace nor"),
        ("require_epc = 1", "has to be true or false"),
        ("emulated_nodes = 1", "has to be true or false"),
        ("other = 1", "'other' is no setting"),
    ],
)
def test_unusable_settings_are_one_sentence(tmp_path: Path, settings: str, said: str) -> None:
    (tmp_path / "webhook.toml").write_text(settings)
    (tmp_path / "pod.json").write_text("{}")
    words: list[str | Path] = [
        "webhook",
        "mutate",
        tmp_path / "pod.json",
        "--policy",
        tmp_path / "webhook.toml",
    ]
    done = subprocess.run([*ENSCONCE, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert said in done.stderr


def test_a_folder_without_a_ca_is_one_sentence(tmp_path: Path) -> None:
    words: list[str | Path] = ["webhook", "serve", "--authority", tmp_path]
    done = subprocess.run([*ENSCONCE, *words], capture_output=True, text=True)
    assert (done.returncode, "ensconce webhook authority" in done.stderr) == (3, True)
    assert "Traceback" not in done.stderr


def test_a_pods_fate_can_be_seen_before_it_is_created(tmp_path: Path) -> None:
    (tmp_path / "pod.json").write_text(json.dumps(pod(epc("app"), quotes="app")))
    words: list[str | Path] = ["webhook", "mutate", tmp_path / "pod.json"]
    done = subprocess.run([*ENSCONCE, *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout.startswith("refused: container 'app' is")) == (1, True)
