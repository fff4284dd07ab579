# SPDX-License-Identifier: Apache-2.0
"""Untrusted memory that has an address: what ECALLs and OCALLs pass to and fro."""

import ctypes
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ensconce.isa.secinfo import PAGE_SIZE

__all__ = ["Buffer", "Pin", "Space", "Untrusted", "pinned"]

Buffer = bytes | bytearray | memoryview | Any  # whatever offers the buffer protocol

_NO_RESERVE = 0x4000  # MAP_NORESERVE, which mmap does not name
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
_SIMPLE = 0
_WRITABLE = 1


class Untrusted:
    """Page-aligned memory of the host's: `address` for the enclave, `data` for Python.

    Zero at first. It stays until `close`, or until nothing refers to it any more.
    """

    __slots__ = ("_memory", "address", "data", "size")

    def __init__(self, size: int, *, writable: bool = True) -> None:
        self.size = -(-max(size, 1) // PAGE_SIZE) * PAGE_SIZE
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._memory = mmap.mmap(-1, self.size, flags=_PRIVATE, prot=protection)
        with pinned(self._memory) as pin:
            self.address = pin.address
        self.data = memoryview(self._memory)

    def close(self) -> None:
        """Give the memory back; views of it must be gone."""
        self.data.release()
        self._memory.close()


class _PyBuffer(ctypes.Structure):
    """Py_buffer of the stable ABI."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_get.restype = ctypes.c_int
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = (ctypes.POINTER(_PyBuffer),)
_release.restype = None


class Pin:
    """A hold on an object's own bytes: they neither move nor go until `close`."""

    __slots__ = ("_view", "address", "size")

    def __init__(self, buffer: Buffer, *, writable: bool) -> None:
        self._view = _PyBuffer()
        _get(buffer, self._view, _WRITABLE if writable else _SIMPLE)
        self.address: int = self._view.buf or 0
        self.size: int = self._view.len

    def close(self) -> None:
        """Let go."""
        _release(self._view)


@contextmanager
def pinned(buffer: Buffer, *, writable: bool = False) -> Iterator[Pin]:
    """Hold an object's bytes at their address; BufferError where they are read-only or in parts."""
    pin = Pin(buffer, writable=writable)
    try:
        yield pin
    finally:
        pin.close()


class Space:
    """A stack of untrusted memory in which one thread builds what it passes to an enclave.

    Calls nest: each leaves `top` and the lists as it found them. `held` is what it has to let go;
    `after` is what to do when the ECALL has come back without an error, in order.
    """

    __slots__ = ("_memory", "address", "after", "data", "held", "size", "top")

    def __init__(self, size: int = 1 << 16) -> None:
        self._memory = Untrusted(size)
        self.held: list[Untrusted | Pin] = []
        self.after: list[Callable[[], None]] = []
        self.address = self._memory.address
        self.data = self._memory.data
        self.size = self._memory.size
        self.top = 0

    def release(self, top: int, held: int, after: int) -> None:
        """Give back what was taken since `top`, `held` and `after` had these sizes."""
        self.top = top
        del self.after[after:]
        while len(self.held) > held:
            self.held.pop().close()

    def room(self, size: int) -> tuple[int, memoryview]:
        """Take `size` bytes, 64-byte aligned: their address and a view of them. Not zeroed."""
        at = self.top
        end = at + (size + 63 & ~63)
        if end <= self.size:
            self.top = end
            return self.address + at, self.data[at : at + size]
        extra = Untrusted(size)
        self.held.append(extra)
        return extra.address, extra.data[:size]

    def put(self, content: bytes) -> int:
        """Copy bytes and return their address."""
        at, size = self.top, len(content)
        end = at + (size + 63 & ~63)
        if end > self.size:
            address, view = self.room(size)
            view[:] = content
            return address
        self.top = end
        self.data[at : at + size] = content
        return self.address + at

    def pin(self, buffer: Buffer, *, writable: bool) -> Pin:
        """Hold a buffer in place until the call has ended."""
        pin = Pin(buffer, writable=writable)
        self.held.append(pin)
        return pin

    def close(self) -> None:
        """Give the memory back."""
        self.data.release()
        self._memory.close()
