# SPDX-License-Identifier: Apache-2.0
"""The admission webhook: what makes pods with SGX resources run, or says why they can't.

`mutate` is the whole of its behaviour and does no I/O. The webhook has no access to the cluster.
"""

from ensconce.kube.webhook.certificate import Authority, Issued
from ensconce.kube.webhook.configuration import (
    EMULATED_PATH,
    MATCH_CONDITION,
    MUTATE_PATH,
    NAME,
    SERVICE,
    VALIDATE_PATH,
    configurations,
)
from ensconce.kube.webhook.mutate import Mutation, Refusal, mutate, validate
from ensconce.kube.webhook.policy import Policy, Where, parse_policy
from ensconce.kube.webhook.review import Review, answer, parse_review

__all__ = [
    "EMULATED_PATH",
    "MATCH_CONDITION",
    "MUTATE_PATH",
    "NAME",
    "SERVICE",
    "VALIDATE_PATH",
    "Authority",
    "Issued",
    "Mutation",
    "Policy",
    "Refusal",
    "Review",
    "Where",
    "answer",
    "configurations",
    "mutate",
    "parse_policy",
    "parse_review",
    "validate",
]
