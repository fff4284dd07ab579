# SPDX-License-Identifier: Apache-2.0
"""What a person does with this machine's workloads: run, list, read, enter and stop them."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ensconce.errors import ConfigError, FormatError
from ensconce.node.engine import Engine
from ensconce.node.manifest import pod_spec, read_manifest, template
from ensconce.node.places import Places
from ensconce.node.podman import Podman, full_name
from ensconce.node.services import Settings
from ensconce.node.store import Record, Store
from ensconce.oci.reading import open_archive

__all__ = ["Machine", "choose_engine"]

_PAUSE = 0.1
_MADE = "dist"  # where `make images` puts archives


def choose_engine(name: str, places: Places, environment: Mapping[str, str]) -> Engine:
    """Return the engine of a name. Raises ConfigError."""
    if name == "podman":
        if shutil.which("podman") is None:
            raise ConfigError("Podman is not installed; apt install podman")
        return Podman(places, environment)
    raise ConfigError(f"{name!r} is no engine; podman is one")


class Machine:
    """This machine, while it is up."""

    def __init__(self, places: Places, environment: Mapping[str, str] = os.environ) -> None:
        self.places = places
        self.store = Store(places)
        self.settings = Settings.load(places)
        self.engine = choose_engine(self.settings.engine, places, environment)

    def run(
        self, path: Path, *, archives: tuple[Path, ...] = (), allowed: tuple[str, ...] = ()
    ) -> list[str]:
        """Have a manifest's workloads run; return their names. Raises ConfigError, DeviceError."""
        found = read_manifest(path, allowed)
        known = {each["name"] for each in self.store.workloads()}
        for each in found:
            name = each["manifest"]["metadata"]["name"]
            if name in known:
                raise ConfigError(f"{name} is here already; `ensconce stop {name}` first")
            known.add(name)
        for each in found:
            spec = pod_spec(each, "name", "uid")
            for one in (*spec.first, *spec.containers):
                self._provide(one.image, archives)
        for each in found:
            self.store.save_workload(_workload(each))
        return [each["manifest"]["metadata"]["name"] for each in found]

    def _provide(self, image: str, archives: tuple[Path, ...]) -> None:
        """See to it that an image is here."""
        if self.engine.has_image(image):
            return
        for archive in (*archives, *sorted(Path(_MADE).glob("*.oci.tar"))):
            try:
                with open_archive(archive) as opened:
                    name = opened.image().name
            except FormatError:
                if archive in archives:
                    raise
                continue
            if full_name(name) == full_name(image):
                self.engine.load(archive)
                return
        raise ConfigError(
            f"the image {image} is not here; build it (`make images` builds hello world's), name "
            "its archive by --image-archive, or `podman pull` it"
        )

    def listing(self) -> list[dict[str, Any]]:
        """Return the pods, as a person wants them listed."""
        workloads = {each["uid"]: each for each in self.store.workloads()}
        rows = []
        for pod in self.store.pods():
            ones = pod["containers"].values()
            workload = workloads.get(pod["workload"], {})
            rows.append(
                {
                    "name": pod["name"],
                    "workload": f"{workload.get('kind', '?')}/{workload.get('name', '?')}",
                    "phase": "Stopping" if workload.get("ending") else pod["phase"],
                    "restarts": sum(one["attempt"] for one in ones),
                    "exit_codes": {
                        name: one["exit_code"]
                        for name, one in pod["containers"].items()
                        if one["exit_code"] is not None
                    },
                    "epc_mib": sum(len(each["devices"]) for each in pod["grants"].values()),
                    "reason": pod["reason"],
                    "message": pod["message"],
                    "age_seconds": int(time.time() - pod["made"]),
                }
            )
        waiting = {pod["workload"] for pod in self.store.pods()}
        return rows + [
            _not_yet(each)
            for each in workloads.values()
            if each["uid"] not in waiting and not each.get("result")
        ]

    def pod(self, name: str) -> Record:
        """Return the pod of a name, or the newest of a workload. Raises ConfigError."""
        workloads = {each["uid"]: each["name"] for each in self.store.workloads()}
        pods = self.store.pods()
        for pod in reversed(pods):
            if name in (pod["name"], pod["uid"]):
                return pod
        for pod in reversed(pods):
            if workloads.get(pod["workload"]) == name:
                return pod
        raise ConfigError(f"there is no pod {name!r}; `ensconce ps` lists them")

    def container(self, name: str, container: str | None) -> tuple[Record, str]:
        """Return a pod and the name of one of its containers. Raises ConfigError."""
        pod = self.pod(name)
        names = [each for each, one in pod["containers"].items() if not one["first"]]
        chosen = container or names[0]
        if chosen not in pod["containers"]:
            raise ConfigError(f"{name} has no container {chosen!r}; it has {', '.join(names)}")
        return pod, chosen

    def logs(self, name: str, container: str | None, *, follow: bool) -> Iterator[str]:
        """Yield the lines of a container's attempts; with `follow` until the pod ends."""
        pod, chosen = self.container(name, container)
        attempt, told = 0, 0
        while True:
            folder = self.places.pods / pod["uid"]
            one = pod["containers"][chosen]
            path = folder / f"{chosen}.{attempt}.log"
            lines = self.engine.log_lines(path) if path.exists() else ()
            yield from lines[told:]
            told = max(told, len(lines))
            if attempt < one["attempt"]:
                attempt, told = attempt + 1, 0
                continue
            if not follow or pod["phase"] in ("Succeeded", "Failed"):
                return
            time.sleep(_PAUSE)
            try:
                pod = self.pod(pod["uid"])
            except ConfigError:  # stopped
                return

    def exec_command(
        self, name: str, container: str | None, command: tuple[str, ...], *, tty: bool
    ) -> list[str]:
        """Return what runs a command in a running container. Raises ConfigError."""
        pod, chosen = self.container(name, container)
        one = pod["containers"][chosen]
        if one["state"] != "running":
            raise ConfigError(f"container {chosen} of {name} does not run; it is {one['state']}")
        return self.engine.exec_command(one["container"], command, tty=tty)

    def stop(self, names: tuple[str, ...], *, wait: bool = True) -> list[str]:
        """Have workloads end, and wait for that; return their names. Raises ConfigError."""
        workloads = self.store.workloads()
        chosen = [each for each in workloads if each["name"] in names]
        unknown = set(names) - {each["name"] for each in chosen}
        if unknown:
            raise ConfigError(f"there is no workload {min(unknown)!r}; `ensconce ps` lists them")
        for each in chosen:
            each["ending"] = True
            self.store.save_workload(each)
        left = {each["uid"] for each in chosen}
        while wait and left & {each["uid"] for each in self.store.workloads()}:
            time.sleep(_PAUSE)
        return [each["name"] for each in chosen]

    def wait(self, names: list[str]) -> int:
        """Wait until workloads have ended; return the first exit code that is not 0."""
        code = 0
        for name in names:
            while True:
                found = next((e for e in self.store.workloads() if e["name"] == name), None)
                if found is None:
                    raise ConfigError(f"{name} was stopped")
                if found["kind"] == "Deployment":
                    break
                if found.get("result"):
                    code = code or self._code(found)
                    break
                time.sleep(_PAUSE)
        return code

    def _code(self, workload: Record) -> int:
        """Return the exit code of a workload that has ended."""
        if workload["result"] == "Succeeded":
            return 0
        mine = [pod for pod in self.store.pods() if pod["workload"] == workload["uid"]]
        codes = [one["exit_code"] for pod in reversed(mine) for one in pod["containers"].values()]
        return next((code for code in codes if code), 1)


def _workload(found: Record) -> Record:
    """Return the record of a workload."""
    manifest = found["manifest"]
    return {
        "uid": secrets.token_hex(8),
        "kind": manifest["kind"],
        "name": manifest["metadata"]["name"],
        "made": time.time(),
        **_mine(found),
    }


def _mine(found: Record) -> Record:
    """Return a manifest with the ConfigMaps and Secrets that it refers to, and no others."""
    text = repr(template(found["manifest"]))
    data = {
        kind: {name: texts for name, texts in each.items() if repr(name) in text}
        for kind, each in found["data"].items()
    }
    return {"manifest": found["manifest"], "data": data}


def _not_yet(workload: Record) -> dict[str, Any]:
    """Return the row of a workload that has no pod yet."""
    return {
        "name": workload["name"],
        "workload": f"{workload['kind']}/{workload['name']}",
        "phase": "Pending",
        "restarts": 0,
        "exit_codes": {},
        "epc_mib": 0,
        "reason": "",
        "message": "",
        "age_seconds": int(time.time() - workload["made"]),
    }
