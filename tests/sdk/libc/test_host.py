# SPDX-License-Identifier: Apache-2.0
"""The host's side of tee_libc.edl for C programs: libtee_libc."""

import ctypes
import errno
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ensconce.edl.files import load_file
from ensconce.sdk.bridges import untrusted_files
from ensconce.sdk.host_libraries import host_includes, host_libraries
from ensconce.sdk.toolchain import Toolchain

_HERE = Path(__file__).parent
_RECVFROM = 45  # its number on x86-64


@pytest.fixture
def library(toolchain: Toolchain, tmp_path: Path) -> Iterator[ctypes.CDLL]:
    (tmp_path / "inside" / "deep").mkdir(parents=True)
    (tmp_path / "secret").write_text("not for enclaves")
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "inside" / "way-out").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "inside" / "pipe")
    found = ctypes.CDLL(str(host_libraries(toolchain) / "libtee_libc.so"))
    for name in ("open", "read", "write", "close", "lseek", "fstat", "unlink", "rename", "socket"):
        getattr(found, f"tee_{name}").restype = ctypes.c_long
    assert found.tee_host_allow(os.fsencode(tmp_path / "inside"), 1) == 0
    yield found
    assert found.tee_host_allow(None, 0) == 0


def test_files_are_those_of_the_allowed_folder(library: ctypes.CDLL, tmp_path: Path) -> None:
    file = library.tee_open(b"//deep/./file", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o7644)
    assert file == 3
    made = tmp_path / "inside" / "deep" / "file"
    assert stat.S_IMODE(made.stat().st_mode) & ~0o644 == 0
    assert library.tee_write(file, b"content", ctypes.c_size_t(7)) == 7
    assert library.tee_lseek(file, ctypes.c_int64(3), os.SEEK_SET) == 3
    buffer, facts = ctypes.create_string_buffer(16), (ctypes.c_int64 * 4)()
    assert library.tee_read(file, buffer, ctypes.c_size_t(16)) == 4
    assert buffer.value == b"tent"
    assert library.tee_fstat(file, facts) == 0
    assert (facts[0], facts[1]) == (made.stat().st_mode, 7)
    assert facts[2] * 10**9 + facts[3] == made.stat().st_mtime_ns
    assert library.tee_close(file) == 0
    assert library.tee_close(file) == -errno.EBADF
    assert library.tee_rename(b"deep/file", b"other") == 0
    assert library.tee_unlink(b"other") == 0
    assert not (tmp_path / "inside" / "other").exists()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../secret", errno.EACCES),
        ("deep/../../secret", errno.EACCES),
        ("link", errno.ELOOP),
        ("way-out/secret", errno.ENOTDIR),
        ("/etc/passwd", errno.ENOENT),
        ("/", errno.EISDIR),
        (".", errno.EISDIR),
        ("x" * 300, errno.ENAMETOOLONG),
        ("x" * 256, errno.ENAMETOOLONG),
        ("deep", errno.EACCES),
        ("pipe", errno.EACCES),
    ],
)
def test_nothing_else_is_reached(
    library: ctypes.CDLL, tmp_path: Path, path: str, error: int
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert library.tee_open(path.encode(), os.O_RDONLY, 0) == -error
    if path not in ("link", "pipe", "deep"):
        assert library.tee_unlink(path.encode()) == -error
        assert library.tee_rename(b"pipe", path.encode()) == -error or path == "/etc/passwd"
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert (tmp_path / "secret").exists()


def test_numbers_are_the_enclaves_own(library: ctypes.CDLL) -> None:
    with socket.socket() as own:
        for number in (own.fileno(), -1, 256, 2**31 - 1):
            assert library.tee_close(number) == -errno.EBADF
            assert library.tee_read(number, None, ctypes.c_size_t(0)) == -errno.EBADF
    opened = []
    while (number := library.tee_open(b"any", os.O_CREAT, 0o600)) >= 0:
        opened.append(number)
    assert number == -errno.EMFILE
    assert [library.tee_close(each) for each in opened] == [0] * len(opened)


def _sockets() -> set[str]:
    """Return what sockets this process has open."""
    files = (each for each in Path("/proc/self/fd").iterdir() if each.is_socket())
    return {str(each.readlink()) for each in files}


def test_what_is_used_stays_open_until_it_is_no_longer_used(library: ctypes.CDLL) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        before = _sockets()
        waiting = library.tee_socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
        port = peer.getsockname()[1].to_bytes(2, "big")
        address = b"\2\0" + port + socket.inet_aton("127.0.0.1") + bytes(8)
        assert library.tee_connect(waiting, address, 16) == 0
        assert library.tee_write(waiting, b"where", ctypes.c_size_t(5)) == 5
        buffer, result = ctypes.create_string_buffer(8), []

        def receive() -> None:
            result.append(library.tee_recv(waiting, buffer, ctypes.c_size_t(8), 0))

        thread = threading.Thread(target=receive)
        thread.start()
        called = Path(f"/proc/self/task/{thread.native_id}/syscall")
        while not called.read_text().startswith(f"{_RECVFROM} "):
            time.sleep(0.01)
        assert library.tee_close(waiting) == 0
        assert library.tee_close(waiting) == -errno.EBADF
        assert len(_sockets() - before) == 1
        peer.sendto(b"end", peer.recvfrom(8)[1])
        thread.join()
        assert result == [3]
        assert _sockets() == before


def test_a_c_program_lets_its_enclave_out_as_far_as_it_allows(
    toolchain: Toolchain,
    signed: Callable[..., Path],
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    interface = load_file(_HERE / "calls.edl")
    for name, text in untrusted_files(interface).items():
        (tmp_path / name).write_text(text)
    libraries = host_libraries(toolchain)
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / "app")]
    command += [str(_HERE / "app.c"), str(tmp_path / "calls_u.c"), f"-I{tmp_path}"]
    command += [f"-I{place}" for place in host_includes()]
    command += [f"-L{libraries}", "-lsgx_urts", "-ltee_libc", f"-Wl,-rpath,{libraries}"]
    subprocess.run(command, check=True)
    (tmp_path / "folder").mkdir()
    done = subprocess.run(
        [str(tmp_path / "app"), str(signed("calls")), str(tmp_path / "folder")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "before [hello]\nafter\ndone\n", done.stderr
    assert (tmp_path / "folder" / "file").read_bytes() == b"content\0"
