# SPDX-License-Identifier: Apache-2.0
"""The record of a cluster's creation: a private JSON file that is whole at any moment.

It holds settings, the steps that are done and the names of what was made, never credentials.
"""

import fcntl
import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ensconce.errors import ConfigError, FormatError

__all__ = [
    "Phase",
    "Record",
    "Records",
    "default_records",
    "remove_kubeconfig",
    "write_kubeconfig",
    "write_private",
]

_VERSION = 1
_MAX_SIZE = 1 << 20
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


class Phase(StrEnum):
    """Where a cluster stands between its plan and its end."""

    CREATING = "creating"
    READY = "ready"
    DELETING = "deleting"


@dataclass(slots=True)
class Record:
    """What is known of one cluster; `identity` marks as ours what was made elsewhere."""

    name: str
    provider: str
    settings: dict[str, Any]
    path: Path
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    phase: Phase = Phase.CREATING
    done: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def note(self, **facts: Any) -> None:
        """Keep facts, at once; None forgets one."""
        self.facts.update(facts)
        self.facts = {key: value for key, value in self.facts.items() if value is not None}
        self.save()

    def save(self) -> None:
        """Write the record whole."""
        content = {"version": _VERSION} | asdict(self)
        del content["path"]
        write_private(self.path, json.dumps(content, indent=2) + "\n")

    def forget(self) -> None:
        """Remove the record: the cluster is gone, or no longer ours to care for."""
        self.path.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replace a file in one act by one that only its owner reads, in a folder of the same kind."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def write_kubeconfig(record: Record, wanted: str | None, fetch: Callable[[], str]) -> Path:
    """Write a cluster's kubeconfig where nothing of the user's is; by default beside the record."""
    path = Path(wanted or record.path.with_suffix(".kubeconfig")).expanduser().absolute()
    if path.exists() and record.facts.get("kubeconfig") != str(path):
        raise ConfigError(f"{path} is there already; move it away, the kubeconfig goes there")
    content = fetch()
    record.note(kubeconfig=str(path))
    write_private(path, content)
    return path


def remove_kubeconfig(record: Record) -> str:
    """Remove the kubeconfig that the record says was written; return what came of it."""
    path = record.facts.get("kubeconfig")
    if path is None:
        return "there is none"
    Path(path).unlink(missing_ok=True)
    return f"{path} is gone"


@dataclass(frozen=True, slots=True)
class Records:
    """The folder of all records."""

    folder: Path

    @contextmanager
    def open(self, name: str) -> Iterator[Record | None]:
        """Hold a cluster's record, None where there is none, against other runs."""
        _check_name(name)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.folder / f".{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"cluster {name} is being worked on by another process; wait until it ends"
                ) from None
            yield self.find(name)
        finally:
            os.close(lock)

    def find(self, name: str) -> Record | None:
        """Read a cluster's record; None where there is none."""
        _check_name(name)
        path = self.folder / f"{name}.json"
        return _read(path) if path.exists() else None

    def begin(self, name: str, provider: str, settings: Mapping[str, Any]) -> Record:
        """Make a new record; nothing is written yet."""
        _check_name(name)
        return Record(name, provider, dict(settings), self.folder / f"{name}.json")

    def all(self) -> list[Record]:
        """Read every record, by name."""
        return [_read(path) for path in sorted(self.folder.glob("[a-z0-9]*.json"))]


def _check_name(name: str) -> None:
    """Refuse what would be no cluster's, node pool's and file's name alike."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} can't name a cluster; take up to 40 of a-z, 0-9 and -, no - at either end"
        )


def _read(path: Path) -> Record:
    """Read one record."""
    try:
        if path.stat().st_size > _MAX_SIZE:
            raise ValueError("it is too large")
        content = json.loads(path.read_text("utf-8"))
        if content.pop("version") != _VERSION:
            raise ValueError("another version of ensconce wrote it")
        record = Record(path=path, **content)
        record.phase = Phase(record.phase)
        kinds = {str: (record.name, record.provider, record.identity)}
        kinds |= {list: (record.done, record.undone), dict: (record.settings, record.facts)}  # type: ignore[dict-item]
        if not all(isinstance(value, kind) for kind, values in kinds.items() for value in values):
            raise TypeError("a field has the wrong type")
        if record.name != path.stem:
            raise ValueError(f"it is of cluster {record.name}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FormatError(
            f"{path} is no record of a cluster ({error}); restore it, or move it away and remove "
            "what it stood for by hand",
            source=str(path),
        ) from error
    return record


def default_records(environment: Mapping[str, str] = os.environ) -> Records:
    """Return the records under the user's state folder."""
    state = environment.get("XDG_STATE_HOME")
    folder = Path(state) if state else Path.home() / ".local" / "state"
    return Records(folder / "ensconce" / "clusters")
