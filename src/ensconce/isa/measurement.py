# SPDX-License-Identifier: Apache-2.0
"""MRENCLAVE as a stream of ECREATE, EADD and EEXTEND records (SDM vol. 3D, 38.19, 40.3).

Each operation adds one 64-byte block to a SHA-256: a name of eight bytes and its operands.
EEXTEND adds the 256 bytes that it measures after its block.
"""

import hashlib
import struct
from collections.abc import Callable
from typing import NewType

from ensconce.isa.record import BytesLike
from ensconce.isa.secinfo import PAGE_SIZE

__all__ = ["CHUNK_SIZE", "Measurement", "MrEnclave", "fill", "fill_measurement"]

MrEnclave = NewType("MrEnclave", bytes)

CHUNK_SIZE = 256
ALL_CHUNKS = 0xFFFF

_ECREATE = struct.Struct("<8sIQ44x")
_EADD = struct.Struct("<8sQQ40x")
_EEXTEND = struct.Struct("<8sQ48x")
_MEASURED_PAGE = 64 + 16 * (64 + CHUNK_SIZE)
_BATCH_PAGES = 32


def fill_measurement(
    out: bytearray, offset: int, flags: int, pages: BytesLike | None, count: int
) -> int:
    """Write the records of `count` consecutive pages into `out` and return their length in bytes.

    Each page is an EADD at `offset` with SECINFO.FLAGS `flags`, followed, where `pages` holds
    its `count` * 4096 bytes, by sixteen EEXTENDs.
    """
    at = 0
    for index in range(count):
        page = offset + index * PAGE_SIZE
        _EADD.pack_into(out, at, b"EADD\0\0\0\0", page, flags)
        at += 64
        if pages is None:
            continue
        for chunk in range(0, PAGE_SIZE, CHUNK_SIZE):
            _EEXTEND.pack_into(out, at, b"EEXTEND\0", page + chunk)
            start = index * PAGE_SIZE + chunk
            out[at + 64 : at + 320] = pages[start : start + CHUNK_SIZE]
            at += 320
    return at


def _native() -> Callable[[bytearray, int, int, BytesLike | None, int], int]:
    """Return the native module's version of `fill_measurement` where it is built."""
    try:
        from ensconce import _core  # the only use, and it may be absent
    except ImportError:
        return fill_measurement
    return _core.fill_measurement


fill = _native()


class Measurement:
    """A running MRENCLAVE; offsets are relative to the enclave's base, sizes are bytes."""

    def __init__(self, size: int, ssa_frame_size: int) -> None:
        self._hash = hashlib.sha256(_ECREATE.pack(b"ECREATE\0", ssa_frame_size, size))
        self._buffer = bytearray()

    def add(self, offset: int, flags: int) -> None:
        """Measure one EADD: a page's offset and the 48 bytes of its SECINFO, all but flags zero."""
        self._hash.update(_EADD.pack(b"EADD\0\0\0\0", offset, flags))

    def extend(self, offset: int, chunk: BytesLike) -> None:
        """Measure one EEXTEND of 256 bytes."""
        if len(chunk) != CHUNK_SIZE:
            raise ValueError(f"EEXTEND measures {CHUNK_SIZE} bytes, not {len(chunk)}")
        self._hash.update(_EEXTEND.pack(b"EEXTEND\0", offset))
        self._hash.update(chunk)

    def add_pages(self, offset: int, flags: int, pages: BytesLike | None, count: int) -> None:
        """Measure the EADD of `count` consecutive pages, and their contents where given."""
        if pages is not None and len(pages) != count * PAGE_SIZE:
            raise ValueError(f"{count} pages take {count * PAGE_SIZE} bytes, not {len(pages)}")
        each = 64 if pages is None else _MEASURED_PAGE
        batch = _BATCH_PAGES if pages is not None else _BATCH_PAGES * 64
        if not self._buffer:
            self._buffer = bytearray(max(_BATCH_PAGES * _MEASURED_PAGE, _BATCH_PAGES * 64 * 64))
        view = memoryview(self._buffer)
        source = None if pages is None else memoryview(pages)
        for start in range(0, count, batch):
            many = min(batch, count - start)
            part = (
                None if source is None else source[start * PAGE_SIZE : (start + many) * PAGE_SIZE]
            )
            fill(self._buffer, offset + start * PAGE_SIZE, flags, part, many)
            self._hash.update(view[: many * each])

    def copy(self) -> "Measurement":
        """Return an independent measurement that has seen the same records."""
        other = object.__new__(Measurement)
        other._hash = self._hash.copy()
        other._buffer = bytearray()
        return other

    def digest(self) -> MrEnclave:
        """Return MRENCLAVE as it is so far, 32 bytes."""
        return MrEnclave(self._hash.digest())
