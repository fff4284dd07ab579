# SPDX-License-Identifier: Apache-2.0
"""MRENCLAVE of an SDK enclave, page by page with hashlib: slow, plain, and none of our readers.

Knows what the tests' files need: one ELF file, one metadata copy at a place that is told.
"""

import hashlib
from struct import unpack_from


def _number(data: bytes | bytearray, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


class _Hash:
    def __init__(self, ssa_frame_size: int, size: int) -> None:
        self.sha = hashlib.sha256()
        self.block(b"ECREATE\0", ssa_frame_size.to_bytes(4, "little"), size.to_bytes(8, "little"))

    def block(self, *parts: bytes) -> None:
        self.sha.update(b"".join(parts).ljust(64, b"\0"))

    def page(self, offset: int, flags: int, content: bytes, *, measured: bool) -> None:
        self.block(b"EADD\0\0\0\0", offset.to_bytes(8, "little"), flags.to_bytes(8, "little"))
        for chunk in range(0, 4096, 256) if measured else ():
            self.block(b"EEXTEND\0", (offset + chunk).to_bytes(8, "little"))
            self.sha.update(content[chunk : chunk + 256])


def plain_mrenclave(file: bytes, metadata_at: int) -> bytes:
    """Return MRENCLAVE for the metadata copy at an offset of the file."""
    meta = file[metadata_at : metadata_at + _number(file, metadata_at + 16, 4)]
    shift, size = 0, _number(meta, 40, 8)
    if _number(meta, 12, 4) > 10:
        image, start, size = unpack_from("<QQQ", meta, _number(meta, 1872 + 16, 4))
        shift = image - start
    running = _Hash(_number(meta, 24, 4), size)
    memory = bytearray(file)
    at, length = unpack_from("<II", meta, 1872)
    for row in range(at, at + length, 32):
        target, source, amount = unpack_from("<QII", meta, row)
        memory[target : target + amount] = meta[source : source + amount]
    written = _relocated(file)
    for row in range(_number(file, 56, 2)):
        kind, flags, offset, address, _, filled, total, _ = unpack_from(
            "<IIQQQQQQ", file, 64 + 56 * row
        )
        if kind != 1:
            continue
        secinfo = 0x200 | flags >> 2 & 1 | flags & 2 | (flags & 1) << 2
        first = address & ~4095
        space = bytearray((address + total + 4095 & ~4095) - first)
        space[address - first : address - first + filled] = memory[offset : offset + filled]
        for page in range(0, len(space), 4096):
            extra = 2 if first + page in written and first + page < address + filled else 0
            content = bytes(space[page : page + 4096])
            running.page(shift + first + page, secinfo | extra, content, measured=True)
    _add_layout(running, meta, shift)
    return running.sha.digest()


def _add_layout(running: _Hash, meta: bytes, shift: int) -> None:
    for address, row in _rows(meta):
        _, attributes, count, _, filler, content_at, secinfo = unpack_from("<HHIQIIQ", meta, row)
        if not attributes & 1 or not secinfo:
            continue
        content = filler.to_bytes(4, "little") * 1024
        if content_at:
            page = bytearray(meta[content_at : content_at + filler].ljust(4096, b"\0"))
            for field in (16, 48, 56):
                value = _number(page, field, 8) + address & (1 << 64) - 1
                page[field : field + 8] = value.to_bytes(8, "little")
            content = bytes(page)
        for index in range(count):
            offset = shift + address + 4096 * index
            running.page(offset, secinfo, content, measured=attributes & 3 == 3)


def _rows(meta: bytes) -> list[tuple[int, int]]:
    """Return the address and the place of every layout entry, groups unrolled."""
    at, length = unpack_from("<II", meta, 1880)
    found: list[tuple[int, int]] = []
    for row in range(at, at + length, 32):
        if _number(meta, row, 2) & 0x1000:
            entries, times, step = unpack_from("<2xHIQ", meta, row)
            for time in range(1, times + 1):
                found += (
                    (_number(meta, each + 8, 8) + time * step, each)
                    for each in range(row - 32 * entries, row, 32)
                )
        else:
            found.append((_number(meta, row + 8, 8), row))
    return found


def _relocated(file: bytes) -> set[int]:
    """Return the pages that DT_TEXTREL makes writable."""
    tags: dict[int, int] = {}
    for row in range(_number(file, 56, 2)):
        kind, _, offset = unpack_from("<IIQ", file, 64 + 56 * row)
        while kind == 2:
            tag, value = unpack_from("<QQ", file, offset)
            offset += 16
            if tag == 0:
                break
            tags[tag] = value
    if 22 not in tags:
        return set()
    rows = [unpack_from("<QQ", file, tags[7] + at) for at in range(0, tags[8], 24)]
    return {byte & ~4095 for at, kind in rows if kind & 0xFFFFFFFF for byte in (at, at + 7)}
