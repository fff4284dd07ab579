# SPDX-License-Identifier: Apache-2.0
"""The devices that a kubelet counts: their IDs, their NUMA nodes, and which to take together."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ensconce.kube.deviceplugin import v1beta1_pb2 as api
from ensconce.kube.deviceplugin.visible import runs

__all__ = ["DeviceList", "Extent", "prefer"]

HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"
_CHUNK = 2048  # devices made into objects at a time


@dataclass(frozen=True, slots=True)
class Extent:
    """The devices up to `end` (not included) from the extent before, and their NUMA node."""

    end: int
    node: int | None


@dataclass(frozen=True, slots=True)
class DeviceList:
    """`count` devices named `prefix` and a number; `extents` say where each lies, if anywhere."""

    count: int
    prefix: str = ""
    extents: tuple[Extent, ...] = ()

    @property
    def has_topology(self) -> bool:
        """Whether there is more than one place to be."""
        return len({extent.node for extent in self.extents}) > 1

    def name(self, index: int) -> str:
        """Return a device's ID."""
        return f"{self.prefix}{index}"

    def index(self, name: str) -> int | None:
        """Return the number of the device with an ID, None where there is none."""
        digits = name.removeprefix(self.prefix)
        if not (name.startswith(self.prefix) and digits.isascii() and digits.isdigit()):
            return None
        index = int(digits) if len(digits) <= len(str(self.count)) else self.count
        return index if index < self.count and self.name(index) == name else None

    def node(self, index: int) -> int | None:
        """Return the NUMA node that a device lies on, None where nothing says."""
        place = bisect_right(self.extents, index, key=lambda extent: extent.end)
        return self.extents[place].node if place < len(self.extents) else None

    def message(self, *, healthy: bool, ill: Collection[int] = ()) -> bytes:
        """Return a serialised ListAndWatchResponse; devices in `ill` are unhealthy at all events.

        Messages that are put one after the other are one message with all their devices, so no
        more than a chunk of them is ever objects.
        """
        return b"".join(
            api.ListAndWatchResponse(
                devices=[
                    self._device(index, healthy=healthy and index not in ill)
                    for index in range(start, min(start + _CHUNK, self.count))
                ]
            ).SerializeToString()
            for start in range(0, self.count, _CHUNK)
        )

    def _device(self, index: int, *, healthy: bool) -> api.Device:
        """Return one device as the kubelet wants it."""
        node = self.node(index) if self.has_topology else None
        topology = None if node is None else api.TopologyInfo(nodes=[api.NUMANode(ID=node)])
        return api.Device(
            ID=self.name(index), health=HEALTHY if healthy else UNHEALTHY, topology=topology
        )


def prefer(
    devices: DeviceList, available: Iterable[int], needed: Iterable[int], size: int
) -> list[int]:
    """Return `size` of the available devices (fewer where there are not as many), `needed` first.

    One NUMA node is better than two: of those that have enough, the one with the least left; else
    those with the most first. On a node, consecutive devices are better than scattered ones: the
    smallest run that is long enough, else the longest runs.
    """
    chosen = list(dict.fromkeys(needed))
    free: dict[int | None, list[int]] = defaultdict(list)
    for index in set(available).difference(chosen):
        free[devices.node(index)].append(index)
    at_home = {devices.node(index) for index in chosen}
    while free and len(chosen) < size:
        wanted = size - len(chosen)
        node = min(free, key=lambda node: _rank(len(free[node]), wanted, home=node in at_home))
        chosen += _take(free.pop(node), wanted)
    return chosen


def _rank(free: int, wanted: int, *, home: bool) -> tuple[bool, bool, int]:
    """Return what orders places, best first."""
    return (not home, free < wanted, free if free >= wanted else -free)


def _take(free: Sequence[int], wanted: int) -> list[int]:
    """Return at most `wanted` of one node's devices, in as few runs as can be."""
    pieces = sorted(runs(free), key=lambda run: run[1] - run[0])  # the longest is last
    taken: list[int] = []
    while pieces and len(taken) < wanted:
        left = wanted - len(taken)
        first, last = pieces[-1]
        if last - first + 1 >= left:
            first, last = next(run for run in pieces if run[1] - run[0] + 1 >= left)
            return taken + list(range(first, first + left))
        pieces.pop()
        taken += range(first, last + 1)
    return taken
