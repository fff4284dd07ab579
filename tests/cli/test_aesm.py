# SPDX-License-Identifier: Apache-2.0
"""`ensconce aesm` as a user calls it."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensconce.aesm.endpoint import take_socket
from ensconce.cli import cli, run


def start(*args: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from ensconce.cli import main; main()", "aesm"]
    process = subprocess.Popen([*command, *map(str, args)], stderr=subprocess.PIPE)
    assert process.stderr is not None
    first = process.stderr.readline()
    if b'"serving"' not in first:
        process.kill()
        pytest.fail(f"the service said {(first + process.communicate()[1]).decode()}")
    return process


def stop(process: subprocess.Popen[bytes]) -> list[dict[str, object]]:
    """End a service in good order; return what it logged."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert process.stderr is not None
    with process.stderr as log:
        return [json.loads(line) for line in log]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def serving(folder: Path) -> Iterator[Path]:
    """A service's socket."""
    path = folder / "aesmd" / "aesm.socket"
    process = start("serve", "--backend", "emulated", "--path", folder / "id", "--socket", path)
    yield path
    assert [entry["event"] for entry in stop(process)][-2:] == ["draining", "stopped"]
    assert not path.exists()


def call(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = run(cli, ["aesm", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def health(
    capsys: pytest.CaptureFixture[str], folder: Path, path: Path, *more: str
) -> tuple[int, str, str]:
    options = ("--backend", "emulated", "--path", folder / "id", "--socket", path, "--timeout", 5)
    return call(capsys, "health", *options, *more)


def test_a_service_is_healthy(
    serving: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = health(capsys, folder, serving, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["healthy"] is True
    assert said["certification"] == "pck_chain"


def test_a_proxy_is_healthy_and_shows_metrics(
    serving: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    path = folder / "p" / "s"
    process = start("proxy", "--to", serving, "--socket", path, "--metrics", address)
    try:
        assert health(capsys, folder, path)[0] == 0
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    finally:
        stop(process)
    assert 'ensconce_aesm_requests_total{code="SUCCESS",request="init_quote_ex"} 1.0' in text


def test_health_says_where_there_is_no_service(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(
        capsys, "health", "--backend", "emulated", "--path", folder / "id", "--socket",
        folder / "none", "--timeout", 0.2,
    )  # fmt: skip
    assert (code, out) == (6, "")
    assert "ensconce aesm serve" in err


def test_a_socket_in_use_is_refused_with_the_mend(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = take_socket(folder / "s")
    code, _, err = call(
        capsys, "serve", "--backend", "emulated", "--path", folder / "id", "--socket", folder / "s"
    )
    taken.close()
    assert code == 3
    assert "ensconce aesm proxy --to" in err


def test_a_missing_quoting_library_is_refused_and_no_socket_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "s"
    code, _, err = call(
        capsys, "serve", "--backend", "hardware", "--library", "libnone.so", "--socket", path
    )
    assert code == 3
    assert "libsgx-dcap-ql" in err
    assert not path.exists()


@pytest.mark.parametrize("address", ["9464", "host:", ":1", "127.0.0.1:99999", "127.0.0.1:x"])
def test_an_address_that_is_none_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    options = ("--backend", "emulated", "--path", folder / "id", "--socket", folder / "s")
    code, _, err = call(capsys, "serve", *options, "--metrics", address)
    assert code == 3
    assert "HOST:PORT" in err


def test_a_proxy_before_itself_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "proxy", "--to", folder / "s", "--socket", folder / "s")
    assert code == 3
    assert "two sockets" in err
