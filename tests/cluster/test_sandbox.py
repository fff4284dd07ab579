# SPDX-License-Identifier: Apache-2.0
"""Pods in machines of their own, by the real kubelet and containerd."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.harness import lifecycle, namespaces
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster, Options
from tests.cluster.harness.namespace import Namespace
from tests.node.runv.bundles import missing

from ensconce.errors import EnsconceError
from ensconce.node.runv.kernel import prepare

NAME = "runv"
RUNTIME = Path(sys.executable).with_name("ensconce-runv")
CLASS = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": NAME},
    "handler": NAME,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Give a cluster of these tests' own, whose containerd knows the runtime."""
    if missing():
        pytest.skip(missing())
    try:
        prepare()  # a node shows what the machine's cache had when the node was made
    except EnsconceError as error:
        pytest.skip(str(error))
    found = Cluster.load(NAME)
    was_up = found is not None and all(lifecycle.status(found).values())
    made = lifecycle.up(NAME, Options(runtimes={NAME: str(RUNTIME)}))
    Namespace(made, "default").apply(CLASS)
    yield made
    if not was_up:
        lifecycle.down(NAME)


def machines(cluster: Cluster) -> int:
    look = namespaces.inside(cluster.nodes[0], ["pgrep", "--count", "--full", "^qemu-system"])
    return int(subprocess.run(look, capture_output=True, check=False).stdout)


def test_a_pod_runs_on_a_kernel_of_its_own_and_its_end_leaves_no_machine(
    namespace: Namespace,
) -> None:
    idle = "uname -r; exec sleep 1000"
    namespace.pod("idle", ["sh", "-c", idle], runtimeClassName=NAME)
    namespace.until_phase("idle", "Running", 90)
    release = namespace.kubectl("logs", "idle").strip()
    assert release
    assert release != os.uname().release
    assert namespace.kubectl("exec", "idle", "--", "uname", "-r").strip() == release
    assert namespace.kubectl("exec", "idle", "--", "hostname") == "idle\n"
    with pytest.raises(HarnessError, match="exit code 7"):
        namespace.kubectl("exec", "idle", "--", "sh", "-c", "exit 7")
    assert machines(namespace.cluster) == 1
    namespace.kubectl("delete", "pod", "idle", "--grace-period=1", "--timeout=60s")
    namespace.until(lambda: machines(namespace.cluster) == 0, "no machine is left")


def test_a_sandboxed_programs_exit_code_is_its_pods(namespace: Namespace) -> None:
    namespace.pod("fails", ["sh", "-c", "echo last words; exit 5"], runtimeClassName=NAME)
    namespace.until_phase("fails", "Failed", 90)
    ended = namespace.get("pod", "fails")["status"]["containerStatuses"][0]["state"]
    assert ended["terminated"]["exitCode"] == 5
    assert namespace.kubectl("logs", "fails") == "last words\n"


def test_a_pod_without_the_class_stays_on_the_hosts_kernel(namespace: Namespace) -> None:
    namespace.pod("plain", ["uname", "-r"])
    namespace.until_phase("plain", "Succeeded")
    assert namespace.kubectl("logs", "plain").strip() == os.uname().release
