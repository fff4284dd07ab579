# SPDX-License-Identifier: Apache-2.0
"""Make what runs be what was asked for, step by small step, each recorded before it is taken.

A container's name says its pod and attempt, and is written down before the container is started.
So a keeper that ends at any point is followed by one that knows what to look for: nothing is
started twice, and what no record names is removed.
"""

import logging
import os
import secrets
import time
from collections.abc import Iterator

from ensconce.errors import DeviceError, EnsconceError
from ensconce.node.accountant import Accountant, Holding
from ensconce.node.engine import Engine, Seen
from ensconce.node.manifest import pod_spec
from ensconce.node.places import Places
from ensconce.node.pods import PodKeeper
from ensconce.node.store import Record, Store
from ensconce.node.supervisor import start_supervisor

__all__ = ["KEEPER", "Keeper", "holdings"]

KEEPER = "keeper"
_TICK = 0.2
_IDLE_TICK = 1.0
_QUIET = 5.0
_BACKOFF_LIMIT = 6

_log = logging.getLogger(__name__)


def holdings(pods: list[Record]) -> list[Holding]:
    """Return who has which devices."""
    return [
        Holding(pod["uid"], name, grant["resource"], tuple(grant["devices"]))
        for pod in pods
        for name, grant in pod["grants"].items()
    ]


class Keeper:
    """Follows the workloads' records; `accountant` counts EPC and `engine` runs containers."""

    def __init__(self, places: Places, engine: Engine, accountant: Accountant) -> None:
        self._places = places
        self._store = Store(places)
        self._engine = engine
        self._accountant = accountant
        self._pods = PodKeeper(places, self._store, engine, accountant)
        self._said = ""
        self._moved = time.monotonic()

    def run(self) -> None:
        """Keep until everything is to end; then end all containers, and keep the records."""
        while not self._places.down.exists():
            start_supervisor(self._places)
            try:
                busy = self.step()
                self._said = ""
            except (EnsconceError, OSError) as error:
                busy = True
                if str(error) != self._said:
                    self._said = str(error)
                    _log.warning("failed", extra={"facts": {"fault": self._said}})
            if busy:
                self._moved = time.monotonic()
            time.sleep(_TICK if time.monotonic() - self._moved < _QUIET else _IDLE_TICK)
        self._rest()

    def _rest(self) -> None:
        """End all containers."""
        for pod in self._store.pods():
            self._pods.interrupt(pod)
        for name in self._engine.look():
            self._engine.remove(name)

    def step(self) -> bool:
        """Take one step for everything; return whether anything was to do."""
        workloads = {each["uid"]: each for each in self._store.workloads()}
        pods = self._store.pods()
        seen = self._engine.look()
        busy = self._sweep(pods, seen)
        for workload in workloads.values():
            mine = [each for each in pods if each["workload"] == workload["uid"]]
            busy |= self._tend(workload, mine, pods)
        for pod in pods:
            workload_of = workloads.get(pod["workload"])
            if workload_of is None or workload_of.get("ending") or pod.get("ending"):
                busy |= self._pods.end(pod, seen)
            else:
                busy |= self._pods.tend(pod, workload_of, seen, pods)
        self._accountant.write(holdings(self._store.pods()))
        return busy

    def _sweep(self, pods: list[Record], seen: dict[str, Seen]) -> bool:
        """Remove containers that no record names."""
        named = {one["container"] for pod in pods for one in pod["containers"].values()}
        lost = [name for name in seen if name not in named]
        for name in lost:
            self._engine.remove(name)
        known = {pod["uid"] for pod in pods}
        for uid in {seen[name].pod for name in lost} - known:
            self._engine.drop_pod(uid)
        return bool(lost)

    # --- workloads

    def _tend(self, workload: Record, mine: list[Record], pods: list[Record]) -> bool:
        """Make a workload's pods as many as they should be."""
        if workload.get("ending"):
            if not mine:
                self._store.drop_workload(workload)
                self._store.tell(workload["name"], "Stopped", f"{workload['kind']} is gone")
            return True
        active = [each for each in mine if each["phase"] in ("Pending", "Running")]
        wanted = _wanted(workload, mine, active)
        for _ in range(wanted - len(active)):
            made = self._make(workload)
            mine.append(made)
            pods.append(made)
        for surplus in active[max(wanted, 0) :] if workload["kind"] == "Deployment" else ():
            surplus["ending"] = True
            self._store.save_pod(surplus)
        self._judge(workload, mine)
        return wanted > len(active)

    def _make(self, workload: Record) -> Record:
        """Make the record of a pod."""
        uid = secrets.token_hex(8)
        name = workload["name"] if workload["kind"] == "Pod" else f"{workload['name']}-{uid[:5]}"
        spec = pod_spec(workload, name, uid)
        pod: Record = {
            "uid": uid,
            "name": name,
            "workload": workload["uid"],
            "made": time.time(),
            "grace": spec.grace,
            "phase": "Pending",
            "reason": "",
            "message": "",
            "grants": {},
            "containers": {},
        }
        for first, each in [(True, one) for one in spec.first] + [
            (False, one) for one in spec.containers
        ]:
            pod["containers"][each.name] = {
                "first": first,
                "container": f"ensconce-{uid}-{each.name}-0",
                "attempt": 0,
                "state": "waiting",
                "due": 0.0,
                "exit_code": None,
            }
        self._store.save_pod(pod)
        self._store.tell(name, "Created", f"pod of {workload['kind']} {workload['name']}")
        return pod

    def _judge(self, workload: Record, mine: list[Record]) -> None:
        """Note a Job's or Pod's result once, for whoever waits for it."""
        result = _result(workload, mine)
        if result and workload.get("result") != result:
            workload["result"] = result
            self._store.save_workload(workload)
            self._store.tell(workload["name"], result, f"{workload['kind']} has ended")


def _figures(workload: Record) -> tuple[int, int, int]:
    """Return a Job's completions, parallelism and backoff limit."""
    spec = workload["manifest"]["spec"]
    return (
        spec.get("completions", 1),
        spec.get("parallelism", 1),
        spec.get("backoffLimit", _BACKOFF_LIMIT),
    )


def _wanted(workload: Record, mine: list[Record], active: list[Record]) -> int:
    """Return how many pods should be active."""
    if workload["kind"] == "Pod":
        return 1 if not mine else len(active)
    if workload["kind"] == "Deployment":
        return int(workload["manifest"]["spec"].get("replicas", 1))
    completions, parallelism, _ = _figures(workload)
    if _result(workload, mine):
        return len(active)
    done = sum(each["phase"] == "Succeeded" for each in mine)
    return int(max(min(parallelism, completions - done), len(active)))


def _result(workload: Record, mine: list[Record]) -> str:
    """Return how a workload ended, empty while it has not."""
    if workload["kind"] == "Pod":
        return next(
            (each["phase"] for each in mine if each["phase"] in ("Succeeded", "Failed")), ""
        )
    if workload["kind"] == "Deployment":
        return ""
    completions, _, limit = _figures(workload)
    if sum(each["phase"] == "Succeeded" for each in mine) >= completions:
        return "Succeeded"
    failed = sum(each["phase"] == "Failed" for each in mine)
    retried = sum(
        one["attempt"] for each in mine if each["phase"] != "Failed" for one in _ones(each)
    )
    return "Failed" if failed + retried > limit else ""


def _ones(pod: Record) -> Iterator[Record]:
    yield from pod["containers"].values()


def run_keeper(places: Places, engine: Engine) -> None:
    """Be the keeper, with the accountant in this process, until everything is to end."""
    places.prepare()
    accountant = Accountant(places.plugins)
    try:
        Keeper(places, engine, accountant).run()
    except DeviceError:
        _log.exception("failed")
        os._exit(1)
    os._exit(0)
