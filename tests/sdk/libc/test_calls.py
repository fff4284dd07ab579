# SPDX-License-Identifier: Apache-2.0
"""System calls of an enclave's C library, served by a Python host as far as both allow."""

import errno
import os
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.sdk.libc.conftest import Load

from ensconce.cli import cli, run
from ensconce.enclave import Allowance
from ensconce.enclave.system import SYSTEM_OCALLS, SystemOcalls

_OPEN, _SOCKET, _WRITEV, _NANOSLEEP, _RECVFROM = 2, 41, 20, 35, 45  # numbers on x86-64
_LONG_MIN = -(2**63)


@pytest.fixture
def host(tmp_path: Path) -> Allowance:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_text("not for enclaves")
    (tmp_path / "inside" / "way-out").symlink_to(tmp_path)
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    return Allowance(folder=tmp_path / "inside", network=True)


@pytest.fixture
def calls(load: Load, host: Allowance) -> Iterator[Any]:
    with load("calls", allow=host) as enclave:
        yield enclave


@pytest.fixture
def strict(load: Load) -> Iterator[Any]:
    """An enclave that imports all calls, on a host that allows neither files nor network."""
    with load("calls") as enclave:
        yield enclave


def test_what_is_printed_comes_out_on_the_hosts_output_in_order(
    strict: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    print("before", end=" ")
    assert strict.say("hello") == 8
    print("after")
    assert capfd.readouterr().out == "before [hello]\nafter\n"


def test_input_is_the_hosts(strict: Any) -> None:
    read, write = os.pipe()
    os.write(write, b"one line\nand more")
    kept = os.dup(0)
    os.dup2(read, 0)
    try:
        line = bytearray(32)
        assert strict.ask(line, 32) == 1
        assert line.startswith(b"one line\n\0")
    finally:
        os.dup2(kept, 0)
        for each in (read, write, kept):
            os.close(each)


def test_time_is_the_hosts(strict: Any) -> None:
    assert abs(strict.now() - time.time()) < 60
    nanoseconds = bytearray(8)
    assert abs(strict.monotonic(nanoseconds) - time.monotonic()) < 60
    assert strict.slept(20_000) >= 0.02
    assert strict.raw_clock(12345, bytearray(16)) == -errno.EINVAL


def test_files_are_those_of_the_allowed_folder(calls: Any, host: Allowance) -> None:
    data, found = os.urandom(100_000), bytearray(8)
    assert host.folder is not None
    folder = Path(host.folder)
    (folder / "deep").mkdir()
    assert calls.store("/deep/file", data, len(data)) == 0
    assert (folder / "deep" / "file").read_bytes() == data
    copy = bytearray(len(data))
    assert calls.fetch("deep//./file", copy, len(copy), found) == 0
    assert copy == data
    assert int.from_bytes(found, "little") == len(data)
    facts = bytearray(24)
    assert calls.stat_of("deep/file", facts) == 0
    mode, size, modified = struct.unpack("<3q", facts)
    assert stat.S_ISREG(mode)
    assert (size, abs(modified - time.time()) < 60) == (len(data), True)
    assert calls.move("deep/file", "other") == 0
    assert calls.fetch("deep/file", copy, 1, found) == errno.ENOENT
    assert calls.drop("other") == 0
    assert not (folder / "other").exists()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../secret", errno.EACCES),
        ("deep/../../secret", errno.EACCES),
        ("link", errno.ELOOP),
        ("way-out/secret", errno.ENOTDIR),
        ("/etc/passwd", errno.ENOENT),
        ("/", errno.EISDIR),
        ("x" * 5000, errno.ENAMETOOLONG),
        ("pipe", errno.EACCES),
        (".", errno.EISDIR),
    ],
)
def test_nothing_outside_the_folder_is_reached(
    calls: Any, host: Allowance, path: str, error: int
) -> None:
    assert host.folder is not None
    os.mkfifo(Path(host.folder) / "pipe")
    assert calls.fetch(path, bytearray(8), 8, bytearray(8)) == error
    if error in (errno.EACCES, errno.ENOTDIR, errno.ENAMETOOLONG) and path != "pipe":
        assert calls.drop(path) == calls.move(path, "mine") == calls.move("pipe", path) == error
    assert (Path(host.folder).parent / "secret").exists()


def test_opening_files_has_no_other_uses(calls: Any) -> None:
    for flags in (os.O_PATH, os.O_TMPFILE | os.O_RDWR, os.O_DIRECT, os.O_ASYNC):
        assert calls.open_with("any", flags | os.O_CREAT) == errno.EINVAL
    assert calls.open_with("any", os.O_CREAT | os.O_RDWR) == 0


def test_a_file_is_closed_once_and_no_file_of_the_hosts_at_all(calls: Any) -> None:
    with socket.socket() as own:
        assert calls.raw_close(own.fileno()) == -errno.EBADF
        assert calls.raw_read(own.fileno(), bytearray(1), 1) == -errno.EBADF
        assert calls.raw_write(own.fileno(), 1) == -errno.EBADF
    assert calls.raw_close(0) == 0
    assert calls.raw_close(0) == -errno.EBADF
    os.fstat(0)


def _open_here() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_what_the_enclave_leaves_open_is_closed_with_it(load: Load, host: Allowance) -> None:
    assert host.folder is not None
    (Path(host.folder) / "any").touch()
    with load("calls", allow=host) as enclave:
        before = _open_here()
        assert [enclave.raw_open() for _ in range(5)] == [3, 4, 5, 6, 7]
        assert [enclave.raw_close(each) for each in (4, 5)] == [0, 0]
        assert _open_here() == before + 3
        while (opened := enclave.raw_open()) >= 0:
            pass
        assert opened == -errno.EMFILE
    assert _open_here() < before


def test_the_network_is_the_hosts(calls: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(peer.recv(64).upper())

        echoing = threading.Thread(target=echo)
        echoing.start()
        answer = bytearray(32)
        assert calls.exchange(server.getsockname()[1], "hello", answer, 32) == 5
        assert answer.startswith(b"HELLO\0")
        echoing.join()
    assert calls.exchange(1, "hello", answer, 32) == -errno.ECONNREFUSED


def test_an_enclave_can_be_a_server(calls: Any, capfd: pytest.CaptureFixture[str]) -> None:
    told = bytearray(2), bytearray(32)
    result: list[int] = []
    serving = threading.Thread(target=lambda: result.append(calls.serve(*told, 32)))
    serving.start()
    out = ""
    while "\n" not in out:
        out += capfd.readouterr().out
        time.sleep(0.01)
    with socket.create_connection(("::1", int(out))) as peer:
        peer.sendall(b"question")
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(8) == b"bye"
    serving.join()
    assert result == [8]
    assert told[1].startswith(b"question\0")


def test_only_internet_sockets_are_made(calls: Any) -> None:
    assert calls.socket_of(socket.AF_INET, socket.SOCK_DGRAM) == 0
    assert calls.socket_of(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) == 0
    assert calls.socket_of(socket.AF_UNIX, socket.SOCK_STREAM) == errno.EAFNOSUPPORT
    assert calls.socket_of(socket.AF_NETLINK, socket.SOCK_RAW) == errno.EAFNOSUPPORT
    assert calls.socket_of(socket.AF_INET, socket.SOCK_RAW) == errno.EPROTONOSUPPORT


def test_a_host_allows_neither_files_nor_network_by_itself(strict: Any) -> None:
    assert strict.fetch("/etc/passwd", bytearray(8), 8, bytearray(8)) == errno.EACCES
    assert strict.store("/any/thing", b"x", 1) == errno.EACCES
    assert strict.drop("/any/thing") == errno.EACCES
    assert strict.socket_of(socket.AF_INET, socket.SOCK_STREAM) == errno.EACCES


def _lying(answer: int) -> Callable[..., int]:
    return lambda *_arguments: answer


@pytest.mark.parametrize("lie", [_LONG_MIN, -4096, 2**63 - 1, 11, 2**31])
def test_a_lying_hosts_answers_are_not_believed(load: Load, lie: int) -> None:
    names = ("read", "write", "open", "close", "clock_gettime", "fstat")
    ocalls = {f"tee_{name}": _lying(lie) for name in names}
    with load("calls", ocalls=ocalls) as enclave:
        assert enclave.raw_read(0, bytearray(10), 10) == -errno.EIO
        assert enclave.raw_write(1, 10) == -errno.EIO
        assert enclave.raw_open() == (11 if lie == 11 else -errno.EIO)
        assert enclave.raw_close(3) == -errno.EIO
        assert enclave.raw_stat(1) == -errno.EIO
        assert enclave.now() == -1
        at = bytearray(b"\xaa" * 16)
        assert enclave.raw_clock(0, at) == -errno.EIO
        assert at == bytes(16)


def test_a_host_that_takes_nothing_does_not_hold_up_printing(load: Load) -> None:
    with load("calls", ocalls={"tee_write": _lying(0)}) as enclave:
        assert enclave.say("never out") == -1
        assert enclave.raw_write(1, 0) == 0


def test_a_hosts_errno_is_the_enclaves(load: Load) -> None:
    with load("calls", ocalls={"tee_lseek": _lying(-errno.ESPIPE)}) as enclave:
        assert enclave.raw_seek(1) == -errno.ESPIPE


@pytest.mark.parametrize(("told", "left"), [(3, b"abc\0\0\0"), (-errno.EFAULT, bytes(6))])
def test_what_was_not_read_is_not_the_hosts(load: Load, told: int, left: bytes) -> None:
    def read(_file: int, data: memoryview, _size: int) -> int:
        data[:] = b"abcdef"
        return told

    with load("calls", ocalls={"tee_read": read}) as enclave:
        buffer = bytearray(b"before")
        assert enclave.raw_read(0, buffer, 6) == told
        assert buffer == left


def test_a_transfer_is_no_larger_than_the_hosts_stack_can_bear(load: Load) -> None:
    sizes: list[int] = []

    def write(_file: int, data: bytes, size: int) -> int:
        sizes.append(len(data))
        return size

    with load("calls", ocalls={"tee_write": write}) as enclave:
        assert enclave.raw_write(1, 100_000) == 65536
    assert sizes == [65536]


def test_a_monotonic_clock_never_goes_back(load: Load) -> None:
    times = iter([(7, 5), (6, 999_999_999), (7, 4), (7, 6), (7, 1_000_000_000), (8, -1)])

    def clock(_clock: int, at: memoryview) -> int:
        struct.pack_into("<2q", at, 0, *next(times))
        return 0

    with load("calls", ocalls={"tee_clock_gettime": clock}) as enclave:
        nanoseconds, seen = bytearray(8), []
        for _ in range(6):
            seconds = enclave.monotonic(nanoseconds)
            seen.append((seconds, int.from_bytes(nanoseconds, "little")))
    assert seen == [(7, 5), (7, 5), (7, 5), (7, 6), (-errno.EIO, 0), (-errno.EIO, 0)]


def test_what_is_not_imported_is_refused_and_counted(load: Load) -> None:
    with load("quiet", allow=Allowance(folder="/", network=True)) as enclave:
        assert abs(enclave.now() - time.time()) < 60
        assert [enclave.refused(each) for each in (_OPEN, _SOCKET, _WRITEV)] == [0, 0, 0]
        assert enclave.reaches("/etc/passwd") == 0
        assert enclave.say("lost") == errno.ENOSYS
        assert enclave.nap() == errno.ENOSYS
        assert [enclave.refused(each) for each in (_OPEN, _SOCKET, _WRITEV)] == [1, 1, 1]
        assert enclave.refused(_NANOSLEEP) == 1
        assert enclave.starts_a_program() == 0


def test_the_command_line_serves_them_too(
    signed: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    edl = Path(__file__).parent / "calls.edl"
    assert run(cli, ["enclave", "call", str(signed("calls")), "--edl", str(edl), "say", "hi"]) == 0
    assert capfd.readouterr().out.splitlines()[0] == "[hi]"


def test_what_is_not_imported_is_not_in_the_enclave(signed: Callable[..., Path]) -> None:
    found = {}
    for name in ("calls", "quiet"):
        command = ["nm", "--defined-only", str(signed(name))]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = SYSTEM_OCALLS & {line.split()[-1] for line in listed.splitlines()}
    assert found == {"calls": SYSTEM_OCALLS, "quiet": {"tee_clock_gettime"}}


def test_what_a_thread_uses_stays_open_until_it_is_done() -> None:
    ocalls = SystemOcalls(Allowance(network=True))
    serve = ocalls.table()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        file = serve["tee_socket"](socket.AF_INET, socket.SOCK_DGRAM, 0)
        port = peer.getsockname()[1].to_bytes(2, "big")
        address = b"\2\0" + port + socket.inet_aton("127.0.0.1") + bytes(8)
        assert serve["tee_connect"](file, address, 16) == 0
        assert serve["tee_write"](file, b"where", 5) == 5
        buffer, result = bytearray(8), []

        def receive() -> None:
            result.append(serve["tee_recv"](file, memoryview(buffer), 8, 0))

        before = _open_here()
        thread = threading.Thread(target=receive)
        thread.start()
        called = Path(f"/proc/self/task/{thread.native_id}/syscall")
        while not called.read_text().startswith(f"{_RECVFROM} "):
            time.sleep(0.01)
        assert serve["tee_close"](file) == 0
        assert serve["tee_close"](file) == -errno.EBADF
        assert _open_here() == before
        peer.sendto(b"end", peer.recvfrom(8)[1])
        thread.join()
        assert result == [3]
        assert _open_here() == before - 1
