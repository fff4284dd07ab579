# SPDX-License-Identifier: Apache-2.0
"""Wait until what was installed runs, and say why it does not."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ensconce.errors import ClusterError
from ensconce.kube.install.cluster import Cluster, Object, Ref

__all__ = ["Rollout", "reasons", "rollout", "wait_ready"]

_logger = logging.getLogger("ensconce.kube.install")
_WORKLOADS = ("DaemonSet", "Deployment")
_HOPELESS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
_FEW = 3
_PATIENCE = 20.0  # seconds; pods of an earlier form are still seen for a while


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a workload is: of `wanted` pods so many are of its newest form and ready."""

    name: str
    wanted: int
    ready: int
    done: bool


def rollout(item: Object) -> Rollout:
    """Return how far a DaemonSet or Deployment is."""
    status: Mapping[str, Any] = item.get("status") or {}
    seen = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 1)
    name = f"{item['kind']} {item['metadata']['name']}"
    if item["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        new, ready = status.get("updatedNumberScheduled", 0), status.get("numberReady", 0)
        extra = 0
    else:
        wanted = item["spec"].get("replicas", 1)
        new, ready = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
        extra = status.get("replicas", 0) - wanted
    now = min(new, ready)
    return Rollout(name, wanted, now, seen and now >= wanted and extra <= 0)


def wait_ready(
    cluster: Cluster,
    refs: Iterable[Ref],
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until all workloads among these are ready; ClusterError says what holds them up."""
    waiting = [each for each in refs if each.kind in _WORKLOADS]
    end, said, hopeful = clock() + timeout, "", clock()
    while True:
        items = [found for each in waiting if (found := cluster.get(each))]
        states = [rollout(each) for each in items]
        if len(items) == len(waiting) and all(each.done for each in states):
            return
        late = [item for item, state in zip(items, states, strict=True) if not state.done]
        why = [line for item in late for line in reasons(cluster, item)]
        text = ", ".join(f"{each.name} {each.ready}/{each.wanted}" for each in states)
        text += f" ({why[0]})" if why else ""
        if text != said:
            _logger.info("waiting: %s", text)
            said = text
        if not any(word in line for line in why for word in _HOPELESS):
            hopeful = clock()
        hopeless = clock() - hopeful > _PATIENCE
        if hopeless or clock() >= end:
            names = ", ".join(f"{each['kind']} {each['metadata']['name']}" for each in late)
            raise ClusterError(
                f"{names or 'what was applied'} did not become ready"
                f"{'' if hopeless else f' in {timeout:.0f} s'}: "
                f"{'; '.join(why[:_FEW]) or 'no pod says why'}; mend that and run it again, or "
                "`ensconce cluster rollback`"
            )
        sleep(1)


def reasons(cluster: Cluster, item: Object) -> list[str]:
    """Return what holds a workload's pods up, each once."""
    namespace = item["metadata"]["namespace"]
    labels = item["spec"]["selector"]["matchLabels"]
    pods = cluster.find("Pod", namespace=namespace, labels=labels)
    found = [line for pod in pods for line in _of_pod(cluster, pod)]
    if not pods:
        found = _of_events(cluster, namespace, item["metadata"]["name"])
    return list(dict.fromkeys(found))


def _of_pod(cluster: Cluster, pod: Object) -> list[str]:
    """Return what holds a pod up."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    lines = [
        f"pod {name} can't be placed: {each.get('message', '')}"
        for each in status.get("conditions") or []
        if each["type"] == "PodScheduled" and each["status"] == "False"
    ]
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in status.get(kind) or []:
            waiting = (each.get("state") or {}).get("waiting") or {}
            reason = waiting.get("reason", "")
            if reason in ("", "ContainerCreating", "PodInitializing"):
                continue
            message = waiting.get("message", "")
            if reason == "CrashLoopBackOff":
                said = cluster.last_words(pod["metadata"]["namespace"], name, each["name"])
                ended = (each.get("lastState") or {}).get("terminated") or {}
                message = f"exit code {ended.get('exitCode', '?')}: {said}"
            lines.append(f"pod {name}, container {each['name']}: {reason}: {message}")
    if not lines and status.get("phase") == "Pending":
        lines = _of_events(cluster, pod["metadata"]["namespace"], name)
    return lines


def _of_events(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """Return the last warning about an object, or about what it made."""
    events = [
        each
        for each in cluster.find("Event", namespace=namespace)
        if each.get("type") == "Warning"
        and str((each.get("involvedObject") or {}).get("name", "")).startswith(name)
    ]
    events.sort(key=lambda each: each.get("lastTimestamp") or each.get("eventTime") or "")
    return [f"{name}: {each.get('reason')}: {each.get('message')}" for each in events[-1:]]
