# SPDX-License-Identifier: Apache-2.0
"""The provider `existing` on a real cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.cluster.harness.layout import Cluster
from tests.cluster.harness.lifecycle import kubectl

from ensconce.errors import PolicyError, ServiceError
from ensconce.kube.create import Phase, Record, Records, create, delete, provider_for

OTHER_PLUGIN = "intel-sgx-plugin"


def record_of(kubeconfig: Path, folder: Path) -> Record:
    """Create by the provider; return the record."""
    records = Records(folder / "state")
    chosen = provider_for("existing", "here", {"kubeconfig": str(kubeconfig)})
    record = records.begin("here", chosen.kind, chosen.settings)
    create(chosen, record)
    return record


@pytest.fixture
def stranger(cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """Return the kubeconfig of a service account without rights but to read."""
    kubectl(cluster, "create", "serviceaccount", "stranger")
    rights = ["--clusterrole=view", "--serviceaccount=default:stranger"]
    kubectl(cluster, "create", "clusterrolebinding", "stranger", *rights)
    nodes = ["--verb=list", "--resource=nodes"]
    kubectl(cluster, "create", "clusterrole", "stranger-nodes", *nodes)
    rights[0] = "--clusterrole=stranger-nodes"
    kubectl(cluster, "create", "clusterrolebinding", "stranger-nodes", *rights)
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    token = kubectl(cluster, "create", "token", "stranger").strip()
    content["users"][0]["user"] = {"token": token}
    path = tmp_path / "stranger.yaml"
    path.write_text(yaml.safe_dump(content))
    yield path
    kubectl(cluster, "delete", "clusterrolebinding", "stranger", "stranger-nodes")
    kubectl(cluster, "delete", "clusterrole", "stranger-nodes")
    kubectl(cluster, "delete", "serviceaccount", "stranger")


@pytest.fixture
def other_plugin(cluster: Cluster) -> Iterator[None]:
    """Have a DaemonSet of another plugin, on no node."""
    pod = {"containers": [{"name": "x", "image": "cluster.local/busybox:1"}]}
    labels = {"app": OTHER_PLUGIN}
    template = {"metadata": {"labels": labels}, "spec": pod | {"nodeSelector": {"no": "node"}}}
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": OTHER_PLUGIN},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    kubectl(cluster, "apply", "--filename", "-", content=yaml.safe_dump(manifest))
    yield
    kubectl(cluster, "delete", "daemonset", OTHER_PLUGIN)


def test_a_cluster_is_checked_recorded_and_forgotten(cluster: Cluster, tmp_path: Path) -> None:
    record = record_of(cluster.kubeconfig, tmp_path)
    assert record.phase is Phase.READY
    assert record.facts["usable"]
    assert record.facts["kubelet"].startswith("v1.34.")
    delete(provider_for("existing", "here", record.settings), record)
    assert not record.path.exists()


def test_all_that_a_stranger_may_not_do_is_named(stranger: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as raised:
        record_of(stranger, tmp_path)
    for each in ("create namespaces", "patch daemonsets", "delete clusterroles"):
        assert each in str(raised.value)


@pytest.mark.usefixtures("other_plugin")
def test_another_plugin_is_found(cluster: Cluster, tmp_path: Path) -> None:
    record = record_of(cluster.kubeconfig, tmp_path)
    assert record.facts["plugins"] == [f"default/{OTHER_PLUGIN}"]


def test_a_cluster_that_gives_no_answer_is_said_so(cluster: Cluster, tmp_path: Path) -> None:
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "away.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ServiceError, match="gives no answer"):
        record_of(path, tmp_path)
