# SPDX-License-Identifier: Apache-2.0
"""Install, upgrade, roll back and uninstall; each goes on where an earlier run was interrupted.

1. The revision is recorded, with all its objects, before any of them is applied.
2. Objects are applied in the chart's order.
3. What earlier revisions had and this one has not is removed.
4. When all workloads are ready the revision is deployed, and those before it are superseded.

An uninstall removes what any record lists, cleans the nodes when their agents are gone, and
removes the records last, with their namespace.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ensconce.errors import ClusterError
from ensconce.kube.install.authority import with_authority
from ensconce.kube.install.chart import Chart, Values, merged
from ensconce.kube.install.cluster import Cluster, Object, Ref, ref
from ensconce.kube.install.difference import Change, differences
from ensconce.kube.install.nodes import clean_nodes
from ensconce.kube.install.ready import Rollout, rollout, wait_ready
from ensconce.kube.install.release import (
    LABEL,
    Release,
    Standing,
    load_releases,
    owned,
    save,
)
from ensconce.kube.install.takeover_record import RECORD, Step, TakeoverRecord
from ensconce.kube.names import NAMESPACE, NODE_NAMESPACE

__all__ = ["Installer", "Outcome", "Status"]

_logger = logging.getLogger("ensconce.kube.install")
_NAMESPACES = (NODE_NAMESPACE, NAMESPACE)
_WORKLOADS = ("DaemonSet", "Deployment")
_WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done: the revision that is there now, and the objects that came and went."""

    revision: int
    standing: Standing
    applied: int
    removed: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """What is installed: the newest revision, its workloads, and objects that are missing."""

    installed: bool
    revision: int = 0
    standing: Standing | None = None
    version: str = ""
    workloads: tuple[Rollout, ...] = ()
    missing: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()


class Installer:
    """Installs a chart on a cluster. `timeout` is how long anything may take, in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        chart: Chart,
        *,
        timeout: float = 300,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._chart = chart
        self._timeout = timeout
        self._sleep = sleep

    # --- forwards

    def install(self, values: Values, *, dry_run: bool = False) -> Outcome:
        """Install, or go on with an install that was interrupted or has failed."""
        past = load_releases(self._cluster)
        last = past[-1] if past else None
        if last and last.standing is Standing.UNINSTALLING:
            raise ClusterError(
                "an uninstall was begun; run `ensconce cluster uninstall` to its end"
            )
        if last and last.standing is Standing.DEPLOYED and last.values != values:
            raise ClusterError(
                f"revision {last.revision} is installed with other values; use "
                "`ensconce cluster upgrade`"
            )
        return self._to(values, past, dry_run=dry_run)

    def upgrade(self, values: Values, *, reset: bool = False, dry_run: bool = False) -> Outcome:
        """Go to this version and to values over those of the last revision (`reset`: over none)."""
        past = self._installed()
        wanted = values if reset else merged(past[-1].values, values)
        return self._to(wanted, past, dry_run=dry_run)

    def rollback(self, revision: int | None = None, *, dry_run: bool = False) -> Outcome:
        """Go back to a revision, or to the last one that was deployed before this one."""
        past = self._installed()
        target = _target(past, revision)
        return self._be(
            Release(
                past[-1].revision + 1,
                Standing.PENDING,
                target.version,
                target.values,
                target.objects,
                past[-1].kept,
                note=f"rollback to revision {target.revision}",
            ),
            past,
            dry_run=dry_run,
        )

    def _to(self, values: Values, past: list[Release], *, dry_run: bool) -> Outcome:
        """Be what the chart makes of values."""
        objects = self._chart.objects(with_authority(self._cluster, values))
        last = past[-1] if past else None
        kept = last.kept if last else self._found(objects)
        again = last is not None and last.objects == objects and last.values == values
        number = (last.revision + (not again)) if last else 1
        release = Release(number, Standing.PENDING, self._chart.app_version, values, objects, kept)
        return self._be(release, past, dry_run=dry_run)

    def _be(self, release: Release, past: list[Release], *, dry_run: bool) -> Outcome:
        """Apply a revision, after recording it."""
        gone = _no_longer(release, past)
        self._check_ours(release, past)
        if dry_run:
            changes = differences(self._cluster, release.objects, gone)
            return Outcome(release.revision, Standing.PENDING, 0, changes=tuple(changes))
        for item in release.objects:
            if ref(item).kind == "Namespace":
                self._cluster.apply(item)
        save(self._cluster, release)
        try:
            for item in release.objects:
                self._cluster.apply(item)
                _logger.info("applied %s", ref(item))
            removed = self._remove(gone)
            wait_ready(self._cluster, release.refs, timeout=self._timeout, sleep=self._sleep)
        except ClusterError as error:
            save(self._cluster, release.standing_at(Standing.FAILED, str(error)))
            raise
        save(self._cluster, release.standing_at(Standing.DEPLOYED, release.note))
        for old in past:
            if old.revision != release.revision and old.standing is not Standing.SUPERSEDED:
                save(self._cluster, old.standing_at(Standing.SUPERSEDED, old.note))
        return Outcome(
            release.revision, Standing.DEPLOYED, len(release.objects), tuple(map(str, removed))
        )

    def _found(self, objects: Iterable[Object]) -> tuple[Ref, ...]:
        """Return the namespaces that are there before the first install, and so stay after it."""
        wanted = [ref(each) for each in objects if each["kind"] == "Namespace"]
        return tuple(
            each for each in wanted if (found := self._cluster.get(each)) and not owned(found)
        )

    def _check_ours(self, release: Release, past: list[Release]) -> None:
        """Refuse to take over objects that somebody else has made."""
        known = {each for old in past for each in old.refs} | set(release.kept)
        for each in release.refs:
            if each in known or not (found := self._cluster.get(each)) or owned(found):
                continue
            by = (found["metadata"].get("labels") or {}).get(LABEL, "somebody else")
            mend = "use helm to upgrade it" if by == "Helm" else "remove or rename it"
            raise ClusterError(f"{each} is there already, made by {by}; {mend}")

    def _remove(self, refs: Iterable[Ref]) -> list[Ref]:
        """Remove those of ensconce's objects that are there."""
        removed = []
        for each in refs:
            found = self._cluster.get(each)
            if found is not None and owned(found) and self._cluster.delete(each):
                _logger.info("removed %s", each)
                removed.append(each)
        return removed

    # --- what there is

    def _installed(self) -> list[Release]:
        """Return the revisions, of which there is one at least."""
        past = load_releases(self._cluster)
        if not past:
            raise ClusterError(
                "nothing is installed by `ensconce cluster install` here; install it first"
            )
        if past[-1].standing is Standing.UNINSTALLING:
            raise ClusterError(
                "an uninstall was begun; run `ensconce cluster uninstall` to its end"
            )
        return past

    def status(self) -> Status:
        """Return what is installed and how it is."""
        past = load_releases(self._cluster)
        if not past:
            return Status(installed=False)
        last = past[-1]
        live = {each: self._cluster.get(each) for each in last.refs}
        return Status(
            installed=True,
            revision=last.revision,
            standing=last.standing,
            version=last.version,
            workloads=tuple(
                rollout(item) for each, item in live.items() if item and each.kind in _WORKLOADS
            ),
            missing=tuple(str(each) for each, item in live.items() if item is None),
            history=tuple(
                {"revision": e.revision, "standing": e.standing, "at": e.at, "note": e.note}
                for e in past
            ),
        )

    # --- backwards

    def uninstall(self, *, dry_run: bool = False, of_takeover: bool = False) -> Outcome:
        """Remove all that was installed, here and on the nodes' objects, and nothing else.

        The record of a takeover goes too, unless its rollback is at work: `of_takeover`.
        """
        past = load_releases(self._cluster)
        kept = {each for old in past for each in old.kept}
        if of_takeover:
            kept.add(RECORD)
        else:
            _check_taken_over(self._cluster)
        gone = [each for each in _installed_ever(past) if each not in kept]
        number = past[-1].revision if past else 0
        if dry_run:
            changes = differences(self._cluster, [], gone)
            return Outcome(number, Standing.UNINSTALLING, 0, changes=tuple(changes))
        if past:
            save(self._cluster, past[-1].standing_at(Standing.UNINSTALLING))
        removed = self._remove(each for each in gone if each.kind in _WEBHOOKS)
        removed += self._remove(each for each in gone if each.kind in _WORKLOADS)
        self._await("the pods to end", self._no_pods)
        for name in clean_nodes(self._cluster):
            _logger.info("cleaned node %s", name)
        removed += self._remove(each for each in gone if each.kind != "Namespace")
        for old in past:
            if Ref("Namespace", "", NAMESPACE) in kept:
                self._cluster.delete(ref(old.to_secret()))
        for each in (Ref("Namespace", "", name) for name in _NAMESPACES):
            if each not in kept:
                removed += self._remove([each])
                self._await(f"{each} to end", partial(self._is_gone, each))
        return Outcome(number, Standing.UNINSTALLING, 0, tuple(map(str, removed)))

    def _is_gone(self, what: Ref) -> bool:
        """Return whether an object is not there."""
        return self._cluster.get(what) is None

    def _no_pods(self) -> bool:
        """Return whether the pods of all components have ended."""
        labels = {"app.kubernetes.io/name": "ensconce"}
        return not any(self._cluster.find("Pod", namespace=n, labels=labels) for n in _NAMESPACES)

    def _await(self, what: str, done: Callable[[], bool]) -> None:
        """Wait for something. Raises ClusterError after the timeout."""
        end = time.monotonic() + self._timeout
        while not done():
            if time.monotonic() > end:
                raise ClusterError(
                    f"waited {self._timeout:.0f} s for {what}; see what holds it, and run "
                    "`ensconce cluster uninstall` again"
                )
            _logger.info("waiting for %s", what)
            self._sleep(1)


def _installed_ever(past: list[Release]) -> Iterable[Ref]:
    """Return all that an uninstall removes, the last applied first."""
    refs = dict.fromkeys(each for old in reversed(past) for each in reversed(old.refs))
    refs |= dict.fromkeys(Ref("Namespace", "", name) for name in _NAMESPACES)
    return [*refs, RECORD]


def _check_taken_over(cluster: Cluster) -> None:
    """Refuse to forget another vendor's plugin in the middle of a takeover."""
    record = TakeoverRecord.load(cluster)
    if record and record.step is not Step.DONE:
        raise ClusterError(
            "a takeover was begun; run `ensconce cluster takeover` to its end, or "
            "`ensconce cluster takeover --rollback`"
        )


def _no_longer(release: Release, past: Iterable[Release]) -> list[Ref]:
    """Return what earlier revisions had and this one has not, the last applied first."""
    wanted = set(release.refs) | set(release.kept)
    earlier = dict.fromkeys(each for old in past for each in reversed(old.refs))
    return [each for each in earlier if each not in wanted]


def _target(past: list[Release], revision: int | None) -> Release:
    """Return the revision to go back to. Raises ClusterError."""
    if revision is None:
        good = [e for e in past[:-1] if e.standing in (Standing.SUPERSEDED, Standing.DEPLOYED)]
        if good:
            return good[-1]
    for each in past:
        if each.revision == revision:
            return each
    known = ", ".join(str(each.revision) for each in past)
    raise ClusterError(
        f"there is no revision {revision if revision else 'before this one'} to go back to; "
        f"recorded are {known}"
    )
