# SPDX-License-Identifier: Apache-2.0
"""What an admission webhook does to a pod with SGX resources, as a function without I/O.

1. Limits and requests of SGX resources agree and are whole numbers, as Intel's webhook wants them.
2. EPC is asked for under one name that nodes offer, so that nothing counts it twice.
3. Every container with EPC gets `sgx.intel.com/enclave`, which brings it the device. The one that
   the quote-provider annotation names gets `sgx.intel.com/provision` too.
4. Resources that let a container read platform-wide keys are for those that the policy names.
5. With `aesmd` as quote provider, containers with EPC get AESM's folder and SGX_AESM_ADDR=1.
6. The annotation `sgx.intel.com/epc` says what the scheduler counts for the pod.
7. The pod may run on emulated nodes if its namespace allows that, and else can't.

A pod without SGX resources is left alone. What comes out goes in again without a change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ensconce.errors import FormatError, PolicyError
from ensconce.kube.names import (
    EMULATED_ALLOWED_LABEL,
    EPC_ANNOTATION,
    QUOTE_PROVIDER_ANNOTATION,
    Resource,
)
from ensconce.kube.webhook.aesm import AESMD, aesm_fields, aesm_volume
from ensconce.kube.webhook.container import Container, containers, items, mapping, text
from ensconce.kube.webhook.emulated import emulated_fields
from ensconce.kube.webhook.policy import EPC_UNITS, Policy, Where
from ensconce.quantity import binary_quantity

__all__ = ["Mutation", "Operation", "Refusal", "mutate", "pod_epc", "validate"]

Operation = dict[str, Any]  # of a JSON patch (RFC 6902)
_MOST = (1 << 63) - 1
_GUARDED = ("/resources", "/affinity")  # what devices and nodes depend on
_PLATFORM_WIDE = (Resource.PROVISION, Resource.QE, Resource.REGISTRATION)


@dataclass(frozen=True, slots=True)
class Mutation:
    """The pod may be created once `patch` is applied to it; `warnings` are for its author."""

    patch: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The pod may not be created. `code` is HTTP's: 422 if it is wrong, 403 if not allowed."""

    message: str
    code: int


def mutate(pod: Mapping[str, Any], where: Where, policy: Policy) -> Mutation | Refusal:
    """Return what makes a pod run enclaves where it is created, or why it can't be."""
    try:
        return _Pod(pod, where, policy).mutation()
    except FormatError as error:
        return Refusal(str(error), 422)
    except PolicyError as error:
        return Refusal(str(error), 403)


def validate(pod: Mapping[str, Any], where: Where, policy: Policy) -> Mutation | Refusal:
    """Return whether a pod is as `mutate` leaves it, once nothing can change it any more.

    Other webhooks may come after this one: what they add has to meet the policy as well.
    """
    result = mutate(pod, where, policy)
    if isinstance(result, Refusal):
        return result
    for operation in result.patch:
        if operation["path"].endswith(_GUARDED):
            return Refusal(
                f"the pod's {operation['path']} was changed by another admission webhook after "
                "ensconce's; have that webhook leave SGX resources alone, or give its "
                "configuration a name before ensconce's",
                403,
            )
    return Mutation()


def pod_epc(listed: Sequence[Container]) -> int:
    """Return the bytes of EPC that the scheduler counts for a pod with containers.

    Those that start first and end count while they run, beside those that stay.
    """
    staying = peak = 0
    for each in listed:
        peak = max(peak, staying + each.epc)
        staying += each.epc if each.stays else 0
    return max(peak, staying)


class _Pod:
    """One pod on its way through the steps."""

    def __init__(self, pod: Mapping[str, Any], where: Where, policy: Policy) -> None:
        self._where, self._policy = where, policy
        self._containers = containers(pod)
        self._spec, self._metadata = mapping(pod, "spec"), mapping(pod, "metadata")
        self._annotations = mapping(self._metadata, "annotations")
        self._provider = text(self._annotations, QUOTE_PROVIDER_ANNOTATION)
        self._patch: list[Operation] = []
        self._warnings: list[str] = []

    def mutation(self) -> Mutation:
        """Return what to change; FormatError or PolicyError."""
        if not any(each.sgx for each in self._containers):
            return Mutation()
        wanted = [self._complete(self._in_one_name(each)) for each in self._containers]
        for before, after in zip(self._containers, wanted, strict=True):
            if before.sgx != after.sgx:
                self._set(f"{before.path}/resources", _resources(before, after))
        self._containers = wanted
        self._check_provider()
        if self._provider == AESMD:
            self._connect_aesm()
        self._annotate(pod_epc(wanted))
        for name, value in emulated_fields(self._spec, self._where).items():
            self._set(f"/spec/{name}", value)
        if self._policy.emulated_nodes and not self._where.emulated:
            self._warnings.append(
                f"namespace {self._where.namespace!r} is not labelled "
                f"{EMULATED_ALLOWED_LABEL}=true, so this pod does not run on nodes that emulate "
                "SGX, only on those that have it"
            )
        return Mutation(tuple(self._patch), tuple(self._warnings))

    def _in_one_name(self, each: Container) -> Container:
        """Return a container that asks for EPC under one name, which nodes offer (step 2)."""
        asked = {name: each.sgx[name] for name in EPC_UNITS if name in each.sgx}
        if not asked:
            return each
        sizes = {_mib(count * EPC_UNITS[name]) for name, count in asked.items()}
        if len(sizes) > 1:
            both = " and ".join(f"{count} of {name}" for name, count in asked.items())
            raise FormatError(
                f"{each.said()} asks for {both}, which name the same memory and differ; keep one"
            )
        offered = [name for name in asked if name in self._policy.epc]
        chosen = offered[0] if offered else Resource(self._policy.epc[0])
        size = max(count * EPC_UNITS[name] for name, count in asked.items())
        if size > _MOST:
            raise FormatError(f"{each.said()} asks for {size} bytes of EPC, more than there can be")
        count = asked.get(chosen, -(-size // EPC_UNITS[chosen]))
        if set(asked) != {chosen}:
            others = ", ".join(name for name in asked if name != chosen)
            self._warnings.append(
                f"{each.said()}: {others} is counted as {chosen}: {_quantity(chosen, count)}, "
                "which is what this cluster offers"
            )
        rest = {name: number for name, number in each.sgx.items() if name not in asked}
        return replace(each, sgx=rest | {chosen: count})

    def _complete(self, each: Container) -> Container:
        """Return a container with the devices that it needs and may have (steps 3 and 4)."""
        sgx = dict(each.sgx)
        if each.epc:
            sgx[Resource.ENCLAVE] = sgx.get(Resource.ENCLAVE) or 1
            if each.name == self._provider:
                sgx[Resource.PROVISION] = sgx.get(Resource.PROVISION) or 1
        elif self._policy.require_epc:
            for name in (Resource.ENCLAVE, Resource.PROVISION):
                if sgx.get(name):
                    raise FormatError(
                        f"{each.said()} asks for {name} and for no EPC, so nothing would count "
                        f"what its enclaves take; add {self._policy.epc[0]} to its limits"
                    )
        for name in _PLATFORM_WIDE:
            if sgx.get(name):
                self._check_provision(each, name)
        return replace(each, sgx=sgx)

    def _check_provision(self, each: Container, name: Resource) -> None:
        """Refuse a resource that is for a few service accounts only."""
        account = text(self._spec, "serviceAccountName") or "default"
        namespace = self._where.namespace
        if self._policy.may_provision(namespace, account):
            return
        how = "asks for" if each.sgx.get(name) else "is the quote provider and so gets"
        raise PolicyError(
            f"{each.said()} {how} {name}, which lets it read keys that identify the machine, and "
            f"service account {account!r} of namespace {namespace!r} may not; let it quote through "
            f"AESM with the annotation {QUOTE_PROVIDER_ANNOTATION}: {AESMD}, or have "
            f'"{namespace}/{account}" added to provision_pods'
        )

    def _check_provider(self) -> None:
        """Warn of a quote provider that is not there."""
        users = [each.name for each in self._containers if each.epc]
        if self._provider and self._provider != AESMD and self._provider not in users:
            self._warnings.append(
                f"{QUOTE_PROVIDER_ANNOTATION} is {self._provider[:63]!r}, and no container with "
                f"EPC has that name; it may be one of them ({', '.join(users)}) or {AESMD}"
            )

    def _connect_aesm(self) -> None:
        """Give containers with EPC a way to AESM (step 5)."""
        users = [each for each in self._containers if each.epc]
        for each in users:
            for name, added in aesm_fields(each).items():
                self._extend(f"{each.path}/{name}", items(each.fields, name), added)
        volume = aesm_volume(users, items(self._spec, "volumes"))
        if volume:
            self._extend("/spec/volumes", items(self._spec, "volumes"), volume)

    def _annotate(self, size: int) -> None:
        """State the pod's EPC (step 6)."""
        stated = binary_quantity(size)
        if not size or self._annotations.get(EPC_ANNOTATION) == stated:
            return
        if not self._metadata:
            self._set("/metadata", {"annotations": {EPC_ANNOTATION: stated}})
        elif not self._annotations:
            self._set("/metadata/annotations", {EPC_ANNOTATION: stated})
        else:
            self._set(f"/metadata/annotations/{EPC_ANNOTATION.replace('/', '~1')}", stated)

    def _set(self, path: str, value: object) -> None:
        """Set a field, whether it is there or not."""
        self._patch.append({"op": "add", "path": path, "value": value})

    def _extend(self, path: str, before: Sequence[object], added: Sequence[object]) -> None:
        """Add to a list, which may be missing."""
        if not before:
            self._set(path, list(added))
            return
        for item in added:
            self._set(f"{path}/-", item)


def _resources(before: Container, after: Container) -> dict[str, Any]:
    """Return a container's resources with its SGX resources as they shall be."""
    old = mapping(before.fields, "resources")
    result = dict(old)
    for kind in ("limits", "requests"):
        given = mapping(old, kind)
        kept = {name: value for name, value in given.items() if name not in before.sgx}
        result[kind] = kept | {
            str(name): given[name]
            if name in given and before.sgx.get(name) == count
            else _quantity(name, count)
            for name, count in after.sgx.items()
        }
    return result


def _quantity(name: Resource, count: int) -> str:
    """Return a resource's number as its users write it."""
    return binary_quantity(count) if name is Resource.EPC_INTEL else str(count)


def _mib(size: int) -> int:
    """Return bytes in MiB, rounded up."""
    return -(-size >> 20) if size >= 0 else 0
