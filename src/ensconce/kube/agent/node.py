# SPDX-License-Identifier: Apache-2.0
"""The agent's own node in the cluster: what it has, what it should have, and the difference.

Labels, conditions and capacity are applied server-side under a field manager of the agent's, so
that what it no longer wants goes, and nobody else's is touched. Taints are one list to the API
server; it is replaced whole, and only if nobody has changed the node meanwhile.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from lightkube import ApiError, AsyncClient
from lightkube.models.core_v1 import EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event, Node, NodeStatus
from lightkube.types import PatchType

from ensconce.kube.agent.desired import LABELS, Desired, Said
from ensconce.kube.names import EMULATED_TAINT, Condition
from ensconce.quantity import parse_quantity

__all__ = ["MANAGER", "Reconciler"]

MANAGER = "ensconce-node-agent"
_HEARTBEAT = timedelta(minutes=5)
_FORM = "%Y-%m-%dT%H:%M:%SZ"
_TAINT = {"key": EMULATED_TAINT, "value": "true", "effect": "NoSchedule"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What of the node's object is the agent's business."""

    uid: str
    version: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, Any], ...]
    conditions: Mapping[str, Mapping[str, Any]]
    capacity: Mapping[str, str]


class Reconciler:
    """Brings one node's object to what it should be; every method may raise what lightkube does."""

    def __init__(self, client: AsyncClient, name: str, *, events: bool = True) -> None:
        self._client = client
        self._name = name
        self._events = events
        self._applied: tuple[str, ...] = ()

    async def reconcile(self, wanted: Desired) -> bool:
        """Write what differs; return whether anything did.

        The taint comes first: no pod may find an emulated node by its labels and not see it.
        """
        seen = _seen(await self._client.get(Node, self._name))
        taint = await self._taint(seen, wanted.tainted)
        labels = await self._label(seen, wanted.labels)
        status = await self._report(seen, wanted)
        return labels or taint or status

    async def clean(self) -> None:
        """Remove all that the agent has written."""
        seen = _seen(await self._client.get(Node, self._name))
        await self._taint(seen, wanted=False)
        await self._apply_labels({})
        await self._apply_status({})

    async def _label(self, seen: _Seen, wanted: Mapping[str, str]) -> bool:
        """Apply the labels where they differ."""
        if {name: seen.labels[name] for name in LABELS if name in seen.labels} == wanted:
            return False
        await self._apply_labels(wanted)
        return True

    async def _apply_labels(self, labels: Mapping[str, str]) -> None:
        """Have these labels of the agent's and no others."""
        body = _object(self._name) | {"metadata": {"name": self._name, "labels": dict(labels)}}
        await self._client.patch(
            Node, self._name, body, patch_type=PatchType.APPLY, field_manager=MANAGER, force=True
        )

    async def _taint(self, seen: _Seen, wanted: bool) -> bool:  # noqa: FBT001
        """Put the taint of an emulated node there, or take it away."""
        others = [taint for taint in seen.taints if taint.get("key") != EMULATED_TAINT]
        taints = [*others, _TAINT] if wanted else others
        if len(taints) == len(seen.taints):
            return False
        body = {"metadata": {"resourceVersion": seen.version}, "spec": {"taints": taints}}
        try:
            await self._client.patch(
                Node, self._name, body, patch_type=PatchType.MERGE, field_manager=MANAGER
            )
        except ApiError as error:
            if error.status.code != HTTPStatus.CONFLICT:
                raise
            _log.info("the node changed meanwhile")
            return await self._taint(_seen(await self._client.get(Node, self._name)), wanted)
        return True

    async def _report(self, seen: _Seen, wanted: Desired) -> bool:
        """Apply conditions and capacity where they differ, and tell of changes by events."""
        now = datetime.now(UTC)
        changed = [said for said in wanted.conditions if _differs(seen, said)]
        stale = any(_stale(seen, said, now) for said in wanted.conditions)
        figures = any(not _shows(seen, name, size) for name, size in wanted.capacity.items())
        gone = set(self._applied) - wanted.capacity.keys()
        if not (changed or stale or figures or gone):
            return False
        conditions = [_condition(seen, said, now) for said in wanted.conditions]
        await self._apply_status({"conditions": conditions, "capacity": dict(wanted.capacity)})
        self._applied = tuple(wanted.capacity)
        for said in changed:
            if _turned(seen, said):
                await self._tell(seen.uid, said, now)
        return True

    async def _apply_status(self, status: Mapping[str, Any]) -> None:
        """Have this of the agent's in the node's status and nothing else."""
        body = _object(self._name) | {"metadata": {"name": self._name}, "status": dict(status)}
        await self._client.patch(
            NodeStatus,
            self._name,
            body,
            patch_type=PatchType.APPLY,
            field_manager=MANAGER,
            force=True,
        )

    async def _tell(self, uid: str, said: Said, now: datetime) -> None:
        """Write an event. It is a message to people: without it all goes on."""
        _log.info("condition", extra={"facts": {"type": said.type, "reason": said.reason}})
        if not self._events:
            return
        event = Event(
            metadata=ObjectMeta(generateName=f"{self._name}.", namespace="default"),
            involvedObject=ObjectReference(kind="Node", name=self._name, uid=uid),
            reason=said.reason,
            message=f"{said.type} is {said.status}: {said.message}",
            type="Normal" if said.status else "Warning",
            source=EventSource(component=MANAGER, host=self._name),
            firstTimestamp=now,
            lastTimestamp=now,
            count=1,
        )
        try:
            await self._client.create(event)
        except ApiError as error:
            _log.warning("no event", extra={"facts": {"fault": str(error)}})


def _object(name: str) -> dict[str, Any]:
    """Return the head of a node's object."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def _seen(node: Node) -> _Seen:
    """Return what there is of a node's object; all of it may be missing."""
    metadata = node.metadata or ObjectMeta()
    status = node.status.to_dict() if node.status else {}
    spec = node.spec.to_dict() if node.spec else {}
    return _Seen(
        uid=metadata.uid or "",
        version=metadata.resourceVersion or "",
        labels=metadata.labels or {},
        taints=tuple(spec.get("taints") or ()),
        conditions={each["type"]: each for each in status.get("conditions") or ()},
        capacity=status.get("capacity") or {},
    )


def _shows(seen: _Seen, name: str, size: str) -> bool:
    """Return whether a capacity is there, which an API server may write as `10k` for `10000`."""
    there = seen.capacity.get(name)
    return there is not None and parse_quantity(there) == parse_quantity(size)


def _differs(seen: _Seen, said: Said) -> bool:
    """Return whether a condition has to be written anew."""
    there = seen.conditions.get(said.type, {})
    return (there.get("status"), there.get("reason"), there.get("message")) != (
        str(said.status),
        said.reason,
        said.message,
    )


def _turned(seen: _Seen, said: Said) -> bool:
    """Return whether a condition says something else than before, beyond its wording."""
    there = seen.conditions.get(said.type, {})
    return (there.get("status"), there.get("reason")) != (str(said.status), said.reason)


def _stale(seen: _Seen, said: Said, now: datetime) -> bool:
    """Return whether a condition's heartbeat is long ago."""
    text = str(seen.conditions.get(said.type, {}).get("lastHeartbeatTime", ""))
    try:
        return now - datetime.fromisoformat(text) > _HEARTBEAT
    except (ValueError, TypeError):
        return True


def _condition(seen: _Seen, said: Said, now: datetime) -> dict[str, str]:
    """Return a condition as the API has it."""
    there = seen.conditions.get(said.type, {})
    form = now.strftime(_FORM)
    same = there.get("status") == str(said.status) and there.get("lastTransitionTime")
    turned = str(there["lastTransitionTime"]) if same else form
    return {
        "type": str(Condition(said.type)),
        "status": str(said.status),
        "reason": said.reason,
        "message": said.message,
        "lastHeartbeatTime": form,
        "lastTransitionTime": turned,
    }
