# SPDX-License-Identifier: Apache-2.0
"""Give containers of an emulated node their part of the platform, and take it back.

The kubelet never says that devices are free again. So an allocation ends when its devices are
given to another container, or when the kubelet's list of pods has nobody with them for a while.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import DeviceError, EnsconceError
from ensconce.kube.names import HOST_LIBRARIES, PLATFORM_FOLDER, STATE_FOLDER
from ensconce.platform.allocations import SERVICE_NAME, Allocations
from ensconce.platform.control import Standing, ask

__all__ = ["LIBRARY_FOLDER", "Grant", "Grants"]

LIBRARY_FOLDER = f"{STATE_FOLDER}/lib"  # on the host
_WAIT = "30"  # seconds that a program waits for a platform that is just starting again
_GRACE = 300.0  # until then a pod may not be in the kubelet's list yet

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a container gets: environment, and folders of the host by their path in it, read-only.

    An image that sets LD_LIBRARY_PATH has this one's instead; a pod that sets it keeps its own.
    """

    id: str
    environment: dict[str, str]
    mounts: dict[str, str]


class Grants:
    """The allocations of one node, from the device plugin's side.

    `host` is where the host has `allocations`' folder and `libraries`, as mounts name it.
    """

    def __init__(
        self,
        allocations: Allocations,
        *,
        host: Path = Path(PLATFORM_FOLDER),
        libraries: Path = Path(LIBRARY_FOLDER),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.allocations = allocations
        self._host = host
        self._libraries = libraries
        self._clock = clock

    def make(self, resource: str, devices: Sequence[str], epc: int | None) -> Grant:
        """Make an allocation of `epc` bytes (None: not known yet) and wait until it is served.

        Raises DeviceError where the platform has no room for it. A platform that is away is no
        reason to refuse a container: its programs wait.
        """
        made = self.allocations.add(epc, resource, devices)
        standing = self.look()
        if standing is not None and made.id not in standing.allocations:
            self.allocations.remove(made.id)
            raise _no_room(epc, standing)
        facts = {"id": made.id, "resource": resource, "epc": epc}
        _log.info("allocated", extra={"facts": facts})
        return Grant(
            made.id,
            {
                "ENSCONCE_SERVICE": f"{PLATFORM_FOLDER}/{SERVICE_NAME}",
                "ENSCONCE_SERVICE_WAIT": _WAIT,
                "LD_LIBRARY_PATH": HOST_LIBRARIES,
            },
            {
                PLATFORM_FOLDER: str(self._host / "allocations" / made.id),
                HOST_LIBRARIES: str(self._libraries),
            },
        )

    def pending(self, resource: str, devices: Collection[str]) -> str | None:
        """Return the allocation that waits for its size with these devices."""
        for each in self.allocations.list():
            same = each.resource == resource and set(each.devices) == set(devices)
            if same and each.epc is None and not each.same:
                return each.id
        return None

    def settle(self, name: str, epc: int) -> None:
        """Say how much an allocation may use. Raises DeviceError where there is not as much."""
        self.allocations.set_epc(name, epc)
        standing = self.look()
        use = standing.allocations.get(name) if standing else None
        if standing is not None and (use is None or use.epc != epc):
            self.allocations.set_epc(name, None)
            raise _no_room(epc, standing)

    def join(self, name: str, resource: str, devices: Collection[str]) -> bool:
        """Make an allocation the second name of that for a container's other devices, if any."""
        for each in self.allocations.list():
            if each.resource == resource and set(each.devices) == set(devices):
                self.allocations.set_same(name, each.id)
                self.look()
                return True
        return False

    def look(self) -> Standing | None:
        """Have the platform follow the records; None where it does not answer."""
        try:
            return ask(self.allocations.control)
        except (OSError, EnsconceError) as error:
            _log.info("platform does not answer", extra={"facts": {"fault": str(error)}})
            return None

    def retain(self, held: Collection[tuple[str, str]], *, grace: float = _GRACE) -> list[str]:
        """End allocations none of whose devices, as (resource, device), a pod holds.

        Those that are younger than `grace` seconds stay.
        """
        ended = []
        for each in self.allocations.list():
            if any((each.resource, device) in held for device in each.devices):
                continue
            with contextlib.suppress(OSError):
                if self.allocations.age(each.id, self._clock()) < grace:
                    continue
            self.allocations.remove(each.id)
            ended.append(each.id)
            _log.info("freed", extra={"facts": {"id": each.id, "resource": each.resource}})
        if ended:
            self.look()
        return ended


def _no_room(epc: int | None, standing: Standing) -> DeviceError:
    """Return why a container can't have its EPC."""
    taken = sum(use.epc for use in standing.allocations.values())
    return DeviceError(
        f"the emulated platform has {standing.epc} bytes of EPC, of which {taken} are given away, "
        f"so {epc} more do not fit; give it more, or wait until a pod has ended"
    )
