# SPDX-License-Identifier: Apache-2.0
"""Other vendors' device plugins on a cluster, and the pods that hold SGX resources by them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ensconce.errors import ClusterError
from ensconce.kube.install.cluster import Cluster, Object, Ref, ref
from ensconce.kube.names import Resource

__all__ = [
    "ALIBABAS",
    "INTELS",
    "MUTATOR",
    "Pod",
    "cleaned",
    "controller",
    "held",
    "others",
    "sgx_nodes",
    "sgx_pods",
]

ALIBABAS = Ref("DaemonSet", "kube-system", "sgx-device-plugin-ds")
INTELS = "intel-sgx-plugin"  # in any namespace; an operator adds `-` and its resource's name
MUTATOR = "sgx.mutator.webhooks.intel.com"  # one webhook of a configuration that may have others
_OPERATORS = "SgxDevicePlugin"
_EPC = tuple(each for each in Resource if "epc" in each)
_PASSING = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
_COUNTED = "deprecated.daemonset.template.generation"  # an annotation that the cluster writes


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with SGX resources: who it is, how often its containers restarted, what it holds."""

    namespace: str
    name: str
    uid: str
    restarts: int
    account: str
    resources: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def others(cluster: Cluster) -> list[Object]:
    """Return what is to go, in that order: operator's resources, webhooks, DaemonSets.

    An operator makes its DaemonSet anew as long as its resource is there. Raises ClusterError
    where something else would do so.
    """
    custom = cluster.find(_OPERATORS)
    hooks = [
        each
        for each in cluster.find("MutatingWebhookConfiguration")
        if any(hook["name"] == MUTATOR for hook in each.get("webhooks") or [])
    ]
    sets = [each for each in cluster.find("DaemonSet") if _is_plugin(each)]
    for each in sets:
        _check_kept(each)
    whole = (cluster.get(ref(each)) for each in (*custom, *hooks, *sets))
    return [each for each in whole if each]


def _is_plugin(item: Object) -> bool:
    """Return whether a DaemonSet is Alibaba's plugin or Intel's."""
    name = item["metadata"]["name"]
    intels = name == INTELS or name.startswith(f"{INTELS}-") or controller(item) == _OPERATORS
    return ref(item) == ALIBABAS or intels


def _check_kept(item: Object) -> None:
    """Refuse a DaemonSet that would come back."""
    labels = item["metadata"].get("labels") or {}
    owner = controller(item)
    keeper = f"its owner, a {owner}" if owner and owner != _OPERATORS else ""
    if labels.get("addonmanager.kubernetes.io/mode") == "Reconcile":
        keeper = "the cluster's add-on manager"
    if keeper:
        raise ClusterError(
            f"{ref(item)} would be made again by {keeper}; switch that off first, which removes "
            "it, then `ensconce cluster install`"
        )


def controller(item: Object) -> str:
    """Return the kind of what made an object, or nothing."""
    owners = item["metadata"].get("ownerReferences") or []
    return next((str(each["kind"]) for each in owners if each.get("controller")), "")


def cleaned(item: Object) -> Object:
    """Return an object as it can be made again."""
    meta = {name: value for name, value in item["metadata"].items() if name not in _PASSING}
    if "annotations" in meta:
        kept = {name: v for name, v in meta["annotations"].items() if name != _COUNTED}
        meta["annotations"] = kept
    return {name: v for name, v in item.items() if name != "status"} | {"metadata": meta}


def sgx_pods(cluster: Cluster) -> list[Pod]:
    """Return the pods that hold SGX resources: placed on a node, and not over."""
    pods = []
    for item in cluster.find("Pod"):
        spec, status = item.get("spec") or {}, item.get("status") or {}
        names = tuple(sorted(held(spec)))
        if not names or not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            continue
        states = [
            each
            for kind in ("initContainerStatuses", "containerStatuses")
            for each in status.get(kind) or []
        ]
        meta = item["metadata"]
        pods.append(
            Pod(
                meta["namespace"],
                meta["name"],
                meta["uid"],
                sum(each.get("restartCount", 0) for each in states),
                spec.get("serviceAccountName") or "default",
                names,
            )
        )
    return sorted(pods, key=str)


def held(spec: Mapping[str, Any]) -> set[str]:
    """Return the SGX resources that a pod's containers ask for."""
    containers: Iterable[Any] = (*(spec.get("containers") or ()), *_first(spec))
    return {
        name
        for each in containers
        for name in (each.get("resources") or {}).get("limits") or {}
        if name in set(Resource)
    }


def _first(spec: Mapping[str, Any]) -> Iterable[Any]:
    """Return a pod's init containers."""
    return spec.get("initContainers") or ()


def sgx_nodes(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """Return the nodes that can give EPC to pods now, with the names they offer it under."""
    nodes = {}
    for item in cluster.find("Node"):
        free = (item.get("status") or {}).get("allocatable") or {}
        names = tuple(str(each) for each in _EPC if str(free.get(each, "0")) != "0")
        if names:
            nodes[item["metadata"]["name"]] = names
    return nodes
