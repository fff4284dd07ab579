# SPDX-License-Identifier: Apache-2.0
"""The enclave page cache: how much there is, who uses it, and what an EPCM entry says."""

from ensconce.errors import Fault
from ensconce.isa.cpuid import EpcSection
from ensconce.isa.paging import VA_SLOTS
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfoFlags
from ensconce.isa.ssa import Vector

__all__ = [
    "BLOCKED",
    "EPOCH_SHIFT",
    "MODIFIED",
    "PENDING",
    "PERMISSIONS",
    "PR",
    "REG",
    "SECINFO_MASK",
    "TCS",
    "TRIM",
    "TYPE",
    "Epc",
    "PageFaultCode",
    "VaPage",
    "access_of",
    "entry_epoch",
]

# An EPCM entry is an integer: SECINFO.FLAGS as they are (R, W, X, PENDING, MODIFIED, PR and the
# page type in bits 15:8), BLOCKED above them, and from bit 32 on the enclave's epoch in which
# the entry was last blocked, restricted or retyped. An absent entry is VALID = 0.
PERMISSIONS = int(SecInfoFlags.R | SecInfoFlags.W | SecInfoFlags.X)
PENDING = int(SecInfoFlags.PENDING)
MODIFIED = int(SecInfoFlags.MODIFIED)
PR = int(SecInfoFlags.PR)
TYPE = 0xFF00
REG = PageType.REG << 8
TCS = PageType.TCS << 8
TRIM = PageType.TRIM << 8
BLOCKED = 1 << 16
SECINFO_MASK = 0xFFFF
EPOCH_SHIFT = 32


def entry_epoch(entry: int) -> int:
    """Return the epoch in which an EPCM entry was last blocked, restricted or retyped."""
    return entry >> EPOCH_SHIFT


class PageFaultCode:
    """Bits of a page fault's error code (SDM vol. 3A, 4.7)."""

    P = 1 << 0
    W = 1 << 1
    U = 1 << 2
    I = 1 << 4  # noqa: E741  # the manual's letter
    SGX = 1 << 15


def access_of(error_code: int) -> int:
    """Return the access (1 read, 2 write, 4 execute) that a page fault's error code tells of."""
    if error_code & PageFaultCode.W:
        return 2
    return 4 if error_code & PageFaultCode.I else 1


class Epc:
    """The sections of EPC and a count of the pages in use; whoever changes it holds the lock."""

    def __init__(self, sections: tuple[EpcSection, ...]) -> None:
        self.sections = sections
        self.pages = sum(section.size for section in sections) // PAGE_SIZE
        self.used = 0
        self.peak = 0

    @property
    def free(self) -> int:
        """The pages that nobody uses."""
        return self.pages - self.used

    def take(self, count: int) -> None:
        """Put pages in use. Raises Fault #PF where there are not as many: none to name in RCX."""
        if count > self.pages - self.used:
            raise Fault(Vector.PF, f"no {count} EPC pages are free of {self.pages}")
        self.used += count
        self.peak = max(self.peak, self.used)

    def give(self, count: int) -> None:
        """Take pages out of use."""
        self.used -= count


class VaPage:
    """A version array: 512 slots that hold the versions of evicted pages, 0 where empty."""

    __slots__ = ("slots", "valid")

    def __init__(self) -> None:
        self.slots = [0] * VA_SLOTS
        self.valid = True
