# SPDX-License-Identifier: Apache-2.0
"""Install, upgrade, rollback and uninstall on a real cluster, by the command line and by Helm.

Compared before and after: every object of every kind that can be listed, but for events and leases;
labels, annotations, taints and kinds of conditions of the nodes. Not compared: amounts of resources
in a node's status, which a kubelet keeps for five minutes after a device plugin has gone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.harness import lifecycle
from tests.cluster.harness.build import build
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster

from ensconce.kube.install.chart import chart_path
from ensconce.oci.release import write_release_image

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SETTINGS = ("--set", "emulated.enabled=true", "--set", "image.pullPolicy=Never")
PASSING = ("events", "events.events.k8s.io", "leases.coordination.k8s.io", "componentstatuses")
ACCOUNTS = {
    "ensconce-node-agent": "ensconce-node",
    "ensconce-aesm": "ensconce-node",
    "ensconce-pccs": "ensconce-system",
    "ensconce-webhook": "ensconce-system",
}


@pytest.fixture(scope="module", autouse=True)
def _image(cluster: Cluster) -> None:
    made = os.environ.get("ENSCONCE_IMAGE")
    archive = Path(made) if made else write_release_image(ROOT)
    lifecycle.load_image(cluster, archive.read_bytes())


@pytest.fixture(autouse=True)
def before(cluster: Cluster) -> Iterator[tuple[list[str], dict[str, Any]]]:
    clear(cluster)
    yield everything(cluster), nodes(cluster)
    clear(cluster)


def clear(cluster: Cluster) -> None:
    """Take away what an earlier test, or a run that was killed, has left."""
    if "ensconce-system" in lifecycle.kubectl(cluster, "get", "namespaces", "-o", "name"):
        ensconce(cluster, "uninstall")


def ensconce(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("ensconce")), "cluster", *arguments, "--json"]
    command += ["--kubeconfig", str(cluster.kubeconfig), "--timeout", "120"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def helm(cluster: Cluster, *arguments: str) -> None:
    command = [str(build() / "helm"), *arguments, "--namespace", "kube-system"]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def everything(cluster: Cluster) -> list[str]:
    listed = lifecycle.kubectl(cluster, "api-resources", "--verbs=list", "-o", "name").split()
    kinds = ",".join(kind for kind in listed if kind not in PASSING)
    columns = "custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name"
    shown = lifecycle.kubectl(cluster, "get", kinds, "-A", "-o", columns, "--no-headers")
    return sorted(" ".join(line.split()) for line in shown.splitlines())


def nodes(cluster: Cluster) -> dict[str, Any]:
    items = json.loads(lifecycle.kubectl(cluster, "get", "nodes", "-o", "json"))["items"]
    return {
        each["metadata"]["name"]: {
            "labels": each["metadata"]["labels"],
            "annotations": each["metadata"]["annotations"],
            "taints": each["spec"].get("taints"),
            "conditions": [entry["type"] for entry in each["status"]["conditions"]],
        }
        for each in items
    }


def sleeper(cluster: Cluster) -> str:
    """Start a pod that sleeps and return its UID."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sleeper", "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "sleeper",
                    "image": "cluster.local/busybox:1",
                    "command": ["sleep", "1000"],
                }
            ],
        },
    }
    lifecycle.kubectl(cluster, "apply", "-f", "-", content=json.dumps(pod))
    lifecycle.kubectl(cluster, "wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s")
    return of_sleeper(cluster)


def of_sleeper(cluster: Cluster) -> str:
    path = "jsonpath={.metadata.uid} {.status.containerStatuses[0].containerID}"
    return lifecycle.kubectl(cluster, "get", "pod", "sleeper", "-o", path)


def replicas(cluster: Cluster) -> str:
    return lifecycle.kubectl(
        cluster, "get", "deployment", "ensconce-webhook", "-n", "ensconce-system",
        "-o", "jsonpath={.spec.replicas}",
    )  # fmt: skip


def test_an_install_is_upgraded_rolled_back_and_removed_under_a_running_pod(
    cluster: Cluster, before: tuple[list[str], dict[str, Any]]
) -> None:
    assert ensconce(cluster, "install", *SETTINGS)["revision"] == 1
    pod = sleeper(cluster)
    assert ensconce(cluster, "upgrade", "--set", "webhook.replicas=1")["revision"] == 2
    assert replicas(cluster) == "1"
    assert ensconce(cluster, "rollback")["revision"] == 3
    assert replicas(cluster) == "2"
    assert of_sleeper(cluster) == pod
    assert ensconce(cluster, "status")["missing"] == []
    ensconce(cluster, "uninstall")
    assert of_sleeper(cluster) == pod
    lifecycle.kubectl(cluster, "delete", "pod", "sleeper", "--now")
    assert (everything(cluster), nodes(cluster)) == before


def test_helm_installs_upgrades_rolls_back_and_uninstalls(
    cluster: Cluster, before: tuple[list[str], dict[str, Any]]
) -> None:
    chart, wait = str(chart_path()), ("--wait", "--timeout", "120s")
    helm(cluster, "install", "ensconce", chart, *SETTINGS, *wait)
    ca = ("get", "secret", "ensconce-webhook-ca", "-n", "ensconce-system", "-o", "jsonpath={.data}")
    first = lifecycle.kubectl(cluster, *ca)
    helm(cluster, "upgrade", "ensconce", chart, *SETTINGS, "--set", "webhook.replicas=1", *wait)
    assert (replicas(cluster), lifecycle.kubectl(cluster, *ca)) == ("1", first)
    helm(cluster, "rollback", "ensconce", "1", *wait)
    assert replicas(cluster) == "2"
    with pytest.raises(AssertionError, match="made by Helm; use helm"):
        ensconce(cluster, "install", *SETTINGS)
    helm(cluster, "uninstall", "ensconce", "--wait", "--cascade", "foreground")
    ensconce(cluster, "uninstall")  # what Helm can't know: the nodes
    assert (everything(cluster), nodes(cluster)) == before


def test_an_install_that_can_not_become_ready_says_why_and_goes_on(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="ErrImageNeverPull"):
        ensconce(cluster, "install", *SETTINGS, "--set", "image.tag=none")
    assert ensconce(cluster, "install", *SETTINGS)["standing"] == "deployed"
    assert ensconce(cluster, "install", *SETTINGS)["revision"] == 2  # nothing more to do
    assert ensconce(cluster, "upgrade", "--dry-run")["changes"] == []


def test_accounts_may_do_what_is_written_down_and_an_agent_changes_its_own_node_only(
    cluster: Cluster,
) -> None:
    ensconce(cluster, "install", *SETTINGS)
    for account, namespace in ACCOUNTS.items():
        user = f"system:serviceaccount:{namespace}:{account}"
        shown = lifecycle.kubectl(
            cluster, "auth", "can-i", "--list", "--no-headers", "--as", user, "-n", namespace,
            "--as-group", "system:serviceaccounts", "--as-group", "system:authenticated",
        )  # fmt: skip
        found = sorted(" ".join(line.split()) for line in shown.splitlines())
        assert found == (GOLDEN / f"{account}.txt").read_text().splitlines(), account
    other = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}}
    lifecycle.kubectl(cluster, "create", "-f", "-", content=json.dumps(other))
    try:
        token = lifecycle.kubectl(
            cluster, "create", "token", "ensconce-node-agent", "-n", "ensconce-node",
            "--bound-object-kind", "Node", "--bound-object-name", "node1",
        )  # fmt: skip
        label = ("--token", token, "label", "--overwrite", "node")
        lifecycle.kubectl(cluster, *as_token(cluster), *label, "node1", "ensconce.dev/t=1")
        with pytest.raises(HarnessError, match="the node that its pod runs on, and no other"):
            lifecycle.kubectl(cluster, *as_token(cluster), *label, "other", "ensconce.dev/t=1")
        key = "x.node-restriction.kubernetes.io/t=1"
        with pytest.raises(HarnessError, match="node-restriction"):
            lifecycle.kubectl(cluster, *as_token(cluster), *label, "node1", key)
    finally:
        lifecycle.kubectl(cluster, "delete", "node", "other")


def as_token(cluster: Cluster) -> tuple[str, ...]:
    """Return kubectl's arguments for a user whose token alone counts."""
    path = cluster.folder / "nobody.kubeconfig"
    view = json.loads(Path(cluster.kubeconfig).read_text())
    for user in view["users"]:
        user["user"] = {}
    path.write_text(json.dumps(view))
    return ("--kubeconfig", str(path))
