# SPDX-License-Identifier: Apache-2.0
"""Give an enclave a Python buffer: copied when small, in place when large."""

from ensconce.enclave.memory import Buffer, Space

__all__ = ["bytes_of", "lend", "text_end"]

# Below this, copying twice is cheaper than holding the object's own memory.
_COPIED = 4096


def bytes_of(argument: Buffer, where: str, *, writable: bool) -> memoryview:
    """Return a buffer's bytes as one flat view; TypeError says what to pass instead."""
    if type(argument) is bytes and not writable:
        return memoryview(argument)
    try:
        view = memoryview(argument)
    except TypeError:
        hint = "; encode the text first" if isinstance(argument, str) else ""
        kind = "a writable buffer, such as bytearray" if writable else "bytes or another buffer"
        raise TypeError(f"{where} takes {kind}, not {type(argument).__name__}{hint}") from None
    if not view.c_contiguous or (writable and view.readonly):
        fault = "writable" if view.c_contiguous else "contiguous"
        raise TypeError(f"{where} takes a {fault} buffer, such as bytearray")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def lend(argument: Buffer, size: int, space: Space, where: str, *, read: bool, write: bool) -> int:
    """Return the address of untrusted memory with a buffer's first `size` bytes.

    With `read` the enclave gets the contents, with `write` the buffer gets the enclave's when the
    ECALL has ended well. ValueError where the buffer is shorter.
    """
    if type(argument) is bytes and len(argument) == size <= _COPIED and not write:
        return space.put(argument)
    view = bytes_of(argument, where, writable=write)
    if view.nbytes < size:
        raise ValueError(f"{where} takes {size} bytes, and was given {view.nbytes}")
    if size > _COPIED:
        return space.pin(argument, writable=write).address
    address, room = space.room(size)
    if read:
        room[:] = view[:size]
    if write:
        target = view[:size]

        def copy_back() -> None:
            target[:] = room

        space.after.append(copy_back)
    return address


def text_end(data: bytes | memoryview, width: int) -> int | None:
    """Return the byte offset of the first zero character of `width` 1 or 4 bytes."""
    if width == 1 and isinstance(data, bytes):
        found = data.find(0)
        return None if found < 0 else found
    view = memoryview(data)
    for start in range(0, len(view), _COPIED):
        window = bytes(view[start : start + _COPIED])
        if width == 1:
            found = window.find(0)
        else:
            found = next(
                (at for at in range(0, len(window) - 3, 4) if window[at : at + 4] == bytes(4)), -1
            )
        if found >= 0:
            return start + found
    return None
