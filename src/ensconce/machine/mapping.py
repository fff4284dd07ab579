# SPDX-License-Identifier: Apache-2.0
"""What an enclave's threads may do with each page: what the page tables AND the EPCM allow.

Two sources, kept apart: system software writes the page-table entries, the processor the EPCM.
Their meet is put in force on the enclave's memory, where it changes.
"""

from typing import Protocol

from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.machine.epc import BLOCKED, MODIFIED, PENDING, PERMISSIONS, REG, TYPE, PageFaultCode
from ensconce.machine.runs import RunMap

__all__ = ["Mapping", "Protectable"]

_CLOSED = PENDING | MODIFIED | BLOCKED | TYPE


class Protectable(Protocol):
    """Memory whose protection can be set by byte offset and length."""

    def protect(self, offset: int, length: int, protection: int, /) -> None:
        """Set the protection (1 read, 2 write, 4 execute) of whole pages."""


class Mapping:
    """Page tables and EPCM of one enclave, by page number within ELRANGE.

    `table` holds the permission of each present page-table entry; `epcm` is the enclave's;
    `effective` is what is in force. Protections are 1 read, 2 write, 4 execute.
    """

    __slots__ = ("_memory", "effective", "epcm", "table")

    def __init__(self, memory: Protectable, epcm: RunMap) -> None:
        self._memory = memory
        self.epcm = epcm
        self.table = RunMap()
        self.effective = RunMap()

    def enter(self, first: int, end: int, permission: int | None) -> None:
        """Write page-table entries; None clears them."""
        self.table.put(first, end, permission)
        self.refresh(first, end)

    def refresh(self, first: int, end: int) -> None:
        """Put the meet of page tables and EPCM in force for a range of pages."""
        changes: list[list[int]] = []
        for start, stop, entry in self.epcm.spans(first, end):
            allowed = 0 if entry is None or entry & _CLOSED != REG else entry & PERMISSIONS
            if not allowed:
                self._wanted(start, stop, 0, changes)
                continue
            for low, high, permission in self.table.spans(start, stop):
                self._wanted(low, high, allowed & (permission or 0), changes)
        for start, stop, protection in changes:
            self._memory.protect(start * PAGE_SIZE, (stop - start) * PAGE_SIZE, protection)
            self.effective.put(start, stop, protection or None)

    def _wanted(self, first: int, end: int, protection: int, changes: list[list[int]]) -> None:
        """Note the parts of a range whose protection is not the one wanted."""
        for start, stop, now in self.effective.spans(first, end):
            if (now or 0) == protection:
                continue
            if changes and changes[-1][1] == start and changes[-1][2] == protection:
                changes[-1][1] = stop
            else:
                changes.append([start, stop, protection])

    def fault_code(self, page: int, access: int) -> int:
        """Return the error code of the page fault that an access (1, 2 or 4) to a page takes.

        The page tables are asked first; where they allow the access the EPCM has refused it,
        and the SGX bit says so.
        """
        code = PageFaultCode.U
        if access & 2:
            code |= PageFaultCode.W
        if access & 4:
            code |= PageFaultCode.I
        permission = self.table.get(page)
        if permission is None:
            return code
        code |= PageFaultCode.P
        if permission & access != access:
            return code
        return code | PageFaultCode.SGX
