# SPDX-License-Identifier: Apache-2.0
"""Move a cluster from another vendor's device plugin to ensconce, and back, under running pods.

1. What is to go, the pods that hold SGX resources and the nodes that have EPC are recorded.
2. The other plugin is removed: two would take resources from each other. Pods keep the devices
   that they have, as a kubelet gives devices to containers that start and to no others.
3. ensconce is installed, with the names that pods and nodes use.
4. When nodes have EPC again, the pods are compared with those recorded.

The record is written before each step, and each can be repeated; so a takeover that was
interrupted goes on, or back.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ensconce.errors import ClusterError, ConfigError
from ensconce.kube.install.chart import Values, merged
from ensconce.kube.install.cluster import Cluster, Object, Ref, ref
from ensconce.kube.install.difference import Change, unified
from ensconce.kube.install.installer import Installer
from ensconce.kube.install.others import (
    ALIBABAS,
    MUTATOR,
    Pod,
    cleaned,
    controller,
    others,
    sgx_nodes,
    sgx_pods,
)
from ensconce.kube.install.ready import wait_ready
from ensconce.kube.install.release import load_releases
from ensconce.kube.install.takeover_record import RECORD, Step, TakeoverRecord
from ensconce.kube.names import Condition, Resource

__all__ = ["Takeover", "TakeoverOutcome", "TakeoverPlan"]

_logger = logging.getLogger("ensconce.kube.install")
_LIMIT = re.compile(r"--?((?:enclave|provision)-limit)=(\d+)")
_ATTACH = re.compile(r"--?enable-aesm-socket-attach(=true)?")
_EPC = [each for each in Resource if "epc" in each]


@dataclass(frozen=True, slots=True)
class TakeoverPlan:
    """What a takeover would do: what goes, what comes, with which values, under which pods."""

    step: Step | None  # None where there is nothing to do
    removed: tuple[str, ...] = ()
    values: Values | None = None
    pods: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class TakeoverOutcome:
    """What was done; `pods` are those that were watched, `changed` those that did not go on."""

    done: str  # `taken over`, `rolled back` or `nothing`
    objects: tuple[str, ...] = ()  # removed, or made again
    pods: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


class Takeover:
    """Takes a cluster over. `timeout` is how long anything may take, in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        installer: Installer,
        *,
        timeout: float = 300,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._installer = installer
        self._timeout = timeout
        self._sleep = sleep

    def plan(self, given: Values) -> TakeoverPlan:
        """Return what a takeover would do now; nothing is changed."""
        record = self._record(given)
        if record is None or record.step is Step.DONE:
            return TakeoverPlan(None)
        going = [(each, self._cluster.get(ref(each))) for each in record.objects]
        changes = [Change("delete", ref(each), _diff(each, live)) for each, live in going if live]
        outcome = self._installer.install(record.values, dry_run=True)
        return TakeoverPlan(
            record.step,
            tuple(str(ref(each)) for each in record.objects),
            _shown(record.values),
            tuple(map(str, record.pods)),
            (*changes, *outcome.changes),
        )

    def take_over(self, given: Values) -> TakeoverOutcome:
        """Take the cluster over, or go on with it. Raises ClusterError."""
        record = self._record(given)
        if record is None or record.step is Step.DONE:
            return TakeoverOutcome("nothing")
        if record.step is Step.REMOVING:
            self._installer.install(record.values, dry_run=True)  # refuses what it can't do
            record.save(self._cluster)
            self._remove(record)
            record = record.at(Step.INSTALLING)
        record.save(self._cluster)
        self._installer.install(record.values)
        record = record.at(Step.WAITING)
        record.save(self._cluster)
        self._await_epc(record.nodes, ours=True)
        self._check_gone()
        record.at(Step.DONE).save(self._cluster)
        return self._outcome("taken over", record, record.objects)

    def roll_back(self) -> TakeoverOutcome:
        """Uninstall ensconce and bring back what was taken over. Raises ClusterError."""
        record = TakeoverRecord.load(self._cluster)
        if record is None:
            return TakeoverOutcome("nothing")
        if record.step is not Step.RESTORING:
            pods = tuple(sgx_pods(self._cluster))
            record = record.at(Step.RESTORING, pods=pods)
            record.save(self._cluster)
        self._installer.uninstall(of_takeover=True)
        again = [each for each in reversed(record.objects) if controller(each) == ""]
        for item in again:
            self._restore(item)
        wait_ready(self._cluster, [ref(e) for e in again], timeout=self._timeout, sleep=self._sleep)
        self._await_epc(record.nodes, ours=False)
        self._cluster.delete(RECORD)
        return self._outcome("rolled back", record, again)

    # --- the record

    def _record(self, given: Values) -> TakeoverRecord | None:
        """Return the record there is, else one for what is found, which is not kept yet."""
        record = TakeoverRecord.load(self._cluster)
        if record is None:
            return self._begun(given)
        if record.step is Step.RESTORING:
            raise ClusterError(
                "a rollback was begun; run `ensconce cluster takeover --rollback` to its end"
            )
        if record.step is Step.DONE:
            self._check_gone()
        return record.at(record.step, values=merged(record.values, given))

    def _begun(self, given: Values) -> TakeoverRecord | None:
        """Return a record for what is found, if anything is."""
        found = others(self._cluster)
        if not found:
            return None
        if load_releases(self._cluster):
            raise ClusterError(
                f"ensconce is installed beside {', '.join(str(ref(e)) for e in found)}; run "
                "`ensconce cluster uninstall` first, then take over"
            )
        pods, nodes = tuple(sgx_pods(self._cluster)), sgx_nodes(self._cluster)
        values = merged(_derived(found, pods, nodes, given), given)
        # an operator makes its own DaemonSets again
        made = {each["kind"] for each in found}
        objects = [
            cleaned(each) if controller(each) not in made else _of_operator(each) for each in found
        ]
        return TakeoverRecord(Step.REMOVING, values, objects, pods, nodes)

    # --- the other plugin

    def _remove(self, record: TakeoverRecord) -> None:
        """Remove the other plugin, and wait for its pods to end."""
        for item in record.objects:
            what, live = ref(item), self._cluster.get(ref(item))
            kept = _without_mutator(live) if live else []
            if kept:
                self._cluster.merge(what, {"webhooks": kept})
            elif live:
                self._cluster.delete(what)
                _logger.info("removed %s", what)
        sets = [each for each in record.objects if each["kind"] == "DaemonSet"]
        self._await("the other plugin's pods to end", lambda: self._left(sets))

    def _left(self, sets: Iterable[Object]) -> list[str]:
        """Return what of some DaemonSets there still is."""
        left = [str(ref(each)) for each in sets if self._cluster.get(ref(each))]
        for each in sets:
            labels = each["spec"]["selector"].get("matchLabels")
            pods = self._cluster.find("Pod", namespace=ref(each).namespace, labels=labels)
            left += [str(ref(pod)) for pod in pods if labels]
        return left

    def _restore(self, item: Object) -> None:
        """Have an object be again as it was recorded."""
        what, live = ref(item), self._cluster.get(ref(item))
        if live is None:
            self._cluster.create(item)
            _logger.info("made %s again", what)
        elif what.kind == "MutatingWebhookConfiguration":
            hooks = live.get("webhooks") or []
            if not any(each["name"] == MUTATOR for each in hooks):
                ours = [each for each in item["webhooks"] if each["name"] == MUTATOR]
                self._cluster.merge(what, {"webhooks": [*hooks, *ours]})

    def _check_gone(self) -> None:
        """Refuse to call done what is not: another plugin that has come back."""
        back = others(self._cluster)
        if back:
            raise ClusterError(
                f"{', '.join(str(ref(each)) for each in back)} is there again; find what makes it "
                "and switch that off, or `ensconce cluster takeover --rollback`"
            )

    # --- nodes and pods

    def _await_epc(self, nodes: dict[str, tuple[str, ...]], *, ours: bool) -> None:
        """Wait until nodes that had EPC have it again."""
        self._await("EPC", lambda: self._without_epc(nodes, ours=ours))

    def _without_epc(self, nodes: dict[str, tuple[str, ...]], *, ours: bool) -> list[str]:
        """Return the nodes that had EPC and have none, but for those that are down or gone."""
        now, late = sgx_nodes(self._cluster), []
        for name, resources in nodes.items():
            node = self._cluster.get(Ref("Node", "", name))
            said = ((node or {}).get("status") or {}).get("conditions") or []
            states = {each["type"]: each for each in said}
            if states.get("Ready", {}).get("status") != "True":
                continue
            agent = states.get(Condition.READY.value, {})
            has = bool(set(resources) & set(now.get(name, ())))
            if not has or (ours and agent.get("status") != "True"):
                late.append(f"node {name} {agent.get('message', '')}".strip())
        return late

    def _outcome(
        self, done: str, record: TakeoverRecord, objects: Iterable[Object]
    ) -> TakeoverOutcome:
        """Return what was done, with the pods that are not what they were."""
        now = {(pod.uid, pod.restarts) for pod in sgx_pods(self._cluster)}
        changed = [str(pod) for pod in record.pods if (pod.uid, pod.restarts) not in now]
        return TakeoverOutcome(
            done,
            tuple(str(ref(each)) for each in objects),
            tuple(map(str, record.pods)),
            tuple(changed),
        )

    def _await(self, what: str, late: Callable[[], list[str]]) -> None:
        """Wait until nothing is late. Raises ClusterError after the timeout."""
        end = time.monotonic() + self._timeout
        while left := late():
            if time.monotonic() > end:
                raise ClusterError(
                    f"waited {self._timeout:.0f} s for {what}: {'; '.join(left[:3])}; mend that "
                    "and run the same command again, or `ensconce cluster takeover --rollback`"
                )
            _logger.info("waiting for %s: %s", what, left[0])
            self._sleep(1)


def _derived(
    found: Iterable[Object], pods: Iterable[Pod], nodes: dict[str, tuple[str, ...]], given: Values
) -> Values:
    """Return the chart's values that leave pods what they have. Raises ConfigError."""
    vendors = {_vendor(each) for each in found if each["kind"] != "MutatingWebhookConfiguration"}
    used = {name for each in nodes.values() for name in each} | vendors
    used |= {name for pod in pods for name in pod.resources}
    names = [str(each) for each in _EPC if each in used] or [str(Resource.EPC_INTEL)]
    if len(names) > 1 and not (given.get("epc") or {}).get("names"):
        raise ConfigError(
            f"EPC is in use under {' and '.join(names)}, and nothing says how much under each; "
            "give epc.names and, in nodeAgent.extraArgs, `--epc=NAME=PERCENT,NAME=PERCENT`"
        )
    may = {f"{pod.namespace}/{pod.account}" for pod in pods if Resource.PROVISION in pod.resources}
    values: Values = {"epc": {"names": names, "provisionPods": sorted(may)}}
    arguments = sorted({text for each in found for text in _arguments(each)})
    return values | ({"nodeAgent": {"extraArgs": arguments}} if arguments else {})


def _vendor(item: Object) -> str:
    """Return the name that a plugin offers EPC under."""
    return str(Resource.EPC_ALIBABA if ref(item) == ALIBABAS else Resource.EPC_INTEL)


def _arguments(item: Object) -> list[str]:
    """Return those of a plugin's arguments that the agent is to have too."""
    spec = item.get("spec") or {}
    if item["kind"] == "SgxDevicePlugin":
        fields = {"enclave-limit": "enclaveLimit", "provision-limit": "provisionLimit"}
        return [f"--{flag}={spec[name]}" for flag, name in fields.items() if spec.get(name)]
    arguments = []
    for each in spec.get("template", {}).get("spec", {}).get("containers", []):
        for text in (*(each.get("command") or ()), *(each.get("args") or ())):
            if _ATTACH.fullmatch(text):
                arguments.append("--enable-aesm-socket-attach")
            elif match := _LIMIT.fullmatch(text):
                arguments.append(f"--{match[1]}={match[2]}")
    return arguments


def _of_operator(item: Object) -> Object:
    """Return an object that is not to be made again, but by its owner."""
    made = cleaned(item)
    owners = item["metadata"]["ownerReferences"]
    return made | {"metadata": made["metadata"] | {"ownerReferences": owners}}


def _without_mutator(item: Object) -> list[Any]:
    """Return a configuration's other webhooks, which stay; none for any other object."""
    return [each for each in item.get("webhooks") or [] if each["name"] != MUTATOR]


def _shown(values: Values) -> Values:
    """Return values without the key of a CA."""
    return merged(values, {"webhook": {"authority": None}}) if "webhook" in values else values


def _diff(item: Object, live: Object) -> str:
    """Return what an object loses, as a unified diff."""
    kept = _without_mutator(live)
    return unified(ref(item), live, live | {"webhooks": kept} if kept else {})
