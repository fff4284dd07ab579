# SPDX-License-Identifier: Apache-2.0
"""AdmissionReview (admission.k8s.io/v1): what an API server asks a webhook, and the answer."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ensconce.errors import FormatError
from ensconce.kube.webhook.mutate import Mutation, Refusal

__all__ = ["Review", "answer", "parse_review"]

_VERSION, _KIND = "admission.k8s.io/v1", "AdmissionReview"
_LONGEST_UID, _LONGEST_NAMESPACE = 128, 63
_MOST_WARNINGS, _LONGEST_WARNING = 16, 256  # what API servers pass on


@dataclass(frozen=True, slots=True)
class Review:
    """A pod that someone wants to create in a namespace. `uid` is the question's."""

    uid: str
    namespace: str
    pod: Mapping[str, Any]


def parse_review(body: bytes) -> Review:
    """Return the pod that an AdmissionReview asks about; FormatError if it asks anything else."""
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the AdmissionReview is no JSON: {error}", source="review") from error
    request = review.get("request") if isinstance(review, dict) else None
    if not isinstance(request, dict) or (review.get("apiVersion"), review.get("kind")) != (
        _VERSION,
        _KIND,
    ):
        raise FormatError(f"the body is no {_KIND} of {_VERSION} with a request", source="review")
    uid = _text(request, "uid", _LONGEST_UID)
    namespace = _text(request, "namespace", _LONGEST_NAMESPACE)
    kind = request.get("kind")
    asked = (kind, request.get("operation"), request.get("subResource") or "")
    if asked != ({"group": "", "version": "v1", "kind": "Pod"}, "CREATE", ""):
        raise FormatError(
            "the AdmissionReview is not about the creation of a pod (v1); the webhook's "
            "configuration should have the rules that `ensconce webhook manifest` prints",
            source="review",
        )
    pod = request.get("object")
    if not isinstance(pod, dict):
        raise FormatError("the AdmissionReview has no object", source="review")
    return Review(uid, namespace, pod)


def answer(review: Review, result: Mutation | Refusal) -> bytes:
    """Return the AdmissionReview that answers a question."""
    response: dict[str, Any] = {"uid": review.uid, "allowed": isinstance(result, Mutation)}
    if isinstance(result, Refusal):
        reason = "Forbidden" if result.code == 403 else "Invalid"
        response["status"] = {"code": result.code, "reason": reason, "message": result.message}
    else:
        if result.patch:
            patch = json.dumps(result.patch).encode()
            response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
        if result.warnings:
            some = result.warnings[:_MOST_WARNINGS]
            response["warnings"] = [warning[:_LONGEST_WARNING] for warning in some]
    return json.dumps({"apiVersion": _VERSION, "kind": _KIND, "response": response}).encode()


def _text(request: Mapping[str, Any], name: str, longest: int) -> str:
    """Return a field of a request that is a short text, which may not be empty."""
    value = request.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise FormatError(f"the AdmissionReview's {name} is no text of 1 to {longest} characters")
    return value
