# SPDX-License-Identifier: Apache-2.0
"""Containers by Podman, the user's own: without root where the user is not root."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ensconce.errors import DeviceError
from ensconce.node.engine import Launch, Seen, Status
from ensconce.node.manifest import Container
from ensconce.node.places import Places
from ensconce.node.store import write_whole

__all__ = ["Podman"]

_SECONDS = 120.0
_NODE_LABEL = "dev.ensconce.node"
_POD_LABEL = "dev.ensconce.pod"
_CGROUPS_V2 = Path("/sys/fs/cgroup/cgroup.controllers")
_SANDBOX = "ensconce-runv"
_MOST_PIDS = 1024
_MOST_FILES = 4096


class Podman:
    """Podman as an engine; containers are told from the user's others by a label."""

    name = "podman"

    def __init__(self, places: Places, environment: Mapping[str, str]) -> None:
        self._node = str(places.state)
        self._command = ["podman", *self._options(environment)]
        conf = places.state / "containers.conf"
        self._environment = dict(environment)
        if "CONTAINERS_CONF" not in environment:
            self._environment["CONTAINERS_CONF"] = str(conf)
            if not conf.exists():
                limits = ", ".join(f'"{limit}"' for limit in _limits())
                write_whole(conf, f"[containers]\ndefault_ulimits = [{limits}]\n".encode())

    @staticmethod
    def _options(environment: Mapping[str, str]) -> list[str]:
        """Return the options that this machine needs: its runtime and cgroups; the store's."""
        options = []
        if store := environment.get("ENSCONCE_PODMAN_STORE"):
            places = {"root": "store", "runroot": "run", "tmpdir": "tmp"}
            options += [f"--{option}={store}/{name}" for option, name in places.items()]
        if not _CGROUPS_V2.exists():  # crun refuses mixed hierarchies
            options += ["--runtime=runc", "--cgroup-manager=cgroupfs"]
        return options

    def isolation(self) -> str:
        """Say in one sentence what keeps a container apart."""
        who = "root's" if os.geteuid() == 0 else "the user's, without root"
        return f"Podman's containers, {who}: own file system, processes, network and limits"

    def has_image(self, image: str) -> bool:
        """Return whether an image is here."""
        return self._run("image", "exists", full_name(image), check=False).returncode == 0

    def load(self, archive: Path) -> None:
        """Take the image in an archive over."""
        self._run("load", "--quiet", f"--input={archive}")

    def look(self) -> dict[str, Seen]:
        """Return all containers that were started here and not removed."""
        chosen = f"--filter=label={_NODE_LABEL}={self._node}"
        listed = json.loads(self._run("ps", "--all", "--format=json", chosen).stdout or "[]")
        return {
            each["Names"][0]: Seen(
                _status(each["State"]), each["Labels"][_POD_LABEL], each["ExitCode"]
            )
            for each in listed or ()
        }

    def start(self, launch: Launch) -> None:
        """Start a container; nothing is left of one that could not be."""
        if launch.shared:
            self._share(launch)
        self.remove(launch.name)
        try:
            self._run(*_run_options(launch, self._node), *_what(launch.container))
        except DeviceError:
            self.remove(launch.name)
            raise

    def _share(self, launch: Launch) -> None:
        """Make the pod whose containers share a network, where it is not there."""
        pod = _pod_name(launch.pod)
        if self._run("pod", "exists", pod, check=False).returncode == 0:
            return
        network = ["--network=host"] if launch.host_network else []
        self._run("pod", "create", f"--name={pod}", "--share=net,ipc,uts", *network)

    def stop(self, name: str, grace: float) -> None:
        """Ask a container to end, and end it after so many seconds."""
        self._run("stop", "--ignore", f"--time={int(grace)}", name, check=False, more=grace)

    def remove(self, name: str) -> None:
        """Remove a container, running or not; nothing if there is none."""
        self._run("rm", "--force", "--ignore", "--time=0", "--volumes", name)

    def drop_pod(self, pod: str) -> None:
        """Remove what a pod's containers shared."""
        self._run("pod", "rm", "--force", "--ignore", "--time=0", _pod_name(pod))

    def log_lines(self, path: Path) -> Sequence[str]:
        """Return the lines of a container's log: time, stream, whether whole, text."""
        made, part = [], ""
        for line in path.read_text("utf-8", "replace").splitlines():
            words = line.split(" ", 3)
            text = words[3] if len(words) > 3 else ""
            part += text
            if len(words) > 2 and words[2] == "F":
                made.append(part)
                part = ""
        return [*made, part] if part else made

    def exec_command(self, name: str, command: Sequence[str], *, tty: bool) -> list[str]:
        """Return what runs a command in a container."""
        options = ["--interactive", *(["--tty"] if tty else [])]
        return [*self._command, "exec", *options, name, *command]

    def _run(
        self, *arguments: str, check: bool = True, more: float = 0.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run Podman. Raises DeviceError with its words."""
        try:
            done = subprocess.run(  # noqa: S603  # Podman, with arguments of ours
                [*self._command, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS + more,
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"podman {arguments[0]} did not end in {_SECONDS:.0f} s") from error
        if check and done.returncode:
            words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise DeviceError(f"podman {arguments[0]}: {words[-1].removeprefix('Error: ')}")
        return done


def full_name(image: str) -> str:
    """Return an image's name with its registry, as Kubernetes fills it in."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def _limits() -> list[str]:
    """Return limits that this user may set."""
    made = []
    for name, number, most in (
        ("nofile", resource.RLIMIT_NOFILE, _MOST_FILES),
        ("nproc", resource.RLIMIT_NPROC, 8192),
    ):
        hard = resource.getrlimit(number)[1]
        figure = most if hard == resource.RLIM_INFINITY else min(most, hard)
        made.append(f"{name}={figure}:{figure}")
    return made


def _run_options(launch: Launch, node: str) -> list[str]:
    """Return the options by which a container is what its manifest says, and no more."""
    one = launch.container
    options = [
        "run",
        "--detach",
        "--pull=never",
        f"--name={launch.name}",
        f"--label={_NODE_LABEL}={node}",
        f"--label={_POD_LABEL}={launch.pod}",
        "--log-driver=k8s-file",
        f"--log-opt=path={launch.log}",
        "--security-opt=no-new-privileges",
        f"--pids-limit={_MOST_PIDS}",
        *(f"--cap-drop={each}" for each in one.drops),
        *(f"--env={name}={value}" for name, value in launch.environment.items()),
        *(f"--device={host}:{inside}:{rights}" for host, inside, rights in launch.nodes),
    ]
    for host, inside, read_only in launch.mounts:
        options.append(f"--volume={host}:{inside}{':ro' if read_only else ''}")
    if launch.shared:
        options.append(f"--pod={_pod_name(launch.pod)}")
    elif launch.host_network:
        options.append("--network=host")
    if launch.sandbox:
        beside = Path(sys.executable).parent / _SANDBOX
        options.append(f"--runtime={shutil.which(_SANDBOX) or beside}")
    if one.memory:
        options.append(f"--memory={one.memory}")
    if one.cpu:
        options.append(f"--cpus={one.cpu / 1000}")
    if one.user is not None:
        group = "" if one.group is None else f":{one.group}"
        options.append(f"--user={one.user}{group}")
    if one.read_only:
        options += ["--read-only", "--read-only-tmpfs=false"]
    if one.folder:
        options.append(f"--workdir={one.folder}")
    return options


def _what(one: Container) -> list[str]:
    """Return the image and what is run of it."""
    entry = [f"--entrypoint={json.dumps(list(one.command))}"] if one.command else []
    return [*entry, full_name(one.image), *one.arguments]


def _pod_name(pod: str) -> str:
    return f"ensconce-{pod}"


def _status(state: str) -> str:
    """Return Podman's word as ours."""
    if state in ("running", "stopping", "paused"):
        return Status.RUNNING
    return Status.EXITED if state in ("exited", "stopped") else Status.CREATED
