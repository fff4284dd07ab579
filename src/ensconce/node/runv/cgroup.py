# SPDX-License-Identifier: Apache-2.0
"""The host's control groups of a container: its machine is held in them from outside."""

import contextlib
import os
import time
from pathlib import Path

from ensconce.errors import DeviceError
from ensconce.node.runv.limits import Limits, weight

__all__ = ["enter", "kill_all", "paths", "remove"]

_ROOT = Path("/sys/fs/cgroup")
_OVERHEAD = 224 << 20  # QEMU with its code cache, virtiofsd and the pod's process
_SHIM = 64 << 20  # the process that stands for a further container
_PIDS = 64  # threads of these


def paths(wanted: str) -> list[str]:
    """Return the folders of a cgroupsPath: one for each hierarchy."""
    path = _systemd(wanted) if wanted.count(":") == 2 else wanted.lstrip("/")
    if ".." in path.split("/"):
        raise DeviceError(f"linux.cgroupsPath {wanted!r} leads outside")
    return [str(_ROOT / each / path) for each in _hierarchies()]


def _hierarchies() -> list[str]:
    """Return the hierarchies that hold limits: one of version 2, or some of version 1."""
    if (_ROOT / "cgroup.controllers").exists():
        return [""]
    names = ("memory", "pids", "cpu", "cpuset", "freezer")
    return [each for each in names if (_ROOT / each).is_dir()]


def _systemd(wanted: str) -> str:
    """Return the folder for slice:prefix:name."""
    slice_, prefix, name = wanted.split(":")
    parts = (slice_ or "system.slice").removesuffix(".slice").split("-")
    folders = ["-".join(parts[: count + 1]) + ".slice" for count in range(len(parts))]
    return "/".join([*folders, f"{prefix}-{name}.scope"])


def enter(folders: list[str], limits: Limits, machine: int | None) -> None:
    """Put this process into the groups; `machine` is the guest's memory, None for a shim alone."""
    memory = limits.memory and (machine + _OVERHEAD if machine else _SHIM)
    pids = limits.pids and limits.pids + _PIDS
    for each in folders:
        folder = Path(each)
        try:
            _make(folder)
            if (_ROOT / "cgroup.controllers").exists():
                _set_unified(folder, limits, memory, pids)
            else:
                _set(folder, limits, memory, pids)
            (folder / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as error:
            raise DeviceError(f"{each} can't be used: {error.strerror}") from error


def _make(folder: Path) -> None:
    """Make a group and its parents, with the controllers of version 2 on."""
    for part in [*reversed(folder.parents), folder]:
        if part == _ROOT or _ROOT not in part.parents or part.is_dir():
            continue
        part.mkdir()
        parent = part.parent
        if (parent / "cgroup.subtree_control").exists():
            for name in ("memory", "pids", "cpu", "cpuset"):
                with contextlib.suppress(OSError):
                    (parent / "cgroup.subtree_control").write_text(f"+{name}")
        for name in ("cpuset.cpus", "cpuset.mems"):
            file = part / name
            if file.exists() and not file.read_text().strip():
                with contextlib.suppress(OSError):
                    file.write_text((parent / name).read_text())


def _set(folder: Path, limits: Limits, memory: int | None, pids: int | None) -> None:
    """Set the limits that a hierarchy of version 1 holds."""
    swap = None if limits.swap is None or not memory else memory + limits.swap
    values = {
        "memory.limit_in_bytes": memory,
        "memory.memsw.limit_in_bytes": swap,
        "pids.max": pids,
        "cpu.cfs_period_us": limits.cpu_quota and limits.cpu_period,
        "cpu.cfs_quota_us": limits.cpu_quota,
        "cpu.shares": limits.cpu_shares,
        "cpuset.cpus": limits.cpus,
        "cpuset.mems": limits.mems,
    }
    for name, value in values.items():
        if value and (folder / name).exists():
            (folder / name).write_text(str(value))


def _set_unified(folder: Path, limits: Limits, memory: int | None, pids: int | None) -> None:
    """Set the limits in version 2."""
    quota = limits.cpu_quota and f"{limits.cpu_quota} {limits.cpu_period}"
    values = {
        "memory.max": memory,
        "pids.max": pids,
        "cpu.max": quota,
        "cpu.weight": limits.cpu_shares and weight(limits.cpu_shares),
        "cpuset.cpus": limits.cpus,
        "cpuset.mems": limits.mems,
    }
    for name, value in values.items():
        if value:
            (folder / name).write_text(str(value))
    swap = folder / "memory.swap.max"  # absent where the host's kernel can't swap
    if limits.swap is not None and swap.exists():
        swap.write_text(str(limits.swap))


def kill_all(folders: list[str]) -> None:
    """Kill whatever is in the groups."""
    for each in folders:
        with contextlib.suppress(OSError):
            for pid in (Path(each) / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), 9)


def remove(folders: list[str]) -> None:
    """Remove the groups, whose processes have ended or end now."""
    end = time.monotonic() + 2
    for each in folders:
        while Path(each).is_dir():
            try:
                Path(each).rmdir()
            except OSError:
                if time.monotonic() > end:
                    break
                time.sleep(0.01)
