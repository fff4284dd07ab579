# SPDX-License-Identifier: Apache-2.0
from collections.abc import Mapping
from typing import Any

import pytest

from ensconce.errors import ClusterError
from ensconce.kube.install.cluster import Object, Ref, ref
from ensconce.kube.install.doctor import examine
from ensconce.platform.checks import State

EPC = "alibabacloud.com/sgx_epc_MiB"


class Shown:
    """A cluster that has what a test says; `admits` tells what becomes of a pod."""

    def __init__(
        self, *items: Object, annotations: dict[str, str] | None = None, refusal: str = ""
    ):
        self.items = items
        self.annotations = annotations
        self.refusal = refusal

    def get(self, what: Ref) -> Object | None:
        return next((item for item in self.items if ref(item) == what), None)

    def find(
        self, kind: str, *, namespace: str = "*", labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        assert (namespace, labels) == ("*", None)
        return [item for item in self.items if item["kind"] == kind]

    def create(self, item: Object, *, dry_run: bool = False) -> Object:
        assert dry_run
        if self.refusal:
            raise ClusterError(self.refusal)
        return item | {"metadata": item["metadata"] | {"annotations": self.annotations}}


def plugin(namespace: str, name: str, ready: int = 1) -> Object:
    status = {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": ready}
    meta = {"name": name, "namespace": namespace, "generation": 1}
    return {"kind": "DaemonSet", "metadata": meta, "status": status | {"observedGeneration": 1}}


def node(capacity: int, allocatable: int, *conditions: str, platform: str = "sgx") -> Object:
    return {
        "kind": "Node",
        "metadata": {"name": "n", "labels": {"ensconce.dev/platform": platform}},
        "status": {
            "capacity": {EPC: str(capacity)},
            "allocatable": {EPC: str(allocatable)},
            "conditions": [{"type": each, "status": "True"} for each in conditions],
        },
    }


def found(cluster: Shown) -> dict[str, Any]:
    return {check.name: check for check in examine(cluster)}


AGENT = plugin("ensconce-node", "ensconce-node-agent")


def test_a_cluster_without_a_plugin_is_told_how_to_get_one() -> None:
    checks = found(Shown())
    assert checks["device plugin"].mend == "ensconce cluster install"


@pytest.mark.parametrize(
    "where", [("kube-system", "sgx-device-plugin-ds"), ("x", "intel-sgx-plugin")]
)
def test_another_vendors_plugin_is_known(where: tuple[str, str]) -> None:
    checks = found(Shown(plugin(*where), node(8, 8)))
    assert {check.state for check in checks.values()} == {State.OK}


def test_two_plugins_at_once_are_a_fault() -> None:
    checks = found(Shown(AGENT, plugin("kube-system", "sgx-device-plugin-ds")))
    assert "installed together" in checks["device plugin"].detail


def test_epc_that_no_device_stands_for_is_a_fault() -> None:
    checks = found(Shown(plugin("kube-system", "sgx-plugin"), node(8, 0)))
    assert "0 of 8: the kubelet knows" in checks["node n EPC"].detail


def test_conditions_that_are_missing_or_false_name_their_mend() -> None:
    checks = found(Shown(AGENT, node(8, 8, "SgxReady")))
    assert checks["node n SgxReady"].state is State.OK
    assert checks["node n SgxAttestationReady"].state is State.MISSING
    assert "ds/ensconce-node-agent" in checks["node n SgxAttestationReady"].mend


def test_a_workload_that_is_not_ready_is_a_fault() -> None:
    checks = found(Shown(plugin("ensconce-node", "ensconce-node-agent", ready=0)))
    assert checks["ensconce-node-agent"].detail.startswith("0 of 1 pods")
    assert checks["ensconce-webhook"].state is State.ABSENT


def test_a_pod_that_is_refused_or_unseen_is_a_fault() -> None:
    refused = found(Shown(AGENT, refusal="no endpoints"))["admission"]
    assert (refused.state, "no endpoints" in refused.detail) == (State.MISSING, True)
    assert found(Shown(AGENT))["admission"].state is State.MISSING
    seen = Shown(AGENT, annotations={"sgx.intel.com/epc": "1Mi"})
    assert found(seen)["admission"].state is State.OK
