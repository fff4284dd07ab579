# SPDX-License-Identifier: Apache-2.0
"""What applying objects would change: the live objects beside what the API server would make."""

import base64
import difflib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from ensconce.errors import ClusterError
from ensconce.kube.install.cluster import Cluster, Object, Ref, ref

__all__ = ["Change", "differences", "unified"]

_PASSING = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to an object: `action` is create, update or delete; `text` a unified diff."""

    action: str
    what: Ref
    text: str = ""


def differences(cluster: Cluster, objects: Iterable[Object], gone: Iterable[Ref]) -> list[Change]:
    """Return what applying `objects` and removing `gone` would change; nothing is changed."""
    changes = []
    for item in objects:
        what = ref(item)
        live = cluster.get(what)
        if live is None:
            changes.append(Change("create", what, unified(what, {}, item)))
            continue
        after = cluster.apply(item, dry_run=True)
        text = unified(what, live, after)
        if text:
            changes.append(Change("update", what, text))
    for what in gone:
        live = cluster.get(what)
        if live is not None:
            changes.append(Change("delete", what, unified(what, live, {})))
    return changes


def unified(what: Ref, before: Object, after: Object) -> str:
    """Return the difference between two forms of an object."""
    lines = difflib.unified_diff(
        _lines(before), _lines(after), f"live/{what}", f"new/{what}", lineterm=""
    )
    return "\n".join(lines)


def _lines(item: Object) -> list[str]:
    """Return an object as YAML, without what changes by itself, and without secrets."""
    if not item:
        return []
    shown: dict[str, Any] = {name: value for name, value in item.items() if name != "status"}
    shown["metadata"] = {
        name: value for name, value in item["metadata"].items() if name not in _PASSING
    }
    if shown.get("kind") == "Secret":
        shown["data"] = {name: _digest(text) for name, text in (item.get("data") or {}).items()}
    return yaml.safe_dump(shown, sort_keys=True).splitlines()


def _digest(text: str) -> str:
    """Return what a secret is told by."""
    try:
        return "sha256:" + hashlib.sha256(base64.b64decode(text)).hexdigest()[:16]
    except ValueError as error:
        raise ClusterError("a Secret's data is not base64") from error
