# SPDX-License-Identifier: Apache-2.0
"""Say what an enclave crashed of: the exception and, for a debug enclave, the function."""

from bisect import bisect_right
from collections.abc import Mapping

from ensconce.enclave.loader import LoadedEnclave
from ensconce.errors import EnclaveCrashed, EnsconceError
from ensconce.image import Image
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.ssa import GprSgx

__all__ = ["NO_VECTOR", "crash_error"]

NO_VECTOR = -1

_PAGE_FAULT = 14
_VECTORS = {
    0: "#DE (division by zero)",
    1: "#DB (debug exception)",
    3: "#BP (breakpoint)",
    5: "#BR (bound range)",
    6: "#UD (abort(), or an instruction that enclaves may not use)",
    13: "#GP (general protection)",
    _PAGE_FAULT: "#PF (page fault)",
    16: "#MF (x87 error)",
    17: "#AC (alignment)",
    19: "#XM (SIMD error)",
    21: "#CP (control protection)",
}


def crash_error(
    image: Image, loaded: LoadedEnclave, vector: int, error_code: int, address: int, tcs: int
) -> EnclaveCrashed:
    """Return the error for an exception in an enclave that it could not handle.

    `tcs` is the offset of the TCS that it happened on.
    """
    what = _VECTORS.get(vector, f"exception {vector}")
    where = None
    if vector == _PAGE_FAULT:
        where = address
        inside = address - loaded.base
        place = f"offset {inside:#x}" if 0 <= inside < loaded.secs.size else f"address {address:#x}"
        access = "writing" if error_code & 2 else "executing" if error_code & 16 else "reading"
        what += f" {access} {place}"
    if loaded.secs.attributes.flags & AttributeFlags.DEBUG:
        what += _function(image, loaded, tcs)
        hint = "load it again"
    else:
        hint = "load it again, with debug=True to learn the function"
    return EnclaveCrashed(
        f"{image.source} crashed: {what}; it takes no more ECALLs, {hint}",
        vector=vector,
        address=where,
    )


def _function(image: Image, loaded: LoadedEnclave, tcs: int) -> str:
    """Return ` in NAME+0xN` for the instruction that faulted, empty where it can't be told."""
    frame = loaded.secs.ssa_frame_size * PAGE_SIZE
    at = loaded.base + loaded.tcss[tcs].ossa + frame - GprSgx.SIZE if tcs in loaded.tcss else 0
    try:
        saved = GprSgx.parse(loaded.device.debug_read(at, GprSgx.SIZE))
    except (OSError, EnsconceError):
        return ""
    offset = saved.rip - loaded.base
    if not 0 <= offset < loaded.secs.size:
        return f" at instruction {saved.rip:#x}, outside the enclave"
    name = _nearest(image.symbols, offset)
    return f" in {name} (instruction at offset {offset:#x})" if name else f" at offset {offset:#x}"


def _nearest(symbols: Mapping[str, int], offset: int) -> str:
    """Return the symbol at or before an offset, with the distance."""
    sorted_symbols = sorted((value, name) for name, value in symbols.items() if value)
    at = bisect_right(sorted_symbols, (offset, "\U0010ffff")) - 1
    if at < 0:
        return ""
    value, name = sorted_symbols[at]
    return f"{name}+{offset - value:#x}" if offset > value else name
