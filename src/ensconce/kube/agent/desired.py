# SPDX-License-Identifier: Apache-2.0
"""What a node should say of itself to the cluster: conditions, labels, taint and capacity.

It follows from facts alone: nothing here reads or writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ensconce.kube.names import (
    NFD_SGX_LABEL,
    PLATFORM_LABEL,
    SGX_CAPABLE_LABEL,
    TEE_CATEGORY_LABEL,
    Condition,
    Platform,
    TeeCategory,
)

__all__ = ["LABELS", "Attestation", "Desired", "Facts", "Said", "desired"]

LABELS = (PLATFORM_LABEL, TEE_CATEGORY_LABEL, SGX_CAPABLE_LABEL, NFD_SGX_LABEL)

_NO_SGX = "NoSgx"


@dataclass(frozen=True, slots=True)
class Attestation:
    """Whether AESM answers, as a word and a sentence."""

    ready: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the agent knows of its node.

    `ready`, `reason` and `message` are the device plugin's; `node_capacity` are its figures for
    the node's status. `platform_serves` says whether the emulated platform answers.
    """

    platform: Platform
    ready: bool
    reason: str
    message: str
    category: TeeCategory = TeeCategory.SGX2
    node_capacity: Mapping[str, int] = field(default_factory=dict)
    platform_serves: bool = False
    attestation: Attestation = Attestation(
        ready=False, reason="NotProbed", message="AESM was not asked yet"
    )


@dataclass(frozen=True, slots=True)
class Said:
    """One condition of the node."""

    type: Condition
    status: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Desired:
    """What the node's object should have."""

    labels: Mapping[str, str]
    tainted: bool
    conditions: tuple[Said, ...]
    capacity: Mapping[str, str]


def desired(facts: Facts) -> Desired:
    """Return what the node should say."""
    return Desired(
        labels=_labels(facts),
        tainted=facts.platform is Platform.EMULATED,
        conditions=(_ready(facts), _enforced(facts), _attests(facts)),
        capacity={name: str(figure) for name, figure in facts.node_capacity.items()},
    )


def _labels(facts: Facts) -> dict[str, str]:
    """Return the labels; an emulated node has those of SGX too, as manifests select by them."""
    labels = {PLATFORM_LABEL: str(facts.platform)}
    if facts.platform is not Platform.NONE:
        labels[TEE_CATEGORY_LABEL] = str(facts.category)
        labels[SGX_CAPABLE_LABEL] = labels[NFD_SGX_LABEL] = "true"
    return labels


def _ready(facts: Facts) -> Said:
    if facts.platform is Platform.EMULATED and facts.ready and not facts.platform_serves:
        return Said(
            Condition.READY,
            False,  # noqa: FBT003
            "PlatformDown",
            "the emulated platform does not answer; see the log of the pod's container `platform`",
        )
    return Said(Condition.READY, facts.ready, facts.reason, facts.message)


def _enforced(facts: Facts) -> Said:
    """Say by what a container is held to the EPC that it asked for."""
    if facts.platform is Platform.NONE:
        status, reason, message = False, _NO_SGX, "there is no EPC here"
    elif facts.platform is Platform.EMULATED:
        status, reason = True, "EmulatedLimit"
        message = "the emulated platform gives each container no more EPC than it asked for"
    else:
        status, reason = False, "AdmissionOnly"
        message = (
            "pods are counted when they are scheduled, and none is held to it: the agent sets no "
            "limits in the kernel's misc cgroup"
        )
    return Said(Condition.EPC_ENFORCED, status, reason, message)


def _attests(facts: Facts) -> Said:
    if facts.platform is Platform.NONE:
        return Said(
            Condition.ATTESTATION_READY,
            False,  # noqa: FBT003
            _NO_SGX,
            "there are no enclaves to be quoted here",
        )
    found = facts.attestation
    return Said(Condition.ATTESTATION_READY, found.ready, found.reason, found.message)
