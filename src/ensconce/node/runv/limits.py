# SPDX-License-Identifier: Apache-2.0
"""A container's resource limits (linux.resources), as files of control groups version 2."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Limits", "read_limits"]

_PERIOD = 100_000  # microseconds; the kernel's default


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a container; None where there is none. Memory in bytes, times in microseconds."""

    memory: int | None = None
    memory_low: int | None = None
    swap: int | None = None  # of the host's for the machine; the guest has none
    pids: int | None = None
    cpu_quota: int | None = None
    cpu_period: int = _PERIOD
    cpu_shares: int | None = None
    cpus: str = ""
    mems: str = ""
    unified: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> Iterable[tuple[str, str]]:
        """Return names and values of the files that set the limits in the guest."""
        if self.memory is not None:
            yield "memory.max", str(self.memory)
        if self.memory_low is not None:
            yield "memory.low", str(self.memory_low)
        if self.pids is not None:
            yield "pids.max", str(self.pids)
        if self.cpu_quota is not None:
            yield "cpu.max", f"{self.cpu_quota} {self.cpu_period}"
        if self.cpu_shares is not None:
            yield "cpu.weight", str(weight(self.cpu_shares))
        yield from self.unified.items()


def weight(shares: int) -> int:
    """Return the weight of version 2 for shares of version 1, as runc converts them."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def read_limits(resources: Mapping[str, Any] | None) -> Limits:
    """Return the limits that linux.resources states; -1 and 0 are none."""
    resources = resources or {}
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    return Limits(
        memory=_positive(memory.get("limit")),
        memory_low=_positive(memory.get("reservation")),
        swap=_swap(memory),
        pids=_positive((resources.get("pids") or {}).get("limit")),
        cpu_quota=_positive(cpu.get("quota")),
        cpu_period=_positive(cpu.get("period")) or _PERIOD,
        cpu_shares=_positive(cpu.get("shares")),
        cpus=cpu.get("cpus") or "",
        mems=cpu.get("mems") or "",
        unified=dict(resources.get("unified") or {}),
    )


def _swap(memory: Mapping[str, Any]) -> int | None:
    """Return the swap in a limit of memory and swap together, as the specification has it."""
    both, limit = _positive(memory.get("swap")), _positive(memory.get("limit"))
    return both - limit if both and limit else None


def _positive(value: int | None) -> int | None:
    """Return a limit that is one."""
    return value if value is not None and value > 0 else None
