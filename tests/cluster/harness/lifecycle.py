# SPDX-License-Identifier: Apache-2.0
"""Bring a cluster up, take it down, and act on one that is up."""

import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.cluster.harness import components, configuration, images, namespaces
from tests.cluster.harness.build import build
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster, Node, Options, check_name, state_folder

__all__ = ["down", "kubectl", "load_image", "restart", "running", "status", "up"]

NEEDED = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/bin/busybox": "busybox-static",
}


def up(name: str, options: Options) -> Cluster:
    """Bring the cluster up, or adopt one that is up with the same options.

    Raises HarnessError, with the end of the guilty component's log, where it doesn't become ready.
    """
    check_name(name)
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        raise HarnessError(f"the cluster needs Debian's packages: apt install {' '.join(missing)}")
    programs = build()
    with _locked(f".{name}.lock"):
        found = Cluster.load(name)
        if found and found.options == options and all(status(found).values()):
            return found
        if found:
            _remove(found)
        with _locked(".lock"):
            cluster = Cluster(name, _free_index(), options)
            _record(cluster)
        _start(cluster, programs)
    return cluster


def down(name: str) -> bool:
    """Take the cluster down and remove all it made; tell whether there was one."""
    check_name(name)
    with _locked(f".{name}.lock"):
        cluster = Cluster.load(name)
        if cluster:
            _remove(cluster)
    return cluster is not None


def running(name: str) -> Cluster:
    """Return the cluster of this name, which must be up."""
    cluster = Cluster.load(name)
    if cluster is None:
        raise HarnessError(f"there is no cluster {name!r}; make cluster NAME={name}")
    return cluster


def status(cluster: Cluster) -> dict[str, bool]:
    """Return, for each component as `<node>/<name>`, whether it runs."""
    return {
        f"{node.name}/{name}": components.alive(node, name)
        for node in cluster.nodes
        for name in components.names(node)
    }


def restart(node: Node, name: str, signal: str = "TERM") -> None:
    """End a component, by `signal`, and start it again."""
    components.stop(node, name, signal)
    components.start(node, name, build())


def load_image(cluster: Cluster, data: bytes, node: Node | None = None) -> list[str]:
    """Import an OCI or docker archive on one node or on all; return the images' names."""
    said = []
    for each in [node] if node else cluster.nodes:
        command = ["ctr", "--namespace", "k8s.io", "image", "import", "-"]
        done = subprocess.run(namespaces.enter(each, command), input=data, capture_output=True)
        if done.returncode:
            raise HarnessError(f"the image can't be imported: {done.stderr.decode().strip()}")
        said += [line.split()[1] for line in done.stdout.decode().splitlines() if line.split()[1:]]
    return sorted(set(said))


def kubectl(cluster: Cluster, *arguments: str, content: str | None = None) -> str:
    """Run kubectl as the cluster's administrator and return what it prints."""
    command = [str(build() / "kubectl"), "--kubeconfig", str(cluster.kubeconfig), *arguments]
    # a proxy for the package registries knows no way to the cluster
    direct = {name: v for name, v in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, input=content, capture_output=True, text=True, env=direct)
    if done.returncode:
        raise HarnessError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _start(cluster: Cluster, programs: Path) -> None:
    configuration.write_cluster(cluster)
    namespaces.make_bridge(cluster)
    for node in cluster.nodes:
        node.folder.mkdir()
        configuration.write_node(node)
        namespaces.make(node, [cluster.folder, programs])
        components.start(node, "containerd", programs)
    first = cluster.nodes[0]
    for name in ("etcd", "kube-apiserver"):
        components.start(first, name, programs)
    _wait(cluster, "kube-apiserver", lambda: kubectl(cluster, "get", "--raw=/readyz") == "ok")
    for node in cluster.nodes:
        _wait(cluster, "containerd", partial(_has_images, cluster, node), node)
        for name in components.names(node):
            if name not in ("containerd", "etcd", "kube-apiserver"):
                components.start(node, name, programs)
    objects = (cluster.folder / configuration.DNS_OBJECTS).read_text()
    kubectl(cluster, "apply", "--filename=-", content=objects)
    for node in cluster.nodes:
        _wait(cluster, "kubelet", partial(_is_ready, cluster, node), node)
    account = ("get", "serviceaccount", "default", "--namespace=default", "--output=name")
    _wait(cluster, "kube-controller-manager", lambda: bool(kubectl(cluster, *account)))


def _has_images(cluster: Cluster, node: Node) -> bool:
    return bool(load_image(cluster, images.archive(), node))


def _is_ready(cluster: Cluster, node: Node) -> bool:
    path = "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return kubectl(cluster, "get", "node", node.name, path) == "True"


def _wait(cluster: Cluster, name: str, ready: Callable[[], bool], node: Node | None = None) -> None:
    """Wait until `ready`; a component that has ended, or two minutes, end the wait."""
    node = node or cluster.nodes[0]
    deadline = time.monotonic() + 120
    said = ""
    while True:
        try:
            if ready():
                return
        except HarnessError as error:
            said = str(error)
        ended = not components.alive(node, name)
        if ended or time.monotonic() > deadline:
            what = "has ended" if ended else f"isn't ready after two minutes ({said})"
            raise HarnessError(
                f"{name} of {node.name} {what}; its log ends:\n{components.last_lines(node, name)}"
            )
        time.sleep(0.1)


def _remove(cluster: Cluster) -> None:
    for node in cluster.nodes:
        namespaces.remove(node)
    namespaces.remove_bridge(cluster)
    shutil.rmtree(cluster.folder)


def _free_index() -> int:
    taken = {
        json.loads(path.read_text())["index"] for path in state_folder().glob("*/cluster.json")
    }
    return next(index for index in range(len(taken) + 1) if index not in taken)


def _record(cluster: Cluster) -> None:
    """Write what the next harness must know, before there is anything to remove."""
    cluster.folder.mkdir(mode=0o700, exist_ok=True)
    written = {"index": cluster.index, "options": dataclasses.asdict(cluster.options)}
    fresh = cluster.folder / "cluster.json.new"
    fresh.write_text(json.dumps(written))
    fresh.rename(cluster.folder / "cluster.json")


@contextmanager
def _locked(name: str) -> Iterator[None]:
    state_folder().mkdir(parents=True, exist_ok=True)
    with (state_folder() / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
