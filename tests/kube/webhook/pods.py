# SPDX-License-Identifier: Apache-2.0
"""Pods to order, and what a webhook makes of them."""

from collections.abc import Mapping
from typing import Any

import jsonpatch

from ensconce.kube.names import QUOTE_PROVIDER_ANNOTATION, Resource
from ensconce.kube.webhook import Mutation, Policy, Refusal, Where, mutate

INTEL = Policy(epc=(Resource.EPC_INTEL,), provision_pods=("trusted",))
HERE, TRUSTED, EMULATED = Where("team"), Where("trusted"), Where("lab", emulated=True)
Pod = dict[str, Any]


def container(name: str, resources: Mapping[Any, str] | None = None, **fields: Any) -> Pod:
    """Return a container, whose requests are its limits as API servers have it."""
    asked = {str(name): amount for name, amount in (resources or {}).items()}
    return {"name": name, "resources": {"limits": asked, "requests": dict(asked)}} | fields


def epc(name: str, amount: str = "1Mi", **fields: Any) -> Pod:
    """Return a container that asks for EPC as Intel's plugin has it."""
    return container(name, {Resource.EPC_INTEL: amount}, **fields)


def pod(*containers: Pod, quotes: str | None = None, **spec: Any) -> Pod:
    """Return a pod. `quotes`: its quote provider."""
    metadata: Pod = {"name": "pod"}
    if quotes is not None:
        metadata["annotations"] = {QUOTE_PROVIDER_ANNOTATION: quotes}
    return {"metadata": metadata, "spec": {"containers": list(containers)} | spec}


def mutated(before: Pod, where: Where = HERE, policy: Policy = INTEL) -> Pod:
    """Return what becomes of a pod."""
    result = mutate(before, where, policy)
    assert isinstance(result, Mutation), result
    after: Pod = jsonpatch.apply_patch(before, list(result.patch))
    return after


def warned(before: Pod, where: Where = HERE, policy: Policy = INTEL) -> str:
    """Return what a pod's author is warned of."""
    result = mutate(before, where, policy)
    assert isinstance(result, Mutation), result
    return " ".join(result.warnings)


def refused(before: Pod, where: Where = HERE, policy: Policy = INTEL) -> str:
    """Return why a pod is refused."""
    result = mutate(before, where, policy)
    assert isinstance(result, Refusal), result
    return result.message


def limits(made: Pod, index: int = 0, kind: str = "containers") -> dict[str, str]:
    """Return a container's limits, once its requests are known to be the same."""
    resources = made["spec"][kind][index]["resources"]
    assert resources["limits"] == resources["requests"]
    found: dict[str, str] = resources["limits"]
    return found
