# SPDX-License-Identifier: Apache-2.0
"""What containers have been given of a node's emulated platform, as folders on the node.

    <folder>/allocations/<id>/service.sock   what the container sees of it, at its own mount
    <folder>/records/<id>.json               how much it may use, and for which devices
    <folder>/control.sock                    for the node's administrator: see `platform.control`

The device plugin writes records and the platform follows them, so either may end and come back at
any time. Both run as root; nobody else gets through `allocations`, so a socket in it is reached
only by the container that has its folder mounted.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ensconce.errors import ConfigError, FormatError
from ensconce.isa.secinfo import PAGE_SIZE

__all__ = ["SERVICE_NAME", "Allocation", "Allocations"]

SERVICE_NAME = "service.sock"

_ID = re.compile(r"[0-9a-f]{16}")
_MOST_RECORD = 1 << 22  # a tebibyte's worth of device names
_MOST_EPC = 1 << 50


@dataclass(frozen=True, slots=True)
class Allocation:
    """One container's share of the emulated EPC.

    `epc` is in bytes; None until it is known, and nothing is served until then. `resource` and
    `devices` are what the kubelet allocated it for. One that names another by `same` is that one
    under a second resource of the same container, and is served as that.
    """

    id: str
    epc: int | None
    resource: str = ""
    devices: tuple[str, ...] = ()
    same: str = ""

    @classmethod
    def parse(cls, name: str, data: bytes) -> "Allocation":
        """Read a record. Raises FormatError."""
        with contextlib.suppress(ValueError, RecursionError):
            fields = json.loads(data)
            if isinstance(fields, dict) and fields.keys() == {"epc", "resource", "devices", "same"}:
                devices, same = fields["devices"], fields["same"]
                if (
                    _ID.fullmatch(name)
                    and _is_size(fields["epc"])
                    and isinstance(fields["resource"], str)
                    and isinstance(devices, list)
                    and all(isinstance(each, str) for each in devices)
                    and isinstance(same, str)
                    and (not same or _ID.fullmatch(same))
                ):
                    return cls(name, fields["epc"], fields["resource"], tuple(devices), same)
        raise FormatError(
            f"the record of allocation {name!r} is damaged; remove it, and the pod that has it",
            source=name,
        )

    def __bytes__(self) -> bytes:
        fields = asdict(self)
        del fields["id"]
        return json.dumps(fields).encode()


class Allocations:
    """The allocations under a folder, which is made where it is missing. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sockets = folder / "allocations"
        self._records = folder / "records"

    def prepare(self) -> None:
        """Make the folders, for root only. Raises ConfigError where they are somebody else's."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        for place in (self._sockets, self._records):
            place.mkdir(mode=0o700, exist_ok=True)
            status = place.lstat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise ConfigError(
                    f"{place} must belong to this user and be closed to all others; chmod it to 700"
                )

    def mount(self, name: str) -> Path:
        """Return the folder that an allocation's container gets."""
        return self._sockets / name

    def socket(self, name: str) -> Path:
        """Return where an allocation is served."""
        return self.mount(name) / SERVICE_NAME

    @property
    def control(self) -> Path:
        """The control socket's path."""
        return self.folder / "control.sock"

    def add(self, epc: int | None, resource: str = "", devices: Sequence[str] = ()) -> Allocation:
        """Make an allocation; what an earlier one had of the same devices is gone with it."""
        if not _is_size(epc):
            raise ConfigError(f"an allocation of {epc} bytes of EPC can't be; give whole pages")
        self.prepare()
        taken = set(devices)
        for other in self.list():
            if other.resource == resource and taken.intersection(other.devices):
                self.remove(other.id)
        made = Allocation(secrets.token_hex(8), epc, resource, tuple(devices))
        self.mount(made.id).mkdir(mode=0o755)
        self.mount(made.id).chmod(0o755)  # whatever the umask
        self._write(made)
        return made

    def set_epc(self, name: str, epc: int | None) -> None:
        """Say how much an allocation may use, once that is known. Raises FormatError, OSError."""
        self._write(replace(self.read(name), epc=epc))

    def set_same(self, name: str, other: str) -> None:
        """Make an allocation another one's second name. Raises FormatError, OSError."""
        self._write(replace(self.read(name), epc=None, same=other))

    def read(self, name: str) -> Allocation:
        """Return an allocation. Raises FormatError, OSError."""
        with (self._records / f"{name}.json").open("rb") as file:
            return Allocation.parse(name, file.read(_MOST_RECORD))

    def list(self) -> list[Allocation]:
        """Return all allocations; damaged records are passed over."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self._records.glob("*.json")):
                with contextlib.suppress(FormatError, OSError):
                    found.append(self.read(path.stem))
        return found

    def age(self, name: str, now: float) -> float:
        """Return the seconds since an allocation was made. Raises OSError."""
        return now - self.mount(name).stat().st_ctime

    def remove(self, name: str) -> None:
        """End an allocation; the platform ends its enclaves when it sees that."""
        (self._records / f"{name}.json").unlink(missing_ok=True)
        shutil.rmtree(self.mount(name), ignore_errors=True)

    def _write(self, allocation: Allocation) -> None:
        """Write a record whole or not at all."""
        draft = self._records / f".{allocation.id}.{os.getpid()}"
        draft.write_bytes(bytes(allocation))
        draft.chmod(0o600)
        draft.rename(self._records / f"{allocation.id}.json")


def _is_size(epc: object) -> bool:
    """Return whether a value is None or so many bytes as an EPC can have."""
    return epc is None or (
        isinstance(epc, int)
        and not isinstance(epc, bool)
        and PAGE_SIZE <= epc <= _MOST_EPC
        and epc % PAGE_SIZE == 0
    )
