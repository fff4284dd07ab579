# SPDX-License-Identifier: Apache-2.0
"""What the real cluster's tests can't bring about at will: interrupts, and others' objects."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from ensconce.errors import ClusterError
from ensconce.kube.install.chart import chart
from ensconce.kube.install.cluster import Cluster, Object, Ref, ref
from ensconce.kube.install.installer import Installer
from ensconce.kube.install.release import Release, Standing, load_releases

QUIET: dict[str, Any] = {"pccs": {"enabled": False}, "webhook": {"enabled": False}}


class Memory(Cluster):
    """A cluster in memory, whose workloads are ready at once; it fails before its `last` write."""

    def __init__(self, last: int = 1 << 30) -> None:
        self.items: dict[Ref, Object] = {}
        self.last = last

    def get(self, what: Ref) -> Object | None:
        return copy.deepcopy(self.items.get(what))

    def find(
        self, kind: str, *, namespace: str = "*", labels: Mapping[str, str] | None = None
    ) -> list[Object]:
        return [
            item
            for what, item in self.items.items()
            if what.kind == kind and namespace in ("*", what.namespace)
            if (labels or {}).items() <= (item["metadata"].get("labels") or {}).items()
        ]

    def apply(self, item: Object, *, dry_run: bool = False) -> Object:  # noqa: ARG002
        self.last -= 1
        if self.last < 0:
            raise KeyboardInterrupt
        self.items[ref(item)] = copy.deepcopy(item) | {"status": {"observedGeneration": 1}}
        return item

    def delete(self, what: Ref, *, orphan: bool = False) -> bool:  # noqa: ARG002
        if what.kind == "Namespace":  # with all that is in it
            for each in [each for each in self.items if each.namespace == what.name]:
                del self.items[each]
        return self.items.pop(what, None) is not None


def installer(cluster: Memory) -> Installer:
    return Installer(cluster, chart(), timeout=1, sleep=lambda _: None)


@pytest.mark.parametrize("last", range(1, 14, 3))
def test_an_install_that_is_interrupted_goes_on_or_goes_away(last: int) -> None:
    cluster = Memory(last)
    with pytest.raises(KeyboardInterrupt):
        installer(cluster).install(QUIET)
    cluster.last = 1 << 30
    half = copy.deepcopy(cluster)
    assert installer(cluster).install(QUIET).standing is Standing.DEPLOYED
    installer(half).uninstall()
    assert half.items == {}


def test_an_upgrade_removes_what_is_no_longer_wanted_and_a_rollback_brings_it_back() -> None:
    cluster = Memory()
    installer(cluster).install(QUIET)
    removed = installer(cluster).upgrade({"aesm": {"enabled": False}}).removed
    assert "DaemonSet ensconce-node/ensconce-aesm" in removed
    assert installer(cluster).rollback().revision == 3
    assert Ref("DaemonSet", "ensconce-node", "ensconce-aesm") in cluster.items
    installer(cluster).uninstall()
    assert cluster.items == {}


@pytest.mark.parametrize("by", ["Helm", "somebody else"])
def test_what_others_made_is_not_taken_over(by: str) -> None:
    cluster = Memory()
    labels = {"app.kubernetes.io/managed-by": by}
    other = {"kind": "ClusterRole", "metadata": {"name": "ensconce-node-agent", "labels": labels}}
    cluster.items[ref(other)] = other
    with pytest.raises(ClusterError, match=f"made by {by}"):
        installer(cluster).install(QUIET)
    assert list(cluster.items) == [ref(other)]


def test_a_namespace_that_was_there_before_stays() -> None:
    cluster = Memory()
    before = {"kind": "Namespace", "metadata": {"name": "ensconce-system"}}
    cluster.items[ref(before)] = before
    installer(cluster).install(QUIET)
    installer(cluster).uninstall()
    assert list(cluster.items) == [ref(before)]


def test_an_install_with_other_values_is_an_upgrade() -> None:
    cluster = Memory()
    installer(cluster).install(QUIET)
    with pytest.raises(ClusterError, match="ensconce cluster upgrade"):
        installer(cluster).install({})
    with pytest.raises(ClusterError, match=r"no revision 7 .*; recorded are 1"):
        installer(cluster).rollback(7)


def test_a_record_that_is_none_is_refused_by_name() -> None:
    cluster = Memory()
    installer(cluster).install(QUIET)
    secret = load_releases(cluster)[0].to_secret()
    secret["data"]["release"] = "bm8="
    with pytest.raises(ClusterError, match="ensconce-release-v1 is no record of an install"):
        Release.from_secret(secret)
