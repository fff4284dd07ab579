# SPDX-License-Identifier: Apache-2.0
"""How API servers are told of the webhook: only pods with SGX resources ever reach it.

Whether a namespace allows the emulated processor is told by the path: a review names the namespace
and not its labels, and with selectors the webhook needs no access to the cluster to find out.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from ensconce.kube.names import EMULATED_ALLOWED_LABEL, NAMESPACE, Resource

__all__ = [
    "EMULATED_PATH",
    "MATCH_CONDITION",
    "MUTATE_PATH",
    "NAME",
    "SERVICE",
    "VALIDATE_PATH",
    "configurations",
]

NAME = "ensconce-webhook"
SERVICE = "ensconce-webhook"
MUTATE_PATH = "/mutate--v1-pod"  # the same as Intel's
VALIDATE_PATH = "/validate--v1-pod"
EMULATED_PATH = "/emulated"  # before either, for namespaces that allow the emulated processor
_TIMEOUT = 5  # seconds

_ASKS = (
    "(object.spec.containers + object.spec.?initContainers.orValue([])).exists(c, "
    f"{json.dumps([str(name) for name in Resource])}.exists(name, "
    "name in c.?resources.?limits.orValue({}) || name in c.?resources.?requests.orValue({})))"
)
# An API server reinvokes a webhook only if it was invoked before, so pods that MarbleRun's injector
# is about to give SGX resources have to come here too, whichever of the two is first.
_WILL_ASK = (
    "('marblerun/marbletype' in object.metadata.?labels.orValue({}) && "
    "object.metadata.labels[?'marblerun/resource-injection'].orValue('') != 'disabled')"
)
MATCH_CONDITION = f"{_ASKS} || {_WILL_ASK}"  # CEL


def configurations(
    ca: bytes = b"", *, namespace: str = NAMESPACE, url: str = ""
) -> list[dict[str, Any]]:
    """Return a MutatingWebhookConfiguration and a ValidatingWebhookConfiguration.

    `ca`: the certificate (PEM) that signs the webhook's. `url`: where a webhook outside the cluster
    listens, instead of the service in `namespace`.
    """
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}WebhookConfiguration",
            "metadata": {"name": NAME},
            "webhooks": [
                _webhook(name, _client(prefix + path, ca, namespace, url), operator) | extra
                for name, prefix, operator in (
                    ("sgx-pods.ensconce.dev", "", "NotIn"),
                    ("emulated-sgx-pods.ensconce.dev", EMULATED_PATH, "In"),
                )
            ],
        }
        for kind, path, extra in (
            ("Mutating", MUTATE_PATH, {"reinvocationPolicy": "IfNeeded"}),
            ("Validating", VALIDATE_PATH, {}),
        )
    ]


def _webhook(name: str, client: Mapping[str, Any], operator: str) -> dict[str, Any]:
    """Return a webhook for the namespaces with or without the label."""
    selector = {"key": EMULATED_ALLOWED_LABEL, "operator": operator, "values": ["true"]}
    return {
        "name": name,
        "clientConfig": client,
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }
        ],
        "namespaceSelector": {"matchExpressions": [selector]},
        "matchConditions": [{"name": "asks-for-sgx", "expression": MATCH_CONDITION}],
        "matchPolicy": "Equivalent",
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": _TIMEOUT,
        "admissionReviewVersions": ["v1"],
    }


def _client(path: str, ca: bytes, namespace: str, url: str) -> dict[str, Any]:
    """Return how an API server reaches a path of the webhook."""
    trusted = {"caBundle": base64.b64encode(ca).decode()} if ca else {}
    if url:
        return {"url": url.rstrip("/") + path} | trusted
    service = {"name": SERVICE, "namespace": namespace, "path": path, "port": 443}
    return {"service": service} | trusted
