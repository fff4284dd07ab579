# SPDX-License-Identifier: Apache-2.0
"""Creation of confidential clusters: plan, apply, resume, delete, by one of three providers.

A provider plans without touching anything. What was done and made stands in a record on disk,
written after each step and before each act that could not be found again, so that a run that
ends anywhere goes on where it ended, and a deletion removes what was made and nothing else.
"""

from ensconce.kube.create.plan import Plan, Provider, Step, create, delete, deletion_plan
from ensconce.kube.create.providers import PROVIDERS, provider_for, provider_of
from ensconce.kube.create.record import Phase, Record, Records, default_records

__all__ = [
    "PROVIDERS",
    "Phase",
    "Plan",
    "Provider",
    "Record",
    "Records",
    "Step",
    "create",
    "default_records",
    "delete",
    "deletion_plan",
    "provider_for",
    "provider_of",
]
