# SPDX-License-Identifier: Apache-2.0
"""Memory of the process that system calls name by address, read so that a bad address is EFAULT.

The kernel does the reading, by writing the range to a file, so nothing here faults.
"""

import contextlib
import errno
import os
from pathlib import Path

from ensconce import _core
from ensconce.isa.secinfo import PAGE_SIZE

__all__ = ["copy_from_user", "copy_to_file", "untouched"]

_MAPS = Path("/proc/self/maps")
_PAGEMAP = Path("/proc/self/pagemap")
_ENTRY = 8
_TOP = 7  # the byte with "present" and "swapped"; the soft-dirty bit below is set in holes, too
_PIECE = 1 << 18


def copy_from_user(address: int, length: int) -> bytes:
    """Return bytes at an address. Raises OSError EFAULT where not all of them are readable."""
    file = os.memfd_create("copy_from_user", os.MFD_CLOEXEC)
    try:
        if copy_to_file(address, length, file, 0) < length:
            raise _bad_address()
        return os.pread(file, length, 0)
    finally:
        os.close(file)


def copy_to_file(address: int, length: int, file: int, offset: int) -> int:
    """Copy memory to a file; return how many bytes could be read before the first bad address."""
    if address < 0 or address + length > 1 << 64:
        raise _bad_address()
    done = 0
    while done < length:
        try:
            count = os.pwrite(file, _core.view(address + done, length - done), offset + done)
        except OSError as error:
            if error.errno == errno.EFAULT:
                return done
            raise
        if not count:
            return done
        done += count
    return done


def untouched(address: int, length: int) -> bool:
    """Return whether a range is private anonymous memory that was never written: all zero.

    False also where it can't be told cheaply.
    """
    with contextlib.suppress(OSError, ValueError):
        return _anonymous(address, address + length) and _no_pages(address, length)
    return False


def _anonymous(start: int, end: int) -> bool:
    """Return whether one private anonymous readable mapping holds a range."""
    with _MAPS.open("rb") as maps:
        for line in maps:
            bounds, permissions, _, _, inode, *path = line.split(maxsplit=5)
            low, high = (int(bound, 16) for bound in bounds.split(b"-"))
            if low <= start < high:
                private = permissions[:1] == b"r" and permissions[3:4] == b"p"
                return private and inode == b"0" and not path and end <= high
    return False


def _no_pages(address: int, length: int) -> bool:
    """Return whether none of a range's pages is in memory or swapped out."""
    first, count = address // PAGE_SIZE, length // PAGE_SIZE
    with _PAGEMAP.open("rb", buffering=0) as pagemap:
        for start in range(0, count, _PIECE):
            size = min(_PIECE, count - start) * _ENTRY
            pagemap.seek((first + start) * _ENTRY)
            entries = pagemap.read(size)
            if len(entries) != size or entries[_TOP::_ENTRY].strip(b"\0"):
                return False
    return True


def _bad_address() -> OSError:
    """Return EFAULT."""
    return OSError(errno.EFAULT, os.strerror(errno.EFAULT))
