# SPDX-License-Identifier: Apache-2.0
"""Where an enclave's threads run: this process, or another one for which this one is the processor.

Page tables, TCS states and the interruption of threads belong to a process; the EPCM, keys and
paging do not. What the processor needs of the former is here, and nothing else of a process.
"""

from collections.abc import Callable
from typing import Protocol

from ensconce import _core
from ensconce._core import Frame
from ensconce.isa.secs import Secs

__all__ = ["OWN_PROCESS", "AddressSpace", "Core", "EnclaveMemory"]

_Leaf = Callable[[Frame], tuple[int, int, int] | None]
_Fault = Callable[[int, int, int], bool | int]


class EnclaveMemory(Protocol):
    """The memory of one enclave; as `ensconce._core.Memory`."""

    @property
    def fd(self) -> int:
        """The memory file."""

    def protect(self, offset: int, length: int, protection: int, /) -> None:
        """Set what the enclave may do with its pages."""

    def alias_view(self, offset: int, length: int, /) -> memoryview:
        """Return bytes as the processor has them."""

    def discard(self, offset: int, length: int, /) -> None:
        """Give pages back to the host; they read as zero."""

    def close(self) -> None:
        """Free the memory."""


class Core(Protocol):
    """What runs an enclave's threads; as `ensconce._core.Enclave`."""

    @property
    def epoch(self) -> int:
        """The present epoch."""

    def set_tcs(
        self,
        offset: int,
        /,
        *,
        flags: int,
        ossa: int,
        nssa: int,
        cssa: int,
        oentry: int,
        ofsbase: int,
        ogsbase: int,
    ) -> None:
        """Add a TCS, or replace one that is idle."""

    def block_tcs(self, offset: int, blocked: bool, /) -> None:  # noqa: FBT001
        """Make entries by a TCS raise #PF, or not."""

    def remove_tcs(self, offset: int, /) -> None:
        """Forget an idle TCS."""

    def tcs(self, offset: int, /) -> tuple[int, bool, int]:
        """Return CSSA, whether a thread uses the TCS, and the epoch of its last entry."""

    def set_cssa(self, offset: int, cssa: int, /) -> None:
        """Set the current SSA frame of a TCS."""

    def advance_epoch(self) -> int:
        """Start a new epoch and return its number."""

    def inside_before(self, epoch: int, /) -> int:
        """Count threads that run in the enclave since before an epoch."""

    def kick(self) -> None:
        """Force an AEX in every thread that runs in the enclave."""

    def enable(self, on: bool, /) -> None:  # noqa: FBT001
        """Allow entries, or make them raise #GP."""

    def close(self) -> None:
        """Forget the enclave."""


class AddressSpace(Protocol):
    """The process whose threads enter enclaves."""

    def reserve(self, size: int) -> int:
        """Reserve `size` bytes, a power of two, naturally aligned; return the base."""

    def release(self, base: int, size: int) -> None:
        """Give a reservation back."""

    def open(self, secs: Secs, leaf: _Leaf, fault: _Fault) -> tuple[EnclaveMemory, Core]:
        """Make the memory of a new enclave in its reservation, and what runs its threads."""


class _OwnProcess:
    """This process."""

    def reserve(self, size: int) -> int:
        """Reserve an ELRANGE; see `AddressSpace`."""
        return _core.reserve(size)

    def release(self, base: int, size: int) -> None:
        """Give a reservation back; see `AddressSpace`."""
        _core.release(base, size)

    def open(self, secs: Secs, leaf: _Leaf, fault: _Fault) -> tuple[EnclaveMemory, Core]:
        """Make memory and core; see `AddressSpace`."""
        memory = _core.Memory(secs.base_addr, secs.size)
        core = _core.Enclave(
            memory,
            secs.ssa_frame_size,
            int(secs.misc_select),
            int(secs.attributes.flags),
            int(secs.attributes.xfrm),
            leaf,
            fault,
        )
        return memory, core


OWN_PROCESS: AddressSpace = _OwnProcess()
