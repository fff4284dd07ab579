# SPDX-License-Identifier: Apache-2.0
"""System calls that Python 3.11 has no function for."""

import ctypes
import os
import signal

from ensconce.errors import DeviceError

__all__ = [
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "MS_BIND",
    "MS_PRIVATE",
    "MS_REC",
    "MS_SHARED",
    "MS_SLAVE",
    "die_with_parent",
    "mount",
    "open_tree",
    "place_tree",
    "set_namespace",
    "unmount",
    "unshare",
]

CLONE_NEWNS = 0x20000
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x1000, 0x4000, 1 << 18, 1 << 19, 1 << 20
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_CLONE, _RECURSIVE, _CLOEXEC = 1, 0x8000, 0o2000000
_FROM_EMPTY = 4
_AT_FDCWD = -100
_PR_SET_PDEATHSIG = 1
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    """Raise DeviceError where a call failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise DeviceError(f"Could not {what}: {os.strerror(number)}", errno=number)
    return result


def mount(
    source: str, target: str, flags: int, kind: str | None = None, data: str | None = None
) -> None:
    """Mount, or change a mount."""
    words = [None if each is None else each.encode() for each in (source, target, kind, data)]
    result = _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _check(result, f"mount {target}")


def unmount(target: str) -> None:
    """Take a mount away as soon as nobody uses it."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH), f"unmount {target}")


def open_tree(path: str) -> int:
    """Return a descriptor of a copy of the mounts at a path, which is mounted nowhere yet."""
    flags = _CLONE | _RECURSIVE | _CLOEXEC
    result = _libc.syscall(_OPEN_TREE, _AT_FDCWD, path.encode(), flags)
    return _check(result, f"share {path}")


def place_tree(tree: int, target: str) -> None:
    """Mount what `open_tree` returned."""
    result = _libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _FROM_EMPTY)
    _check(result, f"mount {target}")


def unshare(flags: int) -> None:
    """Leave namespaces for new ones."""
    _check(_libc.unshare(flags), "make a namespace")


def set_namespace(path: str, kind: int) -> None:
    """Enter the namespace at a path."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(file, kind), f"enter the namespace {path}")
    finally:
        os.close(file)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent ends; call it between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
