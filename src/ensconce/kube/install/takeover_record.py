# SPDX-License-Identifier: Apache-2.0
"""The record of a takeover: what another vendor's plugin was, and how far the takeover got.

It is in kube-system, since it has to outlive what is installed: a rollback removes ensconce with
its namespaces before it brings the other plugin back.
"""

import base64
import gzip
import io
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from ensconce.errors import ClusterError
from ensconce.kube.install.cluster import Cluster, Object, Ref
from ensconce.kube.install.others import Pod
from ensconce.kube.install.release import LABEL, OWNED

__all__ = ["RECORD", "Step", "TakeoverRecord"]

RECORD = Ref("Secret", "kube-system", "ensconce-takeover")
_TYPE = "ensconce.dev/takeover.v1"
_LARGEST = 1 << 24  # bytes, unpacked


class Step(StrEnum):
    """What is under way; each step can be repeated."""

    REMOVING = "removing"  # the other plugin
    INSTALLING = "installing"  # ensconce
    WAITING = "waiting"  # for EPC on the nodes that had it
    DONE = "done"
    RESTORING = "restoring"  # by a rollback


@dataclass(frozen=True, slots=True)
class TakeoverRecord:
    """How far a takeover got; `objects` are to be made again by a rollback, the last one first.

    `pods` are those with SGX resources when it began, `nodes` those with EPC, and under which
    names.
    """

    step: Step
    values: dict[str, Any]
    objects: list[Object]
    pods: tuple[Pod, ...]
    nodes: dict[str, tuple[str, ...]]

    def at(self, step: Step, **changes: Any) -> "TakeoverRecord":
        """Return the record at another step."""
        return replace(self, step=step, **changes)

    def save(self, cluster: Cluster) -> None:
        """Keep the record in the cluster."""
        packed = gzip.compress(json.dumps(asdict(self)).encode(), mtime=0)
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": RECORD.name,
                    "namespace": RECORD.namespace,
                    "labels": {LABEL: OWNED},
                },
                "type": _TYPE,
                "data": {"takeover": base64.b64encode(packed).decode()},
            }
        )

    @classmethod
    def load(cls, cluster: Cluster) -> "TakeoverRecord | None":
        """Return the cluster's record, if it has one. Raises ClusterError."""
        secret = cluster.get(RECORD)
        if secret is None:
            return None
        try:
            packed = base64.b64decode(secret["data"]["takeover"], validate=True)
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
                content = json.loads(stream.read(_LARGEST))
            pods = [each | {"resources": tuple(each["resources"])} for each in content["pods"]]
            return cls(
                Step(content["step"]),
                content["values"],
                content["objects"],
                tuple(Pod(**each) for each in pods),
                {name: tuple(names) for name, names in content["nodes"].items()},
            )
        except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
            raise ClusterError(
                f"{RECORD} is no record of a takeover ({error}); bring the other plugin back by "
                "hand, and remove it"
            ) from error
