# SPDX-License-Identifier: Apache-2.0
"""The kernel's limit of EPC: the misc cgroup's resource `sgx_epc`, where kernel and mounts have it.

A pod's cgroup is found by its UID, under the names that the kubelet gives with either of its
drivers (cgroupfs, systemd), in the unified hierarchy and in the older one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ensconce.errors import DeviceError
from ensconce.kube.names import Platform

__all__ = ["MiscCgroup", "Rung", "rung"]

_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/misc", "sys/fs/cgroup/unified")
_NAME = "sgx_epc"
_UID = re.compile(r"[0-9A-Za-z-]{1,64}")
_CONTAINER = re.compile(r"[0-9a-f]{12,128}")
_PAGE = 4096


class Rung(StrEnum):
    """By what a container is held to its EPC, as the reason of a node's condition."""

    MISC_CGROUP = "MiscCgroup"
    EMULATED = "EmulatedLimit"
    ADMISSION = "AdmissionOnly"
    NONE = "NoSgx"


def rung(platform: Platform, cgroup: "MiscCgroup | None") -> Rung:
    """Return what is in force on a node."""
    if platform is Platform.NONE:
        return Rung.NONE
    if platform is Platform.EMULATED:
        return Rung.EMULATED
    return Rung.MISC_CGROUP if cgroup and cgroup.writable else Rung.ADMISSION


@dataclass(frozen=True, slots=True)
class MiscCgroup:
    """A misc cgroup hierarchy with EPC: its mount, and the EPC that it knows in bytes."""

    mount: Path
    capacity: int

    @classmethod
    def find(cls, root: Path = Path("/")) -> "MiscCgroup | None":
        """Return the hierarchy that counts EPC, None where none does."""
        for name in _MOUNTS:
            capacity = _figure(root / name / "misc.capacity")
            if capacity:
                return cls(root / name, capacity)
        return None

    @property
    def writable(self) -> bool:
        """Whether limits can be set: not where the hierarchy is mounted read-only."""
        place = next(iter(self._kubelets()), None)
        if place is None:
            return False
        limit = place / "misc.max"
        try:
            with limit.open("r+b"):
                return True
        except OSError:
            return False

    @property
    def used(self) -> int:
        """The bytes of EPC that are in use in all cgroups together."""
        whole = _figure(self.mount / "misc.current")
        if whole is not None:
            return whole
        return sum(_figure(path) or 0 for path in self.mount.glob("*/misc.current"))

    def limit(self, pod_uid: str, size: int, container: str = "") -> Path:
        """Hold a pod, or one container of it by its runtime's id, to `size` bytes.

        Returns the cgroup. Raises DeviceError where it is not there or the kernel refuses.
        """
        place = self.find_pod(pod_uid, container)
        limit = place / "misc.max"
        try:
            with limit.open("r+") as file:  # never made anew: it is the kernel's
                file.write(f"{_NAME} {size // _PAGE * _PAGE}\n")
        except OSError as error:
            raise DeviceError(
                f"{limit} can't be written: {error.strerror}; mount the cgroups read-write into "
                "the plugin's container, with the controller `misc` enabled",
                errno=error.errno or 0,
            ) from error
        return place

    def find_pod(self, pod_uid: str, container: str = "") -> Path:
        """Return the cgroup of a pod or of its container; DeviceError where there is none."""
        if not _UID.fullmatch(pod_uid) or (container and not _CONTAINER.fullmatch(container)):
            raise DeviceError(f"{pod_uid!r} with {container!r} names no pod's cgroup")
        for kubelets in self._kubelets():
            for folder in (kubelets, *_classes(kubelets)):
                for name in (f"pod{pod_uid}", f"*pod{pod_uid.replace('-', '_')}.slice"):
                    for place in folder.glob(name):
                        if not container:
                            return place
                        inside = [place / container, *place.glob(f"*-{container}.scope")]
                        if found := next((path for path in inside if path.is_dir()), None):
                            return found
        what = f"container {container} of pod {pod_uid}" if container else f"pod {pod_uid}"
        raise DeviceError(f"{self.mount} has no cgroup of {what}; it has ended, or not begun")

    def _kubelets(self) -> Iterable[Path]:
        """Yield the cgroups that the kubelet keeps pods in, wherever its own root is."""
        for pattern in ("kubepods", "kubepods.slice", "*/kubepods", "*/kubepods.slice"):
            yield from self.mount.glob(pattern)


def _classes(folder: Path) -> Iterable[Path]:
    """Yield the cgroups of the service classes under the kubelet's."""
    for name in ("burstable", "besteffort", "*-burstable.slice", "*-besteffort.slice"):
        yield from folder.glob(name)


def _figure(path: Path) -> int | None:
    """Return EPC's figure in one of the controller's files, None where it has none."""
    try:
        text = path.read_text("ascii")
    except (OSError, ValueError):
        return None
    for line in text.splitlines():
        name, _, figure = line.partition(" ")
        if name == _NAME and figure.strip().isdecimal():
            return int(figure)
    return None
