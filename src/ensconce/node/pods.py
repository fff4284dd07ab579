# SPDX-License-Identifier: Apache-2.0
"""One pod from admission to its end: EPC first, then init containers in turn, then the others."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from ensconce.errors import DeviceError
from ensconce.node.accountant import Accountant, Grant, Holding
from ensconce.node.engine import Engine, Launch, Seen, Status
from ensconce.node.manifest import AESM_FOLDER, Container, PodSpec, is_aesm, pod_spec, texts_of
from ensconce.node.places import Places
from ensconce.node.store import Record, Store, write_whole
from ensconce.resources import Resource

__all__ = ["PodKeeper"]

_LOST = 137  # as of a process that was killed
_FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 300.0
_RETRY = 2.0

_log = logging.getLogger(__name__)


class PodKeeper:
    """Takes pods on, step by step."""

    def __init__(
        self, places: Places, store: Store, engine: Engine, accountant: Accountant
    ) -> None:
        self._places = places
        self._store = store
        self._engine = engine
        self._accountant = accountant

    # --- the way

    def tend(
        self, pod: Record, workload: Record, seen: dict[str, Seen], pods: list[Record]
    ) -> bool:
        """Take a pod one step on; return whether there was one."""
        if pod["phase"] in ("Succeeded", "Failed"):
            return False
        spec = pod_spec(workload, pod["name"], pod["uid"])
        if not self._admit(pod, spec, pods):
            return False
        busy = False
        for each in spec.first:
            one = pod["containers"][each.name]
            busy |= self._step(pod, spec, each, seen, workload)
            if one["state"] != "ended" or one["exit_code"] != 0:
                self._conclude(pod, spec)
                return busy
        for each in spec.containers:
            busy |= self._step(pod, spec, each, seen, workload)
        self._conclude(pod, spec)
        return busy

    def _admit(self, pod: Record, spec: PodSpec, pods: list[Record]) -> bool:
        """Give a pod's containers their EPC, all or none; return whether they have it."""
        asking = [one for one in (*spec.first, *spec.containers) if one.epc_mib]
        missing = [one for one in asking if one.name not in pod["grants"]]
        if not missing:
            return True
        resource = str(Resource.EPC_ALIBABA)
        held = [
            Holding(each["uid"], name, grant["resource"], tuple(grant["devices"]))
            for each in pods
            for name, grant in each["grants"].items()
        ]
        free = self._accountant.free(resource, held)
        need = sum(one.epc_mib for one in missing)
        if need > len(free):
            total = self._accountant.total(resource)
            self._wait(
                pod,
                "InsufficientEPC",
                f"asks for {need} MiB of EPC, and of {total} MiB {len(free)} are free",
            )
            return False
        grants = {}
        for one in missing:
            mine, free = free[: one.epc_mib], free[one.epc_mib :]
            grants[one.name] = _encode(Grant(resource, tuple(mine), {}, (), ()))
        pod["grants"] |= grants
        pod["reason"] = pod["message"] = ""
        self._store.save_pod(pod)
        self._store.tell(pod["name"], "Admitted", f"{need} MiB of EPC")
        return True

    def _step(
        self, pod: Record, spec: PodSpec, each: Container, seen: dict[str, Seen], workload: Record
    ) -> bool:
        """Take one container a step on."""
        one = pod["containers"][each.name]
        found = seen.get(one["container"])
        if one["state"] == "waiting" and time.time() >= one["due"]:
            one["state"] = "starting"
            self._store.save_pod(pod)
            found = None
        if one["state"] == "starting":
            if found is None or found.status == Status.CREATED:
                return self._start(pod, spec, each, workload)
            one["state"] = "running"
            self._store.save_pod(pod)
        if one["state"] != "running":
            return False
        if found is not None and found.status == Status.RUNNING:
            return False
        lost = found is None or found.status != Status.EXITED
        self._exited(pod, spec, each.name, _LOST if lost or found is None else found.exit_code)
        return True

    def _start(self, pod: Record, spec: PodSpec, each: Container, workload: Record) -> bool:
        """Start a container that is recorded as starting."""
        one = pod["containers"][each.name]
        try:
            grant = self._granted(pod, each) if each.epc_mib else None
            self._engine.start(self._launch(pod, spec, each, grant, workload))
        except DeviceError as error:
            one["state"], one["due"] = "waiting", time.time() + _RETRY
            self._wait(pod, "CannotStart", f"container {each.name}: {error}")
            return True
        one["state"], one["began"] = "running", time.time()
        pod["phase"], pod["reason"], pod["message"] = "Running", "", ""
        self._store.save_pod(pod)
        self._store.tell(pod["name"], "Started", f"container {each.name}")
        return True

    def _granted(self, pod: Record, each: Container) -> Grant:
        """Return what a container has with its EPC, anew where the last is gone."""
        grant = _decode(pod["grants"][each.name])
        there = grant.mounts or grant.nodes
        if not there or not all(Path(host).exists() for host, _, _ in _hosts(grant)):
            grant = self._accountant.allocate(grant.resource, grant.devices)
            pod["grants"][each.name] = _encode(grant)
            self._store.save_pod(pod)
        self._accountant.prepare(grant.resource, grant.devices)
        return grant

    def _launch(
        self, pod: Record, spec: PodSpec, each: Container, grant: Grant | None, workload: Record
    ) -> Launch:
        """Return how to start a container."""
        one = pod["containers"][each.name]
        mounts = [
            (str(self._volume(pod, spec.volumes[one.volume], workload)), one.path, one.read_only)
            for one in each.mounts
        ]
        environment = dict(each.environment)
        if spec.aesm and each.epc_mib and AESM_FOLDER not in {path for _, path, _ in mounts}:
            mounts.append((str(self._places.aesm), AESM_FOLDER, True))
            environment.setdefault("SGX_AESM_ADDR", "1")
        nodes: tuple[tuple[str, str, str], ...] = ()
        if grant is not None:
            environment = {**grant.environment, **environment}
            mounts += [(host, inside, only) for inside, host, only in grant.mounts]
            nodes = tuple((host, inside, rights) for inside, host, rights in grant.nodes)
        return Launch(
            name=one["container"],
            pod=pod["uid"],
            container=each,
            environment=environment,
            mounts=tuple(mounts),
            nodes=nodes,
            log=self.log(pod, each.name),
            host_network=spec.host_network,
            sandbox=spec.sandbox,
            shared=len(spec.containers) > 1,
        )

    def folder(self, pod: Record) -> Path:
        """Return a pod's folder, which is there."""
        made: Path = self._places.pods / pod["uid"]
        made.mkdir(mode=0o711, exist_ok=True)
        return made

    def log(self, pod: Record, container: str) -> Path:
        """Return the log of a container's attempt."""
        attempt = pod["containers"][container]["attempt"]
        return self.folder(pod) / f"{container}.{attempt}.log"

    def _volume(self, pod: Record, volume: dict[str, Any], workload: Record) -> Path:
        """Return a volume's place on this machine, made as its kind says. Raises DeviceError."""
        if "hostPath" in volume:
            return self._host_path(volume["hostPath"])
        folder = self.folder(pod) / f"volume-{volume['name']}"
        folder.mkdir(mode=0o777, exist_ok=True)
        if "emptyDir" in volume:
            folder.chmod(0o777)  # whatever the umask: for the container's user
            return folder
        kind, key = ("ConfigMap", "name") if "configMap" in volume else ("Secret", "secretName")
        source = volume["configMap" if kind == "ConfigMap" else "secret"]
        texts = texts_of(
            workload["data"], kind, source[key], optional=source.get("optional", False)
        )
        for name, text in texts.items():
            write_whole(folder / name, text.encode())
            (folder / name).chmod(0o644)
        folder.chmod(0o755)
        return folder

    def _host_path(self, source: dict[str, str]) -> Path:
        """Return a path of the host that is of its kind. Raises DeviceError."""
        if is_aesm(source["path"]):
            name = source["path"].rstrip("/").removeprefix(AESM_FOLDER).lstrip("/")
            return self._places.aesm / name
        path, kind = Path(source["path"]), source.get("type", "")
        if kind == "DirectoryOrCreate":
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        good = {
            "": path.exists(),
            "Directory": path.is_dir(),
            "DirectoryOrCreate": path.is_dir(),
            "File": path.is_file(),
            "Socket": path.is_socket(),
        }
        if not good[kind]:
            raise DeviceError(f"the host has no {kind or 'file or folder'} {path}")
        return path

    # --- the end

    def _exited(self, pod: Record, spec: PodSpec, name: str, code: int) -> None:
        """Record a container's end, and when it is to start again."""
        one = pod["containers"][name]
        one["exit_code"], one["ended"] = code, time.time()
        again = spec.restart == "Always" and not one["first"]
        again = again or (code != 0 and spec.restart != "Never")
        old = one["container"]
        if again:
            steady = one["ended"] - one.get("began", 0.0) > 2 * _LONGEST_PAUSE
            one["streak"] = 0 if steady else one.get("streak", -1) + 1
            pause = min(_FIRST_PAUSE * 2.0 ** (one["streak"] - 1), _LONGEST_PAUSE)
            one["due"] = time.time() + (pause if one["streak"] else 0.0)
            one["attempt"] += 1
            one["container"] = f"ensconce-{pod['uid']}-{name}-{one['attempt']}"
            one["state"] = "waiting"
        else:
            one["state"] = "ended"
        self._store.save_pod(pod)
        word = "Restarting" if again else "Exited"
        self._store.tell(pod["name"], word, f"container {name} ended with exit code {code}")
        self._engine.remove(old)

    def _conclude(self, pod: Record, spec: PodSpec) -> None:
        """Give a pod whose containers have all ended its result, and free what it had."""
        ones = pod["containers"]
        failed_first = any(
            ones[each.name]["state"] == "ended" and ones[each.name]["exit_code"]
            for each in spec.first
        )
        if not failed_first and any(
            ones[each.name]["state"] != "ended" for each in spec.containers
        ):
            return
        good = not failed_first and all(one["exit_code"] == 0 for one in ones.values())
        pod["phase"] = "Succeeded" if good else "Failed"
        pod["grants"] = {}
        pod["reason"] = pod["message"] = ""
        self._store.save_pod(pod)
        self._store.tell(pod["name"], pod["phase"], "all containers have ended")
        self._engine.drop_pod(pod["uid"])

    def end(self, pod: Record, seen: dict[str, Seen]) -> bool:
        """Remove a pod and all that it had."""
        for one in pod["containers"].values():
            if one["container"] in seen:
                self._engine.stop(one["container"], pod["grace"])
                self._engine.remove(one["container"])
        self._engine.drop_pod(pod["uid"])
        shutil.rmtree(self._places.pods / pod["uid"], ignore_errors=True)
        self._store.drop_pod(pod)
        self._store.tell(pod["name"], "Removed", "pod is gone")
        return True

    def interrupt(self, pod: Record) -> None:
        """End a pod's containers as this machine goes down; its restartPolicy decides the rest."""
        for name, one in pod["containers"].items():
            if one["state"] == "running":
                self._engine.stop(one["container"], pod["grace"])
                self._store.tell(pod["name"], "Interrupted", f"container {name}: going down")

    def _wait(self, pod: Record, reason: str, message: str) -> None:
        """Note why a pod waits, once."""
        if (pod["reason"], pod["message"]) != (reason, message):
            pod["reason"], pod["message"] = reason, message
            self._store.save_pod(pod)
            self._store.tell(pod["name"], reason, message)


def _hosts(grant: Grant) -> list[tuple[str, str, bool]]:
    """Return what of the host a grant names, first in each."""
    mounts = [(host, inside, True) for inside, host, _ in grant.mounts]
    return mounts + [(host, inside, True) for inside, host, _ in grant.nodes]


def _encode(grant: Grant) -> Record:
    """Return a grant as a record has it."""
    return {
        "resource": grant.resource,
        "devices": list(grant.devices),
        "environment": grant.environment,
        "mounts": [list(each) for each in grant.mounts],
        "nodes": [list(each) for each in grant.nodes],
    }


def _decode(record: Record) -> Grant:
    """Return the grant in a record."""
    return Grant(
        record["resource"],
        tuple(record["devices"]),
        dict(record["environment"]),
        tuple((str(a), str(b), bool(c)) for a, b, c in record["mounts"]),
        tuple((str(a), str(b), str(c)) for a, b, c in record["nodes"]),
    )
