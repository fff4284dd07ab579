# SPDX-License-Identifier: Apache-2.0
"""Restarts under load, with the service as the command that users run."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.aesm.serving import connect, eventually, rest

from ensconce.aesm.client import Client
from ensconce.aesm.wire import frame, request
from ensconce.isa.report import Report

CLIENTS = 8


def serve(
    platform: Path, path: Path, listener: socket.socket | None = None
) -> subprocess.Popen[bytes]:
    """Start `ensconce aesm serve`; with a listener as systemd would."""
    code = "import os, sys\n"
    if listener is not None:
        code += "os.dup2(int(sys.argv.pop()), 3)\nos.environ['LISTEN_PID'] = str(os.getpid())\n"
    code += "from ensconce.cli import main; main()"
    command = [sys.executable, "-c", code, "aesm", "serve", "--backend", "emulated"]
    command += ["--path", str(platform), "--socket", str(path)]
    if listener is None:
        return subprocess.Popen(command, stderr=subprocess.PIPE)
    return subprocess.Popen(
        [*command, str(listener.fileno())],
        stderr=subprocess.PIPE,
        pass_fds=(listener.fileno(),),
        env=os.environ | {"LISTEN_FDS": "1"},
    )


def await_serving(service: subprocess.Popen[bytes]) -> None:
    assert service.stderr is not None
    line = service.stderr.readline()
    assert b'"serving"' in line, line + service.stderr.read()


def end(service: subprocess.Popen[bytes]) -> None:
    service.send_signal(signal.SIGTERM)
    assert service.wait(30) == 0
    assert service.stderr is not None
    service.stderr.close()


@dataclass
class Load:
    """Threads that do something again and again and note what goes wrong."""

    act: Callable[[], int]  # returns how many retries it took
    worst: int = 0
    done: int = 0
    failures: list[Exception] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def go_on(self) -> None:
        """Wait until some dozens more are done, or something has gone wrong."""
        enough = self.done + 10 * CLIENTS
        assert eventually(lambda: self.done >= enough or self.failures)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.worst = max(self.worst, self.act())
                self.done += 1
            except Exception as error:  # the test looks at it
                self.failures.append(error)
                return


def test_a_restart_under_load_costs_a_request_one_retry_at_most(
    platform: Path, tmp_path: Path, report: Report
) -> None:
    path = tmp_path / "aesm.socket"
    service = serve(platform, path)
    await_serving(service)
    key = Client(path).select()

    def one_request() -> int:
        client = Client(path, patience=30)
        client.init_quote(key)
        first = client.retries
        client.retries = 0
        client.quote(report, key)
        return max(first, client.retries)

    with Load(one_request) as load:
        for _ in range(2):
            load.go_on()
            end(service)
            service = serve(platform, path)
            await_serving(service)
        load.go_on()
    end(service)
    assert load.failures == []
    assert load.worst == 1


def test_a_service_behind_a_passed_socket_restarts_unnoticed(
    platform: Path, tmp_path: Path
) -> None:
    path = tmp_path / "aesm.socket"
    asked = frame(request("select_att_key_id"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(512)
        service = serve(platform, path, listener)
        await_serving(service)

        def one_request() -> int:
            with connect(path) as connection:
                connection.sendall(asked)
                assert len(rest(connection)) > 256
            return 0

        with Load(one_request) as load:
            load.go_on()
            end(service)
            service = serve(platform, path, listener)
            await_serving(service)
            load.go_on()
        end(service)
    assert load.failures == []
