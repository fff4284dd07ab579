# SPDX-License-Identifier: Apache-2.0
"""Takeovers on a cluster in memory, interrupted before each write; agents are ready at once."""

import copy
from typing import Any

import pytest
from tests.kube.install.test_installer import QUIET, Memory, installer

from ensconce.errors import ClusterError, ConfigError
from ensconce.kube.install.cluster import Object, Ref, ref
from ensconce.kube.install.takeover import Takeover
from ensconce.kube.install.takeover_record import RECORD, Step, TakeoverRecord

ALIBABA = "alibabacloud.com/sgx_epc_MiB"
INTEL = "sgx.intel.com/epc"
MUTATOR = "sgx.mutator.webhooks.intel.com"
AGENT = Ref("DaemonSet", "ensconce-node", "ensconce-node-agent")
NODE = Ref("Node", "", "n")
FOREVER = 1 << 30


class Site(Memory):
    """A cluster with a node, whose removals and changes of objects count as writes too."""

    def __init__(self, *items: Object) -> None:
        super().__init__()
        self.items = {ref(each): each for each in items}

    def _count(self) -> None:
        self.last -= 1
        if self.last < 0:
            raise KeyboardInterrupt

    def apply(self, item: Object, *, dry_run: bool = False) -> Object:
        if dry_run:
            return self.items[ref(item)]
        if ref(item) == AGENT:
            self.items[NODE]["status"]["conditions"] = [
                {"type": "Ready", "status": "True"},
                {"type": "SgxReady", "status": "True"},
            ]
        return super().apply(item)

    def create(self, item: Object, *, dry_run: bool = False) -> Object:
        assert not dry_run
        return self.apply(item)

    def delete(self, what: Ref, *, orphan: bool = False) -> bool:
        self._count()
        gone = [what for what, item in self.items.items() if _owner(item) == str(what)]
        for each in gone:
            del self.items[each]
        if what == Ref("SgxDevicePlugin", "", "sgx"):  # as its operator does, by the collector
            self.items.pop(Ref("DaemonSet", "intel", "intel-sgx-plugin"), None)
        return super().delete(what, orphan=orphan)

    def merge(self, what: Ref, change: Object) -> None:
        self._count()
        self.items[what] |= {"webhooks": change["webhooks"]}

    def merge_node_status(self, name: str, change: Object) -> None:  # noqa: ARG002
        self._count()
        self.items[NODE]["status"]["conditions"] = [{"type": "Ready", "status": "True"}]


def _owner(item: Object) -> str:
    return str(item["metadata"].get("owner", ""))


def node(name: str) -> Object:
    ready = [{"type": "Ready", "status": "True"}]
    status = {"capacity": {name: "64"}, "allocatable": {name: "64"}, "conditions": ready}
    return {"kind": "Node", "metadata": {"name": "n"}, "status": status}


def plugin(namespace: str, name: str, *arguments: str, **meta: Any) -> Object:
    labels = {"app": name}
    pod = {"containers": [{"name": "x", "image": "x", "args": list(arguments)}]}
    spec = {"selector": {"matchLabels": labels}, "template": {"spec": pod}}
    about = {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "7"} | meta
    item = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": about, "spec": spec}
    return item | {"status": {"observedGeneration": 1}}


def pod(*resources: str, restarts: int = 0) -> Object:
    limits = dict.fromkeys(resources, "2")
    return {
        "kind": "Pod",
        "metadata": {"name": "app", "namespace": "default", "uid": "1"},
        "spec": {
            "nodeName": "n",
            "serviceAccountName": "a",
            "containers": [{"resources": {"limits": limits}}],
        },
        "status": {"phase": "Running", "containerStatuses": [{"restartCount": restarts}]},
    }


def hooks(*names: str) -> Object:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "intels"},
        "webhooks": [{"name": each} for each in names],
    }


def alibabas(**meta: Any) -> Site:
    attach = "--enable-aesm-socket-attach"
    there = plugin("kube-system", "sgx-device-plugin-ds", attach, **meta)
    return Site(node(ALIBABA), pod(ALIBABA), there)


def intels() -> Site:
    """Intel's plugin as its operator makes it, with a webhook beside another."""
    owners = [{"kind": "SgxDevicePlugin", "name": "sgx", "controller": True}]
    custom = {
        "apiVersion": "deviceplugin.intel.com/v1",
        "kind": "SgxDevicePlugin",
        "metadata": {"name": "sgx"},
        "spec": {"enclaveLimit": 200},
    }
    made = plugin("intel", "intel-sgx-plugin", ownerReferences=owners)
    app = pod(INTEL, "sgx.intel.com/enclave", "sgx.intel.com/provision")
    return Site(node(INTEL), app, custom, hooks("fpga", MUTATOR), made)


def takeover(cluster: Site) -> Takeover:
    return Takeover(cluster, installer(cluster), timeout=0.01, sleep=lambda _: None)


def writes(site: Site, action: Any) -> int:
    """How many writes something takes."""
    tried = copy.deepcopy(site)
    action(takeover(tried))
    return FOREVER - tried.last


def take(mover: Takeover) -> Any:
    return mover.take_over(QUIET)


@pytest.mark.parametrize("make", [alibabas, intels])
def test_a_takeover_that_is_interrupted_anywhere_goes_on_or_goes_back(make: Any) -> None:
    for last in range(writes(make(), take)):
        cluster = make()
        before, cluster.last = set(cluster.items), last
        with pytest.raises(KeyboardInterrupt):
            take(takeover(cluster))
        cluster.last = FOREVER
        back = copy.deepcopy(cluster)
        assert take(takeover(cluster)).changed == ()
        assert AGENT in cluster.items
        takeover(back).roll_back()
        assert restored(back) == before, last


@pytest.mark.parametrize("make", [alibabas, intels])
def test_a_rollback_that_is_interrupted_anywhere_goes_on(make: Any) -> None:
    taken = make()
    before = set(taken.items)
    take(takeover(taken))
    taken.last = FOREVER
    for last in range(writes(taken, Takeover.roll_back)):
        cluster = copy.deepcopy(taken)
        cluster.last = last
        with pytest.raises(KeyboardInterrupt):
            takeover(cluster).roll_back()
        cluster.last = FOREVER
        assert takeover(cluster).roll_back().changed == ()
        assert restored(cluster) == before, last


def restored(cluster: Site) -> set[Ref]:
    """What there is, with what Intel's operator would have made by now."""
    made = Ref("DaemonSet", "intel", "intel-sgx-plugin")
    operated = Ref("SgxDevicePlugin", "", "sgx") in cluster.items
    return set(cluster.items) | ({made} if operated else set())


def test_names_sockets_limits_and_rights_come_along() -> None:
    assert takeover(alibabas()).plan({}).values == {
        "epc": {"names": [ALIBABA], "provisionPods": []},
        "nodeAgent": {"extraArgs": ["--enable-aesm-socket-attach"]},
    }
    assert takeover(intels()).plan({}).values == {
        "epc": {"names": [INTEL], "provisionPods": ["default/a"]},
        "nodeAgent": {"extraArgs": ["--enclave-limit=200"]},
    }


def test_a_plan_shows_what_goes_and_comes_and_changes_nothing() -> None:
    cluster = intels()
    before = copy.deepcopy(cluster.items)
    plan = takeover(cluster).plan(QUIET)
    assert cluster.items == before
    actions = {str(each.what): each.action for each in plan.changes}
    assert actions["DaemonSet intel/intel-sgx-plugin"] == "delete"
    assert actions[str(AGENT)] == "create"


def test_another_webhook_of_the_same_configuration_stays_and_intels_comes_back() -> None:
    cluster = intels()
    config = Ref("MutatingWebhookConfiguration", "", "intels")
    take(takeover(cluster))
    assert cluster.items[config]["webhooks"] == [{"name": "fpga"}]
    takeover(cluster).roll_back()
    assert cluster.items[config]["webhooks"] == [{"name": "fpga"}, {"name": MUTATOR}]


def test_a_pod_that_restarted_is_named() -> None:
    cluster = alibabas()
    cluster.last = 5
    with pytest.raises(KeyboardInterrupt):
        take(takeover(cluster))
    cluster.last = FOREVER
    cluster.items |= {Ref("Pod", "default", "app"): pod(ALIBABA, restarts=1)}
    assert take(takeover(cluster)).changed == ("default/app",)


def test_nothing_to_take_over_is_no_fault() -> None:
    assert takeover(Site(node(ALIBABA))).take_over({}).done == "nothing"
    assert takeover(Site(node(ALIBABA))).roll_back().done == "nothing"


def test_what_would_be_made_again_is_refused() -> None:
    labels = {"addonmanager.kubernetes.io/mode": "Reconcile"}
    with pytest.raises(ClusterError, match="add-on manager"):
        take(takeover(alibabas(labels=labels)))
    owners = [{"kind": "Helper", "name": "x", "controller": True}]
    with pytest.raises(ClusterError, match="its owner, a Helper"):
        take(takeover(alibabas(ownerReferences=owners)))


def test_two_names_of_epc_need_their_shares() -> None:
    cluster = intels()
    cluster.items |= alibabas().items | {NODE: node(INTEL)}
    with pytest.raises(ConfigError, match=r"give epc\.names"):
        take(takeover(cluster))


def test_nodes_that_do_not_get_their_epc_back_are_named() -> None:
    cluster = alibabas()
    cluster.items[Ref("Node", "", "n2")] = node(ALIBABA) | {"metadata": {"name": "n2"}}
    with pytest.raises(ClusterError, match=r"waited .* for EPC: node n2"):
        take(takeover(cluster))
    record = TakeoverRecord.load(cluster)
    assert record is not None
    assert record.step is Step.WAITING


def test_an_uninstall_in_the_middle_is_refused_and_after_it_forgets() -> None:
    cluster = alibabas()
    cluster.last = 5
    with pytest.raises(KeyboardInterrupt):
        take(takeover(cluster))
    cluster.last = FOREVER
    with pytest.raises(ClusterError, match="a takeover was begun"):
        installer(cluster).uninstall()
    take(takeover(cluster))
    installer(cluster).uninstall()
    assert RECORD not in cluster.items
