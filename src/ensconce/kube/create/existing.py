# SPDX-License-Identifier: Apache-2.0
"""A cluster that is there already: look whether ensconce can be installed on it, and record it."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
from lightkube import ApiError, Client, KubeConfig
from lightkube.core.exceptions import ConfigError as KubeconfigError
from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.resources.apps_v1 import DaemonSet
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
from lightkube.resources.core_v1 import Node

from ensconce.errors import ConfigError, PolicyError, ServiceError
from ensconce.kube.create.plan import Step
from ensconce.kube.create.record import Record
from ensconce.kube.create.settings import make_settings
from ensconce.kube.names import NAMESPACE, Resource

__all__ = ["MINIMUM", "PERMISSIONS", "Existing", "ExistingSettings"]

MINIMUM = (1, 26)  # the oldest kubelet whose interfaces the tests' cluster shares: v1beta1, apply

# what an installation creates: (group, resource, in a namespace)
PERMISSIONS = (
    ("", "namespaces", False),
    ("", "serviceaccounts", True),
    ("", "configmaps", True),
    ("", "secrets", True),
    ("", "services", True),
    ("apps", "daemonsets", True),
    ("apps", "deployments", True),
    ("rbac.authorization.k8s.io", "roles", True),
    ("rbac.authorization.k8s.io", "rolebindings", True),
    ("rbac.authorization.k8s.io", "clusterroles", False),
    ("rbac.authorization.k8s.io", "clusterrolebindings", False),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", False),
    ("node.k8s.io", "runtimeclasses", False),
)

# DaemonSets that give out the same resources: Alibaba's, Intel's by hand and by operator, AKS's
_PLUGINS = re.compile(r"(^|/)(intel-sgx-plugin|sgx-plugin|sgx-device-plugin(-ds)?)([:@]|$)")

_STEPS = tuple(
    Step(name, what, why, changes=False)
    for name, what, why in (
        ("reach", "reach the cluster and read its nodes", "nothing follows without"),
        ("permissions", "ask what you may do there", "half an installation helps nobody"),
        ("plugins", "look for other SGX device plugins", "a resource has one plugin on a node"),
    )
)


@dataclass(frozen=True, slots=True)
class ExistingSettings:
    """Which cluster: a kubeconfig, kubectl's own by default, and one of its contexts."""

    kubeconfig: str | None = None
    context: str | None = None


class Existing:
    """The provider; see the module."""

    kind = "existing"

    def __init__(self, name: str, choice: ExistingSettings) -> None:
        self.name = name
        self.choice = choice

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> "Existing":
        """Return the provider for plain settings; a kubeconfig's path is made absolute."""
        known = make_settings(ExistingSettings, values, "existing")
        named = known.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        return cls(name, ExistingSettings(str(Path(named).expanduser().absolute()), known.context))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings as the record keeps them."""
        return {key: value for key, value in asdict(self.choice).items() if value is not None}

    def steps(self) -> tuple[Step, ...]:
        """Return the three checks."""
        return _STEPS

    def notes(self) -> tuple[str, ...]:
        """Say that nothing is changed."""
        return ("nothing on the cluster is changed; `ensconce cluster install` does that",)

    def apply(self, step: str, record: Record) -> str:
        """Do one check."""
        act: Callable[[Client, Record], str] = {
            "reach": _reach,
            "permissions": _permissions,
            "plugins": _plugins,
        }[step]
        with self._client() as client:
            return act(client, record)

    def removals(self, record: Record) -> tuple[Step, ...]:  # noqa: ARG002  # nothing was made
        """Return nothing: the record alone goes."""
        return ()

    def remove(self, step: str, record: Record) -> str:  # noqa: ARG002  # nothing was made
        """Refuse: there is nothing to remove."""
        raise ConfigError(f"an existing cluster has no step {step}")

    @contextmanager
    def _client(self) -> Iterator[Client]:
        """Speak with the cluster; errors are one sentence."""
        try:
            config = KubeConfig.from_file(str(self.choice.kubeconfig)).get(self.choice.context)
            if config is None:
                raise ConfigError(f"{self.choice.kubeconfig} names no current context; set one")
            with Client(config=config, lazy=False) as client:
                yield client
        except KubeconfigError as error:
            raise ConfigError(f"{self.choice.kubeconfig} is of no use: {error}") from error
        except ApiError as error:
            raise ServiceError(
                f"the cluster refused ({error.status.message}); use a kubeconfig that may read "
                "nodes and DaemonSets",
                status=error.status.code or 0,
            ) from error
        except httpx2.HTTPError as error:
            raise ServiceError(
                f"the cluster of {self.choice.kubeconfig} gives no answer ({error}); check that "
                "its API server is reachable from here"
            ) from error


def _reach(client: Client, record: Record) -> str:
    """Read the nodes; note versions and what of SGX they show."""
    nodes = [node for node in client.list(Node) if node.status and node.status.nodeInfo]
    infos = {str(node.metadata and node.metadata.name): node for node in nodes}
    if not infos:
        raise PolicyError("the cluster has no nodes; add some and run this again")
    fit, sgx, versions = [], [], set()
    for name, node in infos.items():
        info = node.status.nodeInfo  # type: ignore[union-attr]  # kept above
        versions.add(info.kubeletVersion)  # type: ignore[union-attr]
        if (info.operatingSystem, info.architecture) == ("linux", "amd64"):  # type: ignore[union-attr]
            fit.append(name)
        if any(each in (node.status.capacity or {}) for each in Resource):  # type: ignore[union-attr]
            sgx.append(name)
    if not fit:
        raise PolicyError("no node runs Linux on x86-64, which SGX and its emulation need")
    oldest = min(versions, key=_version)
    if _version(oldest) < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        raise PolicyError(f"a node's kubelet is {oldest}; upgrade the cluster to {wanted} or later")
    record.note(nodes=sorted(infos), usable=sorted(fit), sgx=sorted(sgx), kubelet=oldest)
    return f"{len(infos)} nodes, {len(fit)} of them usable, kubelets {oldest} or later"


def _version(text: str) -> tuple[int, int]:
    """Return the two numbers of a version like v1.34.3-aliyun.1."""
    match = re.match(r"v?(\d{1,4})\.(\d{1,4})", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _permissions(client: Client, record: Record) -> str:
    """Ask the cluster whether the installation's objects may be made; name all that may not."""
    denied = []
    for group, resource, namespaced in PERMISSIONS:
        for verb in ("create", "patch", "delete"):
            attributes = ResourceAttributes(
                group=group, resource=resource, verb=verb, namespace=NAMESPACE if namespaced else ""
            )
            spec = SelfSubjectAccessReviewSpec(resourceAttributes=attributes)
            answer = client.create(SelfSubjectAccessReview(spec=spec))
            if not (answer.status and answer.status.allowed):
                denied.append(f"{verb} {resource}")
    if denied:
        raise PolicyError(
            f"you may not {', '.join(denied)}; use a kubeconfig of a cluster administrator"
        )
    record.note(permitted=True)
    return f"all {3 * len(PERMISSIONS)} permissions are there"


def _plugins(client: Client, record: Record) -> str:
    """Note the DaemonSets of other SGX device plugins."""
    found = []
    for each in client.list(DaemonSet, namespace="*"):
        if each.metadata is None or each.metadata.namespace == NAMESPACE:
            continue
        pod = each.spec.template.spec
        images = [str(container.image) for container in pod.containers] if pod else []
        if any(_PLUGINS.search(text) for text in [str(each.metadata.name), *images]):
            found.append(f"{each.metadata.namespace}/{each.metadata.name}")
    record.note(plugins=found)
    if found:
        return f"{', '.join(found)}; `ensconce cluster takeover` moves the cluster from there"
    return "none; next: `ensconce cluster install`"
