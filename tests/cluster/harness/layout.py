# SPDX-License-Identifier: Apache-2.0
"""What a cluster is called, where it keeps its files and which addresses are its own."""

import json
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.cluster.harness.failure import HarnessError

__all__ = ["Cluster", "Node", "Options", "check_name", "state_folder"]

MAX_CLUSTERS = 32
MAX_NODES = 8


def state_folder() -> Path:
    """Return the folder that holds a folder for each cluster."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "ensconce/clusters"


def check_name(name: str) -> None:
    """Refuse a name that can't be a part of a path and of a network interface's name."""
    if not re.fullmatch(r"[a-z][a-z0-9]{0,7}", name):
        raise HarnessError(
            f"the cluster's name {name!r} must be a small letter and up to seven more or digits"
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What `up` may be told; a cluster that is up with other options is made anew."""

    nodes: int = 1
    runtimes: dict[str, str] = field(default_factory=dict)  # RuntimeClass handler -> OCI runtime
    kubelet: dict[str, Any] = field(default_factory=dict)  # laid over the kubelet's configuration
    feature_gates: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Cluster:
    """One cluster; `index` chooses its addresses."""

    name: str
    index: int
    options: Options

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_CLUSTERS:
            raise HarnessError(f"there are {MAX_CLUSTERS} clusters already; take one down")
        if not 1 <= self.options.nodes <= MAX_NODES:
            raise HarnessError(f"a cluster has 1 to {MAX_NODES} nodes, not {self.options.nodes}")

    @classmethod
    def load(cls, name: str) -> "Cluster | None":
        """Read what an `up` wrote, or nothing where there was none."""
        check_name(name)
        try:
            written = json.loads((state_folder() / name / "cluster.json").read_text())
        except FileNotFoundError:
            return None
        return cls(name, written["index"], Options(**written["options"]))

    @property
    def folder(self) -> Path:
        return state_folder() / self.name

    @property
    def bridge(self) -> str:
        return f"ens-{self.name}"

    @property
    def gateway(self) -> str:
        return f"10.240.{self.index}.1"

    @property
    def services(self) -> str:
        return f"10.242.{self.index}.0/24"

    @property
    def api_address(self) -> str:
        return f"10.242.{self.index}.1"

    @property
    def dns(self) -> str:
        return f"10.242.{self.index}.10"

    @property
    def pods(self) -> str:
        return f"10.241.{self.index * MAX_NODES}.0/21"

    @property
    def server(self) -> str:
        return f"https://{self.nodes[0].address}:6443"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def certificates(self) -> Path:
        return self.folder / "certificates"

    @cached_property
    def nodes(self) -> "list[Node]":
        return [Node(self, number) for number in range(1, self.options.nodes + 1)]

    def node(self, name: str) -> "Node":
        """Return the node of this name."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise HarnessError(f"cluster {self.name} has no node {name!r}; it has {names}")


@dataclass(frozen=True)
class Node:
    """One node: its namespaces, its files and its addresses."""

    cluster: Cluster
    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> str:
        return f"10.240.{self.cluster.index}.{self.number + 1}"

    @property
    def pods(self) -> str:
        return f"10.241.{self.cluster.index * MAX_NODES + self.number - 1}.0/24"

    @property
    def link(self) -> str:
        return f"{self.cluster.bridge}-{self.number}"

    @property
    def folder(self) -> Path:
        return self.cluster.folder / self.name

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def cgroup(self) -> str:
        return f"ensconce/{self.cluster.name}/{self.name}"
