# SPDX-License-Identifier: Apache-2.0
"""What runs containers: Podman, or processes of our own. The seam between both and the keeper."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ensconce.node.manifest import Container

__all__ = ["Engine", "Launch", "Seen", "Status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A container to start: `name` tells it from every other, earlier attempts included.

    `mounts` are (host's path, container's path, read-only), `nodes` (host's, container's, rights).
    """

    name: str
    pod: str
    container: Container
    environment: dict[str, str]
    mounts: tuple[tuple[str, str, bool], ...]
    nodes: tuple[tuple[str, str, str], ...]
    log: Path
    host_network: bool
    sandbox: bool
    shared: bool


class Status:
    """How a container stands."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Seen:
    """A container as its engine has it: how it stands, and its exit code once it has one."""

    status: str
    pod: str
    exit_code: int = 0


class Engine(Protocol):
    """Runs containers. Its methods raise DeviceError with the engine's words, and OSError."""

    name: str

    def isolation(self) -> str:
        """Say in one sentence what keeps a container apart."""

    def has_image(self, image: str) -> bool:
        """Return whether an image is here."""

    def load(self, archive: Path) -> None:
        """Take the image in an archive over."""

    def look(self) -> dict[str, Seen]:
        """Return all containers that were started here and not removed."""

    def start(self, launch: Launch) -> None:
        """Start a container; nothing is left of one that could not be."""

    def stop(self, name: str, grace: float) -> None:
        """Ask a container to end, and end it after so many seconds."""

    def remove(self, name: str) -> None:
        """Remove a container, running or not; nothing if there is none."""

    def drop_pod(self, pod: str) -> None:
        """Remove what a pod's containers shared."""

    def log_lines(self, path: Path) -> "Sequence[str]":
        """Return the lines of a container's log, without what the engine adds."""

    def exec_command(self, name: str, command: Sequence[str], *, tty: bool) -> list[str]:
        """Return what runs a command in a container."""
