# SPDX-License-Identifier: Apache-2.0
"""What was installed, kept in the cluster: a Secret for each revision, with values and objects.

A record is written before anything of it is applied, so that whatever an interrupted install has
left is known: upgrade, rollback and uninstall go by the records alone.
"""

import base64
import gzip
import io
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from ensconce.errors import ClusterError
from ensconce.kube.install.cluster import Cluster, Object, Ref, ref
from ensconce.kube.names import NAMESPACE

__all__ = ["LABEL", "OWNED", "Release", "Standing", "load_releases", "owned", "save"]

LABEL = "app.kubernetes.io/managed-by"
OWNED = "ensconce"
_TYPE = "ensconce.dev/release.v1"
_KEPT = 10  # revisions
_LARGEST = 1 << 24  # bytes, unpacked


class Standing(StrEnum):
    """How far a revision got."""

    PENDING = "pending"  # being applied, or interrupted
    DEPLOYED = "deployed"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    UNINSTALLING = "uninstalling"


@dataclass(frozen=True, slots=True)
class Release:
    """A revision. `values` are those given; `kept` were there before and stay at an uninstall."""

    revision: int
    standing: Standing
    version: str
    values: dict[str, Any]
    objects: list[Object]
    kept: tuple[Ref, ...] = ()
    at: str = ""
    note: str = ""
    refs: tuple[Ref, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "refs", tuple(ref(each) for each in self.objects))

    def standing_at(self, standing: Standing, note: str = "") -> "Release":
        """Return the revision in another standing, now."""
        return replace(self, standing=standing, note=note, at=_now())

    def to_secret(self) -> Object:
        """Return the Secret that keeps the revision."""
        content = {
            "standing": self.standing,
            "version": self.version,
            "values": self.values,
            "objects": self.objects,
            "kept": [[each.kind, each.namespace, each.name] for each in self.kept],
            "at": self.at or _now(),
            "note": self.note,
        }
        packed = gzip.compress(json.dumps(content).encode(), mtime=0)
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": _name(self.revision),
                "namespace": NAMESPACE,
                "labels": {LABEL: OWNED, "ensconce.dev/revision": str(self.revision)},
            },
            "type": _TYPE,
            "data": {"release": base64.b64encode(packed).decode()},
        }

    @classmethod
    def from_secret(cls, secret: Object) -> "Release":
        """Read a revision. Raises ClusterError."""
        name = secret["metadata"]["name"]
        try:
            revision = int(secret["metadata"]["labels"]["ensconce.dev/revision"])
            packed = base64.b64decode(secret["data"]["release"])
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
                content = json.loads(stream.read(_LARGEST))
            return cls(
                revision,
                Standing(content["standing"]),
                content["version"],
                content["values"],
                content["objects"],
                tuple(Ref(*each) for each in content["kept"]),
                content["at"],
                content["note"],
            )
        except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
            raise ClusterError(
                f"Secret {NAMESPACE}/{name} is no record of an install ({error}); remove it, and "
                "install anew"
            ) from error


def load_releases(cluster: Cluster) -> list[Release]:
    """Return the revisions, the oldest first."""
    secrets = cluster.find("Secret", namespace=NAMESPACE, labels={LABEL: OWNED})
    found = [Release.from_secret(each) for each in secrets if each.get("type") == _TYPE]
    return sorted(found, key=lambda each: each.revision)


def save(cluster: Cluster, release: Release) -> None:
    """Keep a revision, and forget those that are long past."""
    cluster.apply(release.to_secret())
    for old in load_releases(cluster)[:-_KEPT]:
        if old.standing is Standing.SUPERSEDED:
            cluster.delete(Ref("Secret", NAMESPACE, _name(old.revision)))


def owned(item: Object) -> bool:
    """Return whether an object is one that ensconce has installed."""
    labels = item["metadata"].get("labels") or {}
    return bool(labels.get(LABEL) == OWNED)


def _name(revision: int) -> str:
    """Return the name of a revision's Secret."""
    return f"ensconce-release-v{revision}"


def _now() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
