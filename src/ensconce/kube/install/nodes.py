# SPDX-License-Identifier: Apache-2.0
"""What ensconce leaves on Node objects, taken away once its agents are gone."""

from collections.abc import Mapping
from typing import Any

from ensconce.kube.install.cluster import Cluster, Object, Ref
from ensconce.kube.names import (
    DOMAIN,
    EMULATED_TAINT,
    NFD_SGX_LABEL,
    SGX_CAPABLE_LABEL,
    TEE_CATEGORY_LABEL,
    Condition,
    Resource,
)

__all__ = ["clean_nodes", "traces"]

_AGENT = "ensconce-node-agent"  # the field manager of agents
_LABELS = (SGX_CAPABLE_LABEL, TEE_CATEGORY_LABEL, NFD_SGX_LABEL)


def clean_nodes(cluster: Cluster) -> list[str]:
    """Take ensconce's labels, taint, conditions and resources from all nodes; return which had any.

    A label that another than the agent set is left, unless it is in ensconce's own domain.
    """
    cleaned = []
    for node in cluster.find("Node"):
        what = Ref("Node", "", node["metadata"]["name"])
        found = traces(node)
        if found["labels"]:
            gone = dict.fromkeys(found["labels"])
            cluster.merge(what, {"metadata": {"labels": gone}})
        if found["taints"]:
            kept = [each for each in node["spec"]["taints"] if each["key"] != EMULATED_TAINT]
            version = node["metadata"]["resourceVersion"] if not found["labels"] else None
            meta = {"metadata": {"resourceVersion": version}} if version else {}
            cluster.merge(what, {"spec": {"taints": kept}} | meta)
        if found["conditions"] or found["resources"]:
            cluster.merge_node_status(what.name, _status(found))
        if any(found.values()):
            cleaned.append(what.name)
    return cleaned


def traces(node: Object) -> dict[str, list[str]]:
    """Return what of ensconce's a node's object has."""
    meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    ours = _labels_of_agents(node)
    labels = [
        name
        for name in meta.get("labels") or {}
        if name.startswith(f"{DOMAIN}/") or (name in _LABELS and name in ours)
    ]
    conditions = {each.value for each in Condition}
    return {
        "labels": labels,
        "taints": [e["key"] for e in spec.get("taints") or [] if e["key"] == EMULATED_TAINT],
        "conditions": [
            e["type"] for e in status.get("conditions") or [] if e["type"] in conditions
        ],
        "resources": [
            name
            for name in status.get("capacity") or {}
            if name in set(Resource) and name in ours | _shown_by_kubelet(status)
        ],
    }


def _status(found: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the change that takes conditions and resources from a node's status."""
    gone = dict.fromkeys(found["resources"])
    conditions = [{"type": each, "$patch": "delete"} for each in found["conditions"]]
    return {"conditions": conditions, "capacity": gone, "allocatable": gone}


def _labels_of_agents(node: Object) -> set[str]:
    """Return the labels and resources that agents applied."""
    names: set[str] = set()
    for entry in node["metadata"].get("managedFields") or []:
        if entry.get("manager") != _AGENT:
            continue
        fields = entry.get("fieldsV1") or {}
        labels = (fields.get("f:metadata") or {}).get("f:labels") or {}
        capacity = (fields.get("f:status") or {}).get("f:capacity") or {}
        names |= {each.removeprefix("f:") for each in (*labels, *capacity)}
    return names


def _shown_by_kubelet(status: Mapping[str, Any]) -> set[str]:
    """Return the resources that a kubelet still shows of a device plugin that is gone."""
    allocatable = status.get("allocatable") or {}
    return {name for name, amount in allocatable.items() if str(amount) == "0"}
