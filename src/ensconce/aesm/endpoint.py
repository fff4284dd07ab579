# SPDX-License-Identifier: Apache-2.0
"""The service's socket: taken by one service at a time, and given back in good order.

The lock file keeps two services of ours apart; the vendor's takes no lock, so a socket on which
somebody still answers is left to them. What nobody answers on is left over, and is replaced.
"""

import contextlib
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ConfigError

__all__ = ["DEFAULT_SOCKET", "Endpoint", "Peer", "adopt_socket", "peer_of", "take_socket"]

DEFAULT_SOCKET = Path("/var/run/aesmd/aesm.socket")

_BACKLOG = 1024
_LONGEST_PATH = 107
_FIRST_PASSED = 3  # where a supervisor puts the sockets that it passes
_CREDENTIALS = struct.Struct("3i")  # struct ucred
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a socket, as the kernel says."""

    pid: int
    uid: int


@dataclass(slots=True)
class Endpoint:
    """A listening socket; `lock` is -1 where somebody else owns it and passed it on."""

    path: Path
    listener: socket.socket
    lock: int
    inode: int

    @property
    def passed(self) -> bool:
        """Whether the socket outlives this service."""
        return self.lock < 0

    def lost(self) -> bool:
        """Return whether clients no longer come here: somebody took or removed the path."""
        if self.passed:
            return False
        try:
            return self.path.lstat().st_ino != self.inode
        except OSError:
            return True

    def withdraw(self) -> None:
        """Let no new client find the socket; those that wait in it are still there."""
        if not self.passed and not self.lost():
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the socket and let another service have the path."""
        self.listener.close()
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def take_socket(path: Path) -> Endpoint:
    """Listen at a path that everybody may connect to and no other service has.

    Raises ConfigError where a service is there, or the folder lets others replace the socket.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"{path} is too long for a socket; give a path of at most {_LONGEST_PATH} bytes"
        )
    _check_folder(path.parent)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _lock(lock, path)
        _remove_left_over(path)
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen(_BACKLOG)
        listener.settimeout(0)
        return Endpoint(path, listener, lock, path.lstat().st_ino)
    except BaseException:
        listener.close()
        os.close(lock)
        raise


def adopt_socket(environment: Mapping[str, str]) -> Endpoint | None:
    """Return the socket that a supervisor passed (LISTEN_FDS, as systemd does), if it did.

    Clients that connect while the service restarts wait in it, and notice nothing.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    if environment.get("LISTEN_FDS") != "1":
        raise ConfigError("the service takes one socket (LISTEN_FDS=1) from its supervisor")
    listener = socket.socket(fileno=_FIRST_PASSED)
    listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (listener.family, listener.type) != (socket.AF_UNIX, socket.SOCK_STREAM) or not listens:
        listener.detach()
        raise ConfigError("the socket that was passed must be a listening unix stream socket")
    os.set_inheritable(_FIRST_PASSED, False)  # noqa: FBT003 # its own parameter has no name
    listener.settimeout(0)
    return Endpoint(Path(os.fsdecode(listener.getsockname())), listener, -1, 0)


def peer_of(connection: socket.socket) -> Peer:
    """Return who is at the other end."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return Peer(pid, uid)


def _check_folder(folder: Path) -> None:
    """Make the folder, and refuse one in which others could put a socket of theirs."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ConfigError(
            f"{folder} can't be made: {error.strerror}; make it as root and chown it to this "
            "user (in systemd: RuntimeDirectory=aesmd), or give --socket"
        ) from error
    shared = found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX
    if found.st_uid not in (0, os.geteuid()) or shared:
        raise ConfigError(
            f"others may replace files in {folder}; let it belong to this user or root, and be "
            "writable by nobody else (chmod 755)"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"this user may not write to {folder}; chown it to the user that runs the service, "
            "which need not be root, or give --socket"
        )


def _lock(lock: int, path: Path) -> None:
    """Take the lock and say in it who has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        raise _taken(path, owner) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _remove_left_over(path: Path) -> None:
    """Remove a socket that nobody listens on; leave alone everything else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"{path} is there and is no socket; move it away, or give --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            pass  # left over, or gone this moment
        except (TimeoutError, BlockingIOError):
            raise _taken(path, "unknown") from None  # full, so there is somebody
        except OSError as error:
            raise ConfigError(f"{path} can't be looked at: {error.strerror}; remove it") from error
        else:
            raise _taken(path, str(peer_of(probe).pid))
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _taken(path: Path, owner: str) -> ConfigError:
    """Return the error for a path that another service has."""
    return ConfigError(
        f"another AESM service (process {owner}) listens at {path}; stop it (for the vendor's: "
        "systemctl disable --now aesmd), or listen elsewhere and forward to it "
        f"(ensconce aesm proxy --to {path} --socket …)"
    )
