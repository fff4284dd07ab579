# SPDX-License-Identifier: Apache-2.0
"""Plans, and the one loop that carries them out.

1. A plan follows from settings alone: nothing is asked and nothing is touched.
2. A step that is done is not done again; one that was begun finds what it made and goes on.
3. A step is recorded as done after it, and what it makes is recorded, or marked as ours, before.
4. A deletion takes the steps back in reverse, each for what the record or the mark says is ours.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ensconce.errors import ConfigError
from ensconce.kube.create.record import Phase, Record

__all__ = ["Plan", "Provider", "Step", "create", "delete", "deletion_plan"]

_log = logging.getLogger("ensconce.kube.create")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: `name` stands in the record; `what` and `why` are for a person.

    A step that `changes` nothing is a check or a wait.
    """

    name: str
    what: str
    why: str
    changes: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do, in order; `notes` is what to know before."""

    cluster: str
    provider: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()


class Provider(Protocol):
    """A way to come by a cluster."""

    kind: str

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the settings as plain values, as the record keeps them."""

    def steps(self) -> tuple[Step, ...]:
        """Return what creation takes, from the settings alone."""

    def notes(self) -> tuple[str, ...]:
        """Return what to know before: costs, limits."""

    def apply(self, step: str, record: Record) -> str:
        """Do a step that may have been begun before; return what came of it."""

    def removals(self, record: Record) -> tuple[Step, ...]:
        """Return what deletion takes, from the record alone."""

    def remove(self, step: str, record: Record) -> str:
        """Take a step back, in part done or not; return what came of it."""


def create(provider: Provider, record: Record) -> None:
    """Carry a plan out, from where an earlier run left off."""
    check_same(provider, record)
    steps = provider.steps()
    record.save()
    for number, step in enumerate(steps, 1):
        if step.name in record.done:
            continue
        _log.info("[%d/%d] %s", number, len(steps), step.what)
        outcome = provider.apply(step.name, record)
        _log.info("      %s", outcome)
        record.done.append(step.name)
        record.save()
    record.phase = Phase.READY
    record.save()


def check_same(provider: Provider, record: Record) -> None:
    """Refuse to go on with other settings than those that the creation was begun with."""
    if record.phase is Phase.DELETING:
        raise ConfigError(
            f"cluster {record.name} is being deleted; end that with `ensconce cluster delete "
            f"{record.name}` before you create one of this name"
        )
    given = {"provider": provider.kind} | dict(provider.settings)
    begun = {"provider": record.provider} | record.settings
    other = sorted(key for key in given.keys() | begun.keys() if given.get(key) != begun.get(key))
    if other:
        raise ConfigError(
            f"cluster {record.name} was begun with another {', '.join(other)}; repeat what it was "
            f"begun with, or delete it first"
        )


def deletion_plan(provider: Provider, record: Record) -> Plan:
    """Return what is to be removed."""
    return Plan(record.name, record.provider, provider.removals(record))


def delete(provider: Provider, record: Record) -> None:
    """Remove what was made, from where an earlier run left off, and forget the cluster."""
    steps = provider.removals(record)
    record.phase = Phase.DELETING
    record.save()
    for number, step in enumerate(steps, 1):
        if step.name in record.undone:
            continue
        _log.info("[%d/%d] %s", number, len(steps), step.what)
        outcome = provider.remove(step.name, record)
        _log.info("      %s", outcome)
        record.undone.append(step.name)
        record.save()
    record.forget()
