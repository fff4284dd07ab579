# SPDX-License-Identifier: Apache-2.0
"""What a cluster has for enclaves, link by link from its nodes to a quote, and how to mend it.

Works on any cluster: one without ensconce, or with Alibaba's, Intel's or AKS's device plugin.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ensconce.errors import ClusterError
from ensconce.kube.install.cluster import Object, Ref
from ensconce.kube.install.ready import rollout
from ensconce.kube.names import (
    EMULATED_ALLOWED_LABEL,
    EPC_ANNOTATION,
    NAMESPACE,
    NODE_NAMESPACE,
    PLATFORM_LABEL,
    Condition,
    Platform,
    Resource,
)
from ensconce.platform.checks import Check, State

__all__ = ["PLUGINS", "Seen", "examine"]

PLUGINS = {
    Ref("DaemonSet", NODE_NAMESPACE, "ensconce-node-agent"): "ensconce",
    Ref("DaemonSet", "kube-system", "sgx-device-plugin-ds"): "Alibaba's device plugin",
    Ref("DaemonSet", "kube-system", "sgx-plugin"): "AKS's device plugin",
}
_INTELS = "intel-sgx-plugin"  # in whatever namespace
_EPC = (
    Resource.EPC_ALIBABA,
    Resource.EPC_INTEL,
    Resource.EPC_AZURE,
    Resource.EPC_OPENENCLAVE,
)
_PARTS = (
    (Ref("DaemonSet", NODE_NAMESPACE, "ensconce-node-agent"), "without it no node offers EPC"),
    (Ref("DaemonSet", NODE_NAMESPACE, "ensconce-aesm"), "without it hosts get no quotes by AESM"),
    (Ref("Deployment", NAMESPACE, "ensconce-pccs"), "without it collateral comes from elsewhere"),
    (Ref("Deployment", NAMESPACE, "ensconce-webhook"), "without it no pod with SGX is admitted"),
)
_MENDS = {
    Condition.READY: (
        "see the agent's log: kubectl -n ensconce-node logs ds/ensconce-node-agent -c agent; on "
        "the node itself `ensconce doctor` tells BIOS, kernel and driver apart"
    ),
    Condition.EPC_ENFORCED: "",
    Condition.ATTESTATION_READY: (
        "kubectl -n ensconce-node logs ds/ensconce-aesm; then `ensconce attest doctor --pccs URL` "
        "walks from the quote to its verifier"
    ),
}


class Seen(Protocol):
    """What of a cluster the doctor looks at."""

    def get(self, what: Ref) -> Object | None:
        """Return an object, or None."""

    def find(
        self, kind: str, *, namespace: str = "*", labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        """Return the objects of a kind."""

    def create(self, item: Object, *, dry_run: bool = False) -> Object:
        """Make an object."""


def examine(cluster: Seen) -> Iterator[Check]:
    """Yield what is found, from plugins and nodes to AESM, PCCS, webhook and quotes."""
    plugins = [name for where, name in PLUGINS.items() if cluster.get(where)]
    plugins += [
        f"Intel's device plugin in {each['metadata']['namespace']}"
        for each in cluster.find("DaemonSet")
        if each["metadata"]["name"] == _INTELS
    ]
    yield _plugins(plugins)
    ours = "ensconce" in plugins
    for node in cluster.find("Node"):
        yield from _node(node, ours=ours)
    if ours:
        yield from _parts(cluster)
    yield _admission(cluster, ours=ours)


def _plugins(found: list[str]) -> Check:
    """Return who offers EPC."""
    if not found:
        return Check(
            "device plugin",
            State.MISSING,
            "no known device plugin for SGX is installed",
            "ensconce cluster install",
        )
    if len(found) > 1:
        return Check(
            "device plugin",
            State.MISSING,
            f"{' and '.join(found)} are installed together: the kubelet takes whichever registers "
            "a resource last",
            "remove all but one",
        )
    return Check("device plugin", State.OK, found[0])


def _node(node: Object, *, ours: bool) -> Iterator[Check]:
    """Yield what is found of a node."""
    meta, status = node["metadata"], node.get("status") or {}
    name = f"node {meta['name']}"
    platform = (meta.get("labels") or {}).get(PLATFORM_LABEL, "")
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    yield _epc(name, status, platform)
    if not ours:
        return
    for kind in Condition:
        said = conditions.get(kind.value)
        if said is None:
            what = "the node agent has not told yet"
            yield Check(f"{name} {kind.value}", State.MISSING, what, _MENDS[Condition.READY])
            continue
        detail = f"{said.get('reason', '')}: {said.get('message', '')}"
        if said["status"] == "True":
            yield Check(f"{name} {kind.value}", State.OK, detail)
        elif platform == Platform.NONE or kind is Condition.EPC_ENFORCED:
            yield Check(f"{name} {kind.value}", State.ABSENT, detail)
        else:
            yield Check(f"{name} {kind.value}", State.MISSING, detail, _MENDS[kind])


def _epc(name: str, status: Mapping[str, Any], platform: str) -> Check:
    """Return what EPC a node offers, and whether its plugin stands by it."""
    capacity = status.get("capacity") or {}
    allocatable = status.get("allocatable") or {}
    offers = {each: str(capacity[each]) for each in _EPC if each in capacity}
    shown = ", ".join(f"{key}: {allocatable.get(key, 0)} of {of}" for key, of in offers.items())
    if not offers:
        return Check(f"{name} EPC", State.ABSENT, "offers no EPC")
    lost = [key for key, of in offers.items() if of != "0" and not _some(allocatable.get(key))]
    if lost:
        return Check(
            f"{name} EPC",
            State.MISSING,
            f"{shown}: the kubelet knows of EPC that no healthy device stands for",
            "its device plugin has gone or finds its device unhealthy; see that pod's log",
        )
    return Check(f"{name} EPC", State.OK, f"{shown}{', emulated' * (platform == 'emulated')}")


def _some(amount: object) -> bool:
    """Return whether an amount is more than none."""
    return str(amount or "0") != "0"


def _parts(cluster: Seen) -> Iterator[Check]:
    """Yield whether ensconce's workloads are ready."""
    for what, use in _PARTS:
        item = cluster.get(what)
        if item is None:
            yield Check(what.name, State.ABSENT, f"is not installed; {use}")
            continue
        state = rollout(item)
        place = f"kubectl -n {what.namespace} describe pods -l app.kubernetes.io/name=ensconce"
        detail = f"{state.ready} of {state.wanted} pods are ready"
        if state.done:
            yield Check(what.name, State.OK, detail)
        else:
            yield Check(what.name, State.MISSING, f"{detail}; {use}", place)


def _admission(cluster: Seen, *, ours: bool) -> Check:
    """Return what becomes of a pod with EPC, which is not made."""
    allowed = [
        each["metadata"]["name"]
        for each in cluster.find("Namespace")
        if (each["metadata"].get("labels") or {}).get(EMULATED_ALLOWED_LABEL) == "true"
    ]
    namespace = allowed[0] if allowed else "default"
    limits = {str(Resource.EPC_ALIBABA): "1"}
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "ensconce-doctor", "namespace": namespace},
        "spec": {
            "containers": [{"name": "enclave", "image": "none", "resources": {"limits": limits}}]
        },
    }
    try:
        made = cluster.create(pod, dry_run=True)
    except ClusterError as error:
        return Check(
            "admission",
            State.MISSING,
            f"a pod with EPC is refused in namespace {namespace}: {error}",
            "kubectl -n ensconce-system logs deploy/ensconce-webhook, if it names the webhook",
        )
    told = EPC_ANNOTATION in (made["metadata"].get("annotations") or {})
    if told or not ours:
        by = "the webhook saw it" if told else "no webhook changed it"
        return Check("admission", State.OK, f"a pod with EPC is admitted; {by}")
    return Check(
        "admission",
        State.MISSING,
        "a pod with EPC is admitted without the webhook having seen it",
        "ensconce cluster status shows whether the webhook and its configuration are there",
    )
