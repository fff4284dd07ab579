# SPDX-License-Identifier: Apache-2.0
"""A takeover and its rollback on a real cluster, under a pod that holds EPC.

What is taken over is a stand-in for Alibaba's plugin: a DaemonSet with its name, namespace and
labels that runs `ensconce device-plugin serve`, which offers EPC of an emulated platform under
Alibaba's name. The real one needs a processor with SGX.
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
from tests.cluster.harness.layout import Cluster
from tests.cluster.harness.namespace import Namespace, wait_until

from ensconce.oci.release import write_release_image

ALIBABA = "alibabacloud.com/sgx_epc_MiB"
FOLDER = "/var/lib/kubelet/device-plugins"
SETTINGS = (
    *("--set", "emulated.enabled=true", "--set", "image.pullPolicy=Never"),
    *("--set", "pccs.enabled=false"),  # it has no part in this
)
LABELS = {"k8s-app": "sgx-device-plugin"}
PLUGIN: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "sgx-device-plugin-ds", "namespace": "kube-system"},
    "spec": {
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {
                "terminationGracePeriodSeconds": 5,
                "tolerations": [{"key": ALIBABA, "operator": "Exists", "effect": "NoSchedule"}],
                "containers": [
                    {
                        "name": "sgx-device-plugin",
                        "image": "ensconce:0.1.0",
                        "imagePullPolicy": "Never",
                        "args": ["device-plugin", "serve", "--emulated-mib", "64"],
                        "securityContext": {"runAsUser": 0},
                        "volumeMounts": [{"name": "device-plugin", "mountPath": FOLDER}],
                    }
                ],
                "volumes": [{"name": "device-plugin", "hostPath": {"path": FOLDER}}],
            },
        },
    },
}


@pytest.fixture
def plugin(cluster: Cluster) -> Iterator[None]:
    """The stand-in, with EPC on the node."""
    made = os.environ.get("ENSCONCE_IMAGE")
    archive = Path(made) if made else write_release_image(Path(__file__).parents[2])
    lifecycle.load_image(cluster, archive.read_bytes())
    lifecycle.kubectl(cluster, "apply", "-f", "-", content=json.dumps(PLUGIN))
    try:
        wait_until(lambda: allocatable(cluster) == "64", "the stand-in offers EPC", 90)
        yield
    finally:
        if "ensconce-takeover" in lifecycle.kubectl(cluster, "get", "secret", "-A"):
            takeover(cluster, "--rollback")
        name = PLUGIN["metadata"]["name"]
        lifecycle.kubectl(
            cluster, "delete", "daemonset", name, "-n", "kube-system", "--ignore-not-found"
        )


def takeover(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("ensconce")), "cluster", "takeover", *arguments]
    command += ["--kubeconfig", str(cluster.kubeconfig), "--timeout", "120", "--yes", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def allocatable(cluster: Cluster) -> str:
    node = json.loads(lifecycle.kubectl(cluster, "get", "node", "node1", "-o", "json"))
    return str(node["status"]["allocatable"].get(ALIBABA, "0"))


def identity(namespace: Namespace) -> tuple[str, str, int]:
    pod = namespace.get("pod", "app")
    state = pod["status"]["containerStatuses"][0]
    return pod["metadata"]["uid"], state["containerID"], state["restartCount"]


@pytest.mark.usefixtures("plugin")
def test_a_pod_with_epc_runs_on_through_a_takeover_and_its_rollback(
    cluster: Cluster, namespace: Namespace
) -> None:
    namespace.pod("app", ["sleep", "infinity"], limits={ALIBABA: "2"})
    namespace.until_phase("app", "Running")
    before = identity(namespace)
    actions = {each["action"] for each in takeover(cluster, "--dry-run", *SETTINGS)["changes"]}
    assert actions == {"delete", "create"}
    taken = takeover(cluster, *SETTINGS)
    assert (taken["pods"], taken["changed"]) == ([f"{namespace.name}/app"], [])
    assert identity(namespace) == before
    wait_until(lambda: allocatable(cluster) == "128", "ensconce offers EPC", 30)
    assert takeover(cluster, *SETTINGS)["done"] == "nothing"
    assert takeover(cluster, "--rollback")["changed"] == []
    assert identity(namespace) == before
    wait_until(lambda: allocatable(cluster) == "64", "the stand-in offers EPC again", 30)
