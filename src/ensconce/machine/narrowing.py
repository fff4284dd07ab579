# SPDX-License-Identifier: Apache-2.0
"""Keep enclaves' XSAVE masks within their XFRM, which a processor does by itself.

Inside an enclave a processor masks XCR0 with XFRM. Here XCR0 stays the host's. A trusted runtime
that saves and restores with an all-ones mask, into an area that fits its XFRM, would save more
than the area holds. So after the measurement is taken the two immediates in front of such an
instruction are narrowed to XFRM, in the loaded copy only:

    mov eax, -1; mov edx, -1; xsave/xsavec/xsaveopt/xrstor [mem]

in either order of the two, with at most eight bytes before the XSAVE instruction. Code that
computes its mask, or that is written after EINIT, is not found (LIMITATIONS).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from ensconce import _core
from ensconce.isa.secinfo import PAGE_SIZE, SecInfoFlags
from ensconce.machine.epc import REG, TYPE

if TYPE_CHECKING:
    from ensconce.machine.secs_page import SecsPage

__all__ = ["narrow_all", "narrow_loaded", "narrowed"]

_X = int(SecInfoFlags.X)
_EAX, _EDX = b"\xb8", b"\xba"
_ONES = b"\xff\xff\xff\xff"
# REX.W or none, then 0F AE /4 /5 /6 (XSAVE, XRSTOR, XSAVEOPT) or 0F C7 /4 (XSAVEC), to memory
_XSAVE = rb"[\x40-\x4f]?\x0f(?:\xae[\x20-\x37\x60-\x77\xa0-\xb7]|\xc7[\x20-\x27\x60-\x67\xa0-\xa7])"
_SITE = re.compile(
    rb"(?:\xb8\xff{4}\xba\xff{4}|\xba\xff{4}\xb8\xff{4})(?=.{0,8}?" + _XSAVE + rb")", re.DOTALL
)
_SITE_BYTES = 10
_SEEN_AHEAD = 8 + 4
_AROUND = _SITE_BYTES + _SEEN_AHEAD

_logger = logging.getLogger(__name__)


def narrowed(code: bytes, xfrm: int) -> list[tuple[int, bytes]]:
    """Return where in a piece of code masks must be narrowed, as (offset, ten new bytes)."""
    low = (xfrm & 0xFFFFFFFF).to_bytes(4, "little")
    high = (xfrm >> 32).to_bytes(4, "little")
    eax, edx = _EAX + low, _EDX + high
    return [
        (site.start(), eax + edx if code[site.start()] == _EAX[0] else edx + eax)
        for site in _SITE.finditer(code)
    ]


def narrow_all(secs: SecsPage) -> None:
    """Narrow every executable page of an enclave; note those that are not in the EPC now."""
    if not _core.xcr0() & ~secs.xfrm:
        return
    end = secs.size // PAGE_SIZE
    for known in (secs.lazy, secs.evicted):
        for start, stop, entry in known.spans(0, end):
            if entry is not None and entry & _X:
                secs.unnarrowed.put(start, stop, 1)
    for start, stop, entry in secs.epcm.spans(0, end):
        if entry is not None and entry & _X and entry & TYPE == REG:
            narrow_range(secs, start, stop)


def narrow_loaded(secs: SecsPage, first: int, end: int) -> None:
    """Narrow pages that came into the EPC; again next time, if a neighbour is still out."""
    narrow_range(secs, first, end)
    for page in (first - 1, end):
        for known in (secs.lazy, secs.evicted):
            if (known.get(page) or 0) & _X:
                return
    secs.unnarrowed.put(first, end, None)


def narrow_range(secs: SecsPage, first: int, end: int) -> None:
    """Narrow the executable pages [first, end), all in the EPC, and sites across their edges."""
    low, high = first * PAGE_SIZE, end * PAGE_SIZE
    if _executable(secs, first - 1):
        low -= _AROUND
    if _executable(secs, end):
        high += _AROUND
    code = bytes(secs.alias[low:high])
    sites = narrowed(code, secs.xfrm)
    for offset, new in sites:
        secs.alias[low + offset : low + offset + len(new)] = new
    if sites:
        _logger.info(
            "event=xsave_mask_narrowed eid=%d xfrm=%#x sites=%s",
            secs.eid,
            secs.xfrm,
            ",".join(f"{low + offset:#x}" for offset, _ in sites),
        )


def _executable(secs: SecsPage, page: int) -> bool:
    """Return whether a page is in the EPC and executable."""
    entry = secs.epcm.get(page)
    return entry is not None and bool(entry & _X) and entry & TYPE == REG
