# SPDX-License-Identifier: Apache-2.0
"""A pod's containers as an admission webhook sees them: names and SGX resources, checked.

A pod comes from whoever reaches the webhook, so nothing in it is taken for granted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ensconce.errors import FormatError
from ensconce.kube.names import Resource
from ensconce.kube.webhook.policy import EPC_UNITS
from ensconce.quantity import parse_quantity

__all__ = ["Container", "containers", "items", "mapping", "text"]

_SGX = frozenset(Resource)


@dataclass(frozen=True, slots=True)
class Container:
    """A container. `path`: its JSON pointer; `sgx`: what it asks for; `stays`: as long as the pod.

    `starts` says whether it starts before the others (an init container). `epc` is in bytes, once
    no more than one name for it is left.
    """

    path: str
    name: str
    fields: Mapping[str, Any]
    sgx: Mapping[Resource, int]
    starts: bool
    stays: bool
    epc: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the EPC."""
        sizes = (count * EPC_UNITS.get(name, 0) for name, count in self.sgx.items())
        object.__setattr__(self, "epc", max(sizes, default=0))

    def said(self) -> str:
        """Return how a message names it."""
        return f"{'init container' if self.starts else 'container'} {self.name!r}"


def containers(pod: Mapping[str, Any]) -> list[Container]:
    """Return a pod's containers, those that start first first; FormatError if it is none."""
    spec = mapping(pod, "spec")
    return [*_of(spec, "initContainers"), *_of(spec, "containers")]


def _of(spec: Mapping[str, Any], kind: str) -> Iterator[Container]:
    """Yield the containers of one list."""
    starts = kind == "initContainers"
    for number, fields in enumerate(items(spec, kind)):
        name = text(fields, "name")
        stays = not starts or text(fields, "restartPolicy") == "Always"
        sgx = _resources(f"container {name!r}", mapping(fields, "resources"))
        yield Container(f"/spec/{kind}/{number}", name, fields, sgx, starts, stays)


def _resources(said: str, resources: Mapping[str, Any]) -> dict[Resource, int]:
    """Return the SGX resources that a container asks for; limits and requests have to agree."""
    limits, requests = mapping(resources, "limits"), mapping(resources, "requests")
    found = {}
    for name in _SGX & (limits.keys() | requests.keys()):
        if name not in limits:
            raise FormatError(f"{said} requests {name} without a limit; set the limit to the same")
        found[Resource(name)] = limit = _number(said, name, limits[name])
        if name in requests and _number(said, name, requests[name]) != limit:
            raise FormatError(
                f"{said} has {limits[name]} of {name} as its limit and requests {requests[name]}; "
                "the two have to be equal, so leave the request out"
            )
    return found


def _number(said: str, name: str, value: object) -> int:
    """Return a resource's number."""
    try:
        return parse_quantity(value)
    except FormatError as error:
        raise FormatError(f"{said} asks for {name}, and {error}") from error


def mapping(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a field that is an object, empty where it is missing; FormatError."""
    return _field(parent, name, dict) or {}


def items(parent: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return a field that is a list of objects, empty where it is missing; FormatError."""
    found: list[Any] = _field(parent, name, list) or []
    if not all(isinstance(item, dict) for item in found):
        raise FormatError(f"{name!r} in the pod has something else than objects in it")
    return found


def text(parent: Mapping[str, Any], name: str) -> str:
    """Return a field that is a text, empty where it is missing; FormatError."""
    return _field(parent, name, str) or ""


def _field(parent: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a field of a kind or None."""
    value = parent.get(name)
    if value is not None and not isinstance(value, kind):
        raise FormatError(f"{name!r} in the pod is no {kind.__name__}")
    return value
