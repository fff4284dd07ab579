# SPDX-License-Identifier: Apache-2.0
"""Clusters come and go whole."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.harness import lifecycle
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster, Options, state_folder
from tests.cluster.harness.namespace import fresh_namespace, wait_until

NAME = "passing"


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    if os.geteuid():
        pytest.skip("a cluster takes root")
    yield
    lifecycle.down(NAME)


def traces() -> list[str]:
    """Return all that the machine shows of this cluster, outside of it."""
    links = subprocess.check_output(["ip", "-o", "link"], text=True).splitlines()
    processes = [
        path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists()
    ]
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/ensconce/{NAME}")]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    files = [str(path) for path in state_folder().glob(NAME)]
    shown = [*links, *processes, *mounts]
    marks = (f"ens-{NAME}", f"clusters/{NAME}")
    return [each for each in shown if any(mark in each for mark in marks)] + groups + files


def test_a_cluster_leaves_nothing_when_it_goes() -> None:
    settings = kernel_settings()
    lifecycle.up(NAME, Options())
    assert traces()
    assert lifecycle.down(NAME)
    assert traces() == []
    assert kernel_settings() == settings


def kernel_settings() -> dict[str, str]:
    names = ("kernel.panic", "kernel.panic_on_oops", "vm.overcommit_memory", "net.ipv4.ip_forward")
    paths = {name: Path("/proc/sys", *name.split(".")) for name in names}
    return {name: path.read_text() for name, path in paths.items()}


def test_a_harness_that_is_killed_leaves_what_the_next_can_replace() -> None:
    command = [sys.executable, "-m", "tests.cluster", "--name", NAME, "up"]
    with subprocess.Popen(command) as harness:
        api_server = state_folder() / NAME / "node1/kube-apiserver.pid"
        wait_until(api_server.exists, "the API server is started")
        harness.send_signal(signal.SIGKILL)
    left = Cluster.load(NAME)
    assert left
    assert not all(lifecycle.status(left).values())
    assert all(lifecycle.status(lifecycle.up(NAME, Options())).values())


def test_a_cluster_of_two_nodes_lets_their_pods_meet() -> None:
    cluster = lifecycle.up(NAME, Options(nodes=2))
    with fresh_namespace(cluster, "meeting") as namespace:
        serve = "echo found > /tmp/index.html && exec httpd -f -p 8080 -h /tmp"
        namespace.pod("server", ["sh", "-c", serve], nodeName="node1")
        namespace.kubectl("expose", "pod", "server", "--port=80", "--target-port=8080")
        get = "until wget -q -O - http://server.meeting.svc.cluster.local; do sleep 1; done"
        namespace.pod("client", ["sh", "-c", get], nodeName="node2")
        namespace.until_phase("client", "Succeeded")


def test_a_component_that_ends_is_quoted() -> None:
    with pytest.raises(HarnessError, match=r"kubelet of node1 has ended; its log ends:\n.*maxPods"):
        lifecycle.up(NAME, Options(kubelet={"maxPods": -1}))


@pytest.mark.parametrize("name", ["", "../x", "Main", "ninechars", "1st"])
def test_a_cluster_needs_a_short_plain_name(name: str) -> None:
    with pytest.raises(HarnessError, match="must be a small letter"):
        lifecycle.up(name, Options())
