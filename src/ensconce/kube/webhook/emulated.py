# SPDX-License-Identifier: Apache-2.0
"""Keep pods off emulated nodes, which protect nothing, unless their namespace allows them.

The taint alone would not: a pod may tolerate every taint, or name its node and meet no scheduler.
"""

from collections.abc import Mapping
from typing import Any

from ensconce.errors import PolicyError
from ensconce.kube.names import EMULATED_ALLOWED_LABEL, EMULATED_TAINT, PLATFORM_LABEL, Platform
from ensconce.kube.webhook.container import items, mapping, text
from ensconce.kube.webhook.policy import Where

__all__ = ["emulated_fields"]

_EFFECT = "NoSchedule"
_TOLERATION = {"key": EMULATED_TAINT, "operator": "Equal", "value": "true", "effect": _EFFECT}
_ELSEWHERE = {"key": PLATFORM_LABEL, "operator": "NotIn", "values": [Platform.EMULATED.value]}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def emulated_fields(spec: Mapping[str, Any], where: Where) -> dict[str, object]:
    """Return the fields of a pod's spec that have to change; PolicyError."""
    tolerations = items(spec, "tolerations")
    if where.emulated:
        if any(map(_tolerates, tolerations)):
            return {}
        return {"tolerations": [*tolerations, _TOLERATION]}
    if any(text(each, "key") == EMULATED_TAINT for each in tolerations):
        raise PolicyError(
            f"the pod tolerates {EMULATED_TAINT}, and namespace {where.namespace!r} does not allow "
            "the emulated processor, which protects nothing; take the toleration out, or label "
            f"the namespace {EMULATED_ALLOWED_LABEL}=true"
        )
    if any(map(_tolerates, tolerations)) or text(spec, "nodeName"):
        return _kept_off(spec)
    return {}


def _tolerates(toleration: Mapping[str, Any]) -> bool:
    """Return whether a toleration holds for the taint of emulated nodes."""
    exists = text(toleration, "operator") == "Exists"
    if text(toleration, "effect") not in ("", _EFFECT):
        return False
    if text(toleration, "key") != EMULATED_TAINT:
        return exists and not text(toleration, "key")
    return exists or text(toleration, "value") == "true"


def _kept_off(spec: Mapping[str, Any]) -> dict[str, object]:
    """Return the affinity of a pod that may be on every node but emulated ones."""
    affinity = mapping(spec, "affinity")
    node = mapping(affinity, "nodeAffinity")
    required = mapping(node, _REQUIRED)
    terms = items(required, "nodeSelectorTerms") or [{"matchExpressions": []}]
    kept = [_term(term) for term in terms]
    if kept == terms:
        return {}
    required = {**required, "nodeSelectorTerms": kept}
    return {"affinity": {**affinity, "nodeAffinity": {**node, _REQUIRED: required}}}


def _term(term: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a term that emulated nodes don't match. An empty one matches none, and stays empty."""
    expressions = items(term, "matchExpressions")
    if _ELSEWHERE in expressions or not term:
        return term
    return {**term, "matchExpressions": [*expressions, _ELSEWHERE]}
