# SPDX-License-Identifier: Apache-2.0
"""A cluster's API as an install uses it: objects as plain mappings, found by kind and name."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
from lightkube import ApiError, Client, KubeConfig
from lightkube.core.exceptions import ConfigError as KubeConfigError
from lightkube.generic_resource import (
    GenericGlobalResource,
    GenericNamespacedResource,
    create_api_info,
)
from lightkube.resources.core_v1 import NodeStatus
from lightkube.types import CascadeType, PatchType

from ensconce.errors import ClusterError, ConfigError
from ensconce.kube.names import FIELD_MANAGER

__all__ = ["Cluster", "Object", "Ref", "connect", "ref"]

Object = dict[str, Any]

# kind: group/version, plural, whether it is in a namespace
_KINDS = {
    "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "ConfigMap": ("v1", "configmaps", True),
    "CustomResourceDefinition": (
        "apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        False,
    ),
    "DaemonSet": ("apps/v1", "daemonsets", True),
    "Deployment": ("apps/v1", "deployments", True),
    "Event": ("v1", "events", True),
    "MutatingWebhookConfiguration": (
        "admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
        False,
    ),
    "Namespace": ("v1", "namespaces", False),
    "Node": ("v1", "nodes", False),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims", True),
    "Pod": ("v1", "pods", True),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets", True),
    "Role": ("rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings", True),
    "RuntimeClass": ("node.k8s.io/v1", "runtimeclasses", False),
    "Secret": ("v1", "secrets", True),
    "Service": ("v1", "services", True),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "SgxDevicePlugin": ("deviceplugin.intel.com/v1", "sgxdeviceplugins", False),
    "ValidatingAdmissionPolicy": (
        "admissionregistration.k8s.io/v1",
        "validatingadmissionpolicies",
        False,
    ),
    "ValidatingAdmissionPolicyBinding": (
        "admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
        False,
    ),
    "ValidatingWebhookConfiguration": (
        "admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        False,
    ),
}


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """What an object is found by; `namespace` is empty for what is in none."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


def ref(item: Mapping[str, Any]) -> Ref:
    """Return what an object is found by."""
    meta = item["metadata"]
    return Ref(item["kind"], meta.get("namespace") or "", meta["name"])


def _resource(kind: str) -> Any:
    """Return lightkube's class for a kind; its objects are mappings."""
    version, plural, namespaced = _KINDS[kind]
    group, _, number = version.rpartition("/")
    base: Any = GenericNamespacedResource if namespaced else GenericGlobalResource
    return type(kind, (base,), {"_api_info": create_api_info(group, number, kind, plural)})


_RESOURCES = {kind: _resource(kind) for kind in _KINDS}


class Cluster:
    """Reads and writes a cluster's objects. Raises ClusterError."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client  # its types are for models, not for plain mappings

    def get(self, what: Ref) -> Object | None:
        """Return an object, or None where there is none, not even its kind."""
        with _told(f"{what} can't be read"):
            try:
                found = self._client.get(_RESOURCES[what.kind], what.name, **_in(what))
            except httpx2.HTTPStatusError as error:  # ApiError, or of a group that isn't served
                if error.response.status_code == HTTPStatus.NOT_FOUND:
                    return None
                raise
            return dict(found)

    def find(
        self, kind: str, *, namespace: str = "*", labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        """Return the objects of a kind; none where the cluster does not have the kind."""
        inside = {"namespace": namespace} if _KINDS[kind][2] else {}
        with _told(f"{kind} objects can't be listed"):
            try:
                found = self._client.list(_RESOURCES[kind], labels=dict(labels or {}), **inside)
                return [dict(each) | {"kind": kind} for each in found]
            except httpx2.HTTPStatusError as error:  # ApiError, or of a group that isn't served
                if error.response.status_code == HTTPStatus.NOT_FOUND:
                    return []
                raise

    def apply(self, item: Object, *, dry_run: bool = False) -> Object:
        """Have an object be as said, by server-side apply; return it as it has become."""
        what = ref(item)
        with _told(f"{what} can't be applied"):
            done = self._client.patch(
                _RESOURCES[what.kind],
                what.name,
                item,
                **_in(what),
                patch_type=PatchType.APPLY,
                field_manager=FIELD_MANAGER,
                force=True,
                dry_run=dry_run,
            )
        return dict(done)

    def merge(self, what: Ref, change: Object) -> None:
        """Merge a change into an object; null takes away."""
        with _told(f"{what} can't be changed"):
            self._client.patch(
                _RESOURCES[what.kind],
                what.name,
                change,
                **_in(what),
                patch_type=PatchType.MERGE,
                field_manager=FIELD_MANAGER,
            )

    def merge_node_status(self, name: str, change: Object) -> None:
        """Merge a change into a node's status; conditions are told apart by their type."""
        with _told(f"the status of Node {name} can't be changed"):
            self._client.patch(NodeStatus, name, {"status": change}, patch_type=PatchType.STRATEGIC)

    def create(self, item: Object, *, dry_run: bool = False) -> Object:
        """Make an object."""
        what = ref(item)
        made = _RESOURCES[what.kind](item)
        with _told(f"{what} can't be made"):
            return dict(self._client.create(made, **_in(what), dry_run=dry_run))

    def delete(self, what: Ref, *, orphan: bool = False) -> bool:
        """Begin to remove an object; return whether there was one. `orphan` leaves its pods."""
        cascade = CascadeType.ORPHAN if orphan else CascadeType.BACKGROUND
        with _told(f"{what} can't be removed"):
            try:
                self._client.delete(_RESOURCES[what.kind], what.name, **_in(what), cascade=cascade)
            except ApiError as error:
                if error.status.code == HTTPStatus.NOT_FOUND:
                    return False
                raise
        return True

    def last_words(self, namespace: str, pod: str, container: str) -> str:
        """Return the last line that a container logged, or nothing."""
        with contextlib.suppress(httpx2.HTTPError, ApiError):
            lines = list(
                self._client.log(pod, namespace=namespace, container=container, tail_lines=1)
            )
            return lines[-1].strip() if lines else ""
        return ""


def connect(kubeconfig: Path | None, context: str | None) -> Cluster:
    """Return the cluster of a kubeconfig, or the one that kubectl would use. Raises ConfigError."""
    try:
        found = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_env()
        return Cluster(Client(config=found.get(context_name=context), field_manager=FIELD_MANAGER))
    except (KubeConfigError, OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"no cluster is known: {error}; give --kubeconfig, or set KUBECONFIG"
        ) from error


def _in(what: Ref) -> dict[str, str]:
    """Return the argument that says a namespace, if there is one to say."""
    return {"namespace": what.namespace} if what.namespace else {}


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Tell the API server's refusals, and its silence, in a sentence."""
    try:
        yield
    except ApiError as error:
        raise ClusterError(f"{what}: {error.status.message or error}") from error
    except httpx2.HTTPError as error:
        raise ClusterError(f"{what}: the API server does not answer ({error})") from error
