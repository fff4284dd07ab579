# SPDX-License-Identifier: Apache-2.0
"""What this runtime remembers of each container: a folder of its own under the root folder."""

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ensconce.errors import ConfigError
from ensconce.node.processes import Process

__all__ = [
    "Record",
    "all_ids",
    "default_root",
    "describe",
    "folder_of",
    "load",
    "locked",
    "remove",
    "save",
    "start_time",
]

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")


@dataclass(slots=True)
class Record:
    """A container: `pod` is the id of the one whose process holds the machine."""

    id: str
    pod: str
    stream: int
    pid: int
    pid_start: int  # of that process, in ticks since the host's start: pids come again
    bundle: str
    created: str
    terminal: bool = False
    started: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
    cgroups: list[str] = field(default_factory=list)
    hooks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The status as the OCI runtime specification names it."""
        if self.pid <= 0 or start_time(self.pid) != self.pid_start:
            return "stopped"
        return "running" if self.started else "created"


def default_root() -> Path:
    """Return the folder of the containers' state: the machine's for root, else the user's."""
    if os.geteuid() == 0:
        return Path("/run/ensconce-runv")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/{os.geteuid()}") / "ensconce-runv"  # noqa: S108


def describe(record: Record) -> dict[str, Any]:
    """Return the state as the OCI runtime specification has it."""
    status = record.status
    return {
        "ociVersion": "1.0.2",
        "id": record.id,
        "status": status,
        "pid": 0 if status == "stopped" else record.pid,
        "bundle": record.bundle,
        "created": record.created,
        "annotations": record.annotations,
    }


def start_time(pid: int) -> int:
    """Return when a process was started, 0 where it is no more (or a zombie)."""
    found = Process.of(pid)
    return 0 if found is None else found.start


def folder_of(root: Path, name: str) -> Path:
    """Return a container's folder; raises ConfigError for what is no id."""
    if not _ID.fullmatch(name):
        raise ConfigError(f"container id {name!r} is not allowed; use letters, digits and _+-.")
    return root / name


def load(root: Path, name: str) -> Record:
    """Return what is remembered of a container; raises ConfigError where nothing is."""
    try:
        data = json.loads((folder_of(root, name) / "state.json").read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"container {name!r} does not exist") from None
    return Record(**data)


def save(root: Path, record: Record) -> None:
    """Remember a container, in one step."""
    folder = folder_of(root, record.id)
    made = folder / f".state.{os.getpid()}"
    made.write_text(json.dumps(asdict(record)))
    made.rename(folder / "state.json")


def remove(root: Path, name: str) -> None:
    """Forget a container."""
    shutil.rmtree(folder_of(root, name), ignore_errors=True)


def all_ids(root: Path) -> list[str]:
    """Return the ids of all containers."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(each.name for each in root.iterdir() if (each / "state.json").exists())
    return []


@contextlib.contextmanager
def locked(root: Path, name: str) -> Iterator[None]:
    """Keep other commands from changing the container meanwhile."""
    folder = folder_of(root, name)
    if not folder.is_dir():
        raise ConfigError(f"container {name!r} does not exist")
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a child may have a copy of the descriptor
        os.close(file)
