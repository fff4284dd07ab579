# SPDX-License-Identifier: Apache-2.0
"""The socket: one service at a time, in a folder where nobody else can put one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.aesm.serving import connect

from ensconce.aesm.endpoint import Peer, adopt_socket, peer_of, take_socket
from ensconce.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "aesmd" / "aesm.socket"


def test_two_services_never_share_a_socket(path: Path) -> None:
    first = take_socket(path)
    with pytest.raises(ConfigError, match=rf"process {os.getpid()}\) listens"):
        take_socket(path)
    connect(path).close()
    first.close()


def test_a_service_that_takes_no_lock_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as vendors:
        vendors.bind(str(path))
        vendors.listen()
        with pytest.raises(ConfigError, match="disable --now aesmd"):
            take_socket(path)
        assert path.exists()


def test_a_service_whose_queue_is_full_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as vendors, socket.socket(socket.AF_UNIX) as waiting:
        vendors.bind(str(path))
        vendors.listen(0)
        waiting.connect(str(path))
        with pytest.raises(ConfigError, match="another AESM service"):
            take_socket(path)


def test_a_socket_that_is_left_over_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    endpoint = take_socket(path)
    assert not endpoint.lost()
    connect(path).close()
    endpoint.close()


def test_the_lock_of_a_dead_service_holds_up_nobody(path: Path) -> None:
    code = (
        f"import os; from ensconce.aesm.endpoint import *; take_socket({str(path)!r}); os._exit(9)"
    )
    code = code.replace(f"({str(path)!r})", f"(__import__('pathlib').Path({str(path)!r}))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert path.exists()
    take_socket(path).close()


def test_what_is_no_socket_is_never_removed(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"):
        take_socket(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_in_which_others_may_replace_the_socket_is_refused(path: Path, mode: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 755"):
        take_socket(path)


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        take_socket(tmp_path / ("x" * 120))


def test_a_service_knows_when_its_socket_is_gone_and_leaves_anothers_alone(path: Path) -> None:
    endpoint = take_socket(path)
    path.unlink()
    assert endpoint.lost()
    path.write_text("somebody else's")
    assert endpoint.lost()
    endpoint.withdraw()
    assert path.exists()
    endpoint.close()


def test_a_peer_is_who_the_kernel_says() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_of(one) == Peer(os.getpid(), os.getuid())


def test_without_a_supervisor_nothing_is_adopted() -> None:
    assert adopt_socket({}) is None
    assert adopt_socket({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) is None


def test_more_than_one_passed_socket_is_refused() -> None:
    with pytest.raises(ConfigError, match="one socket"):
        adopt_socket({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"})
