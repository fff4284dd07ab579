# SPDX-License-Identifier: Apache-2.0
"""The records of workloads, pods and events, each written whole or not at all.

One writer a record: the command line writes workloads, the keeper writes pods. A record that can't
be read is left where it is and told of, never taken for an absent one.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ensconce.errors import FormatError
from ensconce.node.places import Places

__all__ = ["Record", "Store", "write_whole"]

Record = dict[str, Any]

_MOST = 4 << 20
_MOST_EVENTS = 1 << 20


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file's bytes so that a reader, or a reboot, meets the old or the new."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Store:
    """The records in a state folder."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def workloads(self) -> list[Record]:
        """Return all workloads, the oldest first. Raises FormatError."""
        return sorted(_all(self._places.workloads), key=lambda one: (one["made"], one["uid"]))

    def pods(self) -> list[Record]:
        """Return all pods, the oldest first. Raises FormatError."""
        return sorted(_all(self._places.pods), key=lambda one: (one["made"], one["uid"]))

    def save_workload(self, workload: Record) -> None:
        """Write a workload."""
        write_whole(self._places.workloads / f"{workload['uid']}.json", _encode(workload))

    def save_pod(self, pod: Record) -> None:
        """Write a pod."""
        write_whole(self._places.pods / f"{pod['uid']}.json", _encode(pod))

    def drop_workload(self, workload: Record) -> None:
        """Forget a workload."""
        (self._places.workloads / f"{workload['uid']}.json").unlink(missing_ok=True)

    def drop_pod(self, pod: Record) -> None:
        """Forget a pod."""
        (self._places.pods / f"{pod['uid']}.json").unlink(missing_ok=True)

    def tell(self, subject: str, reason: str, message: str) -> None:
        """Note an event; the oldest are dropped with the file before the last."""
        path = self._places.events
        with contextlib.suppress(OSError):
            if path.stat().st_size > _MOST_EVENTS:
                path.replace(path.with_suffix(".old"))
        event = {"time": time.time(), "object": subject, "reason": reason, "message": message}
        with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(json.dumps(event).encode() + b"\n")

    def events(self) -> Iterator[Record]:
        """Yield events, the oldest first; a line that a crash cut is passed over."""
        for path in (self._places.events.with_suffix(".old"), self._places.events):
            with contextlib.suppress(FileNotFoundError):
                for line in path.read_bytes().splitlines():
                    with contextlib.suppress(ValueError):
                        yield json.loads(line)


def _encode(record: Record) -> bytes:
    return json.dumps(record, indent=1).encode()


def _all(folder: Path) -> Iterator[Record]:
    """Yield a folder's records."""
    for path in folder.glob("*.json"):
        try:
            with path.open("rb") as file:
                record = json.loads(file.read(_MOST))
            if not isinstance(record, dict) or record.get("uid") != path.stem:
                raise ValueError("it is not the record that its name says")
        except FileNotFoundError:
            continue  # gone since the folder was listed
        except ValueError as error:
            raise FormatError(
                f"{path} is damaged ({error}); move it away, and `ensconce run` the manifest again",
                source=str(path),
            ) from error
        yield record
