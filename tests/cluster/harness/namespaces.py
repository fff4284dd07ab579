# SPDX-License-Identifier: Apache-2.0
"""A node's namespaces: mounts, network, processes and host name of its own.

The first process of the namespaces sleeps; when it dies the kernel ends all others, and with the
last of them go the mounts and the links. Nothing else of a node is on the host but its folder, its
cgroups and its port of the cluster's bridge.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster, Node

__all__ = [
    "DETACHED",
    "enter",
    "first_process",
    "inside",
    "make",
    "make_bridge",
    "remove",
    "remove_bridge",
]

CGROUPS = Path("/sys/fs/cgroup")
MOUNTS = Path(__file__).parent / "mounts.sh"

# Starts a process that outlives its caller, and prints its number.
DETACHED = 'setsid "$@" < /dev/null >> "$LOG" 2>&1 & echo $!'


def make(node: Node, keep: Sequence[Path]) -> None:
    """Make the namespaces of `node`; the folders `keep` stay what they are on the host."""
    node.logs.mkdir(parents=True, exist_ok=True)
    for group in _cgroups(node):
        (group / "system").mkdir(parents=True, exist_ok=True)
        _inherit_cpuset(group / "system")
    # ignoring SIGCHLD has the kernel reap what daemons leave behind
    idle = ["env", "--ignore-signal=CHLD", "sleep", "infinity"]
    isolated = ["unshare", "-m", "-n", "-p", "-u", "-i", "-f", "--mount-proc"]
    command = [*isolated, "--propagation=slave", *idle]
    log = node.logs / "namespaces.log"
    detached = ["env", f"LOG={log}", "sh", "-c", DETACHED, "sh", *command]
    outer = _checked(_in_cgroup(node, detached), f"the namespaces of {node.name}")
    pid = _child(int(outer), log)
    record = {"pid": pid, "started": _started(pid)}
    (node.folder / "namespaces.json").write_text(json.dumps(record))
    run = ["sh", str(MOUNTS), str(node.folder), node.name, *map(str, keep)]
    _checked(enter(node, run), f"the mounts of {node.name}")
    _connect(node, pid)


def enter(node: Node, command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` inside the namespaces of `node`."""
    pid = first_process(node)
    if pid is None:
        raise HarnessError(f"{node.name} of cluster {node.cluster.name} is not up")
    return _in_cgroup(node, ["nsenter", "-t", str(pid), "-m", "-n", "-p", "-u", "-i", *command])


def inside(node: Node, command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` inside `node`, in this folder.

    It gets SIGTERM when what runs it here ends, so a test can end it as any process of its own.
    """
    here = ["env", f"--chdir={Path.cwd()}"]
    return enter(node, ["setpriv", "--pdeathsig", "TERM", *here, *command])


def first_process(node: Node) -> int | None:
    """Return the pid of the namespaces' first process, or nothing where it has ended."""
    try:
        record = json.loads((node.folder / "namespaces.json").read_text())
        alive = _started(record["pid"]) == record["started"]
    except OSError:
        return None
    return int(record["pid"]) if alive else None


def remove(node: Node) -> None:
    """End every process of `node` and remove its cgroups."""
    pid = first_process(node)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    for group in _cgroups(node):
        for folder in [*sorted(_folders(group), reverse=True), group]:
            _remove_cgroup(folder, deadline)
    subprocess.run(["ip", "link", "delete", node.link], capture_output=True)


def _connect(node: Node, pid: int) -> None:
    cluster = node.cluster
    commands = [
        ["ip", "link", "add", node.link, "type", "veth", "peer", "eth0", "netns", str(pid)],
        ["ip", "link", "set", node.link, "master", cluster.bridge, "up"],
        enter(node, ["ip", "link", "set", "lo", "up"]),
        enter(node, ["ip", "address", "add", f"{node.address}/24", "dev", "eth0"]),
        enter(node, ["ip", "link", "set", "eth0", "up"]),
        # no packet leaves by this route: kube-proxy rewrites the address of every Service
        enter(node, ["ip", "route", "add", cluster.services, "dev", "eth0"]),
    ]
    for other in cluster.nodes:
        if other != node:
            route = ["ip", "route", "add", other.pods, "via", other.address]
            commands.append(enter(node, route))
    for command in commands:
        _checked(command, f"the network of {node.name}")


def make_bridge(cluster: Cluster) -> None:
    """Make the bridge that joins the nodes and the host, and the host's routes to the cluster."""
    first = cluster.nodes[0].address
    for command in (
        ["ip", "link", "add", cluster.bridge, "type", "bridge"],
        ["ip", "address", "add", f"{cluster.gateway}/24", "dev", cluster.bridge],
        ["ip", "link", "set", cluster.bridge, "up"],
        ["ip", "route", "add", cluster.services, "via", first],
        *(["ip", "route", "add", node.pods, "via", node.address] for node in cluster.nodes),
    ):
        _checked(command, f"the bridge {cluster.bridge}")


def remove_bridge(cluster: Cluster) -> None:
    """Remove the bridge; its routes go with it."""
    subprocess.run(["ip", "link", "delete", cluster.bridge], capture_output=True)
    for root in _controllers():
        for folder in (root / f"ensconce/{cluster.name}", root / "ensconce"):
            try:
                folder.rmdir()
            except OSError:
                break  # never made, or another cluster's


def _in_cgroup(node: Node, command: Sequence[str]) -> list[str]:
    """Run `command` in the node's cgroups, so that it outlives the caller's and is counted here."""
    files = [str(group / "system/cgroup.procs") for group in _cgroups(node)]
    move = " ".join(f"echo 0 > {file};" for file in files)
    return ["sh", "-c", f'{move} exec "$@"', "sh", *command]


def _controllers() -> list[Path]:
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _cgroups(node: Node) -> list[Path]:
    return [root / node.cgroup for root in _controllers()]


def _inherit_cpuset(group: Path) -> None:
    """Give a new cpuset, which is empty, its parent's processors and memory."""
    for folder in [*reversed(group.relative_to(CGROUPS).parents), group.relative_to(CGROUPS)]:
        for name in ("cpuset.cpus", "cpuset.mems"):
            file = CGROUPS / folder / name
            if file.exists() and not file.read_text().strip():
                file.write_text((file.parent.parent / name).read_text())


def _folders(group: Path) -> Iterator[Path]:
    for parent, folders, _ in os.walk(group):
        yield from (Path(parent) / folder for folder in folders)


def _remove_cgroup(folder: Path, deadline: float) -> None:
    while True:
        try:
            return folder.rmdir()
        except FileNotFoundError:
            return None
        except OSError as error:
            if time.monotonic() > deadline:
                raise HarnessError(f"{folder} can't be removed: {error.strerror}") from error
        _end_members(folder)
        time.sleep(0.05)


def _end_members(folder: Path) -> None:
    try:
        pids = (folder / "cgroup.procs").read_text().split()
    except OSError:
        return
    for pid in pids:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue


def _child(parent: int, log: Path) -> int:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            pid = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
            if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":  # the mounts are made by now
                return pid
        except (OSError, IndexError):
            pass
        time.sleep(0.02)
    raise HarnessError(f"a node's namespaces can't be made: {log.read_text().strip()}")


def _started(pid: int) -> int:
    """Return when `pid` started, in clock ticks since boot (proc(5), stat, field 22)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19])


def _checked(command: Sequence[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise HarnessError(f"{what} can't be made: {(done.stderr or done.stdout).strip()}")
    return done.stdout
