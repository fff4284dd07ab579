# SPDX-License-Identifier: Apache-2.0
"""One machine for tests: its own folders, ports and Podman store, and a small image."""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

SOON = 60.0
IMAGE = "localhost/box:1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Box:
    """The command line against one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "ENSCONCE_NODE": str(folder / "n"),
            "ENSCONCE_PLATFORM": str(folder / "platform.json"),
            "ENSCONCE_PODMAN_STORE": str(folder / "podman"),
        }
        self._up = ("up", "--epc=32", f"--pccs-port={free_port()}", f"--pcs-port={free_port()}")

    def __call__(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-c", "from ensconce.cli import main; main()", *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*self._up, "--json"))
        return found

    def podman(self, *arguments: str) -> str:
        store = self.folder / "podman"
        places = {"root": "store", "runroot": "run", "tmpdir": "tmp"}
        options = [f"--{option}={store}/{name}" for option, name in places.items()]
        command = ["podman", "--runtime=runc", "--cgroup-manager=cgroupfs", *options, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def write(self, *documents: dict[str, Any]) -> str:
        path = self.folder / f"{documents[0]['metadata']['name']}.yaml"
        path.write_text(yaml.safe_dump_all(documents))
        return str(path)

    def pods(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in json.loads(self("ps", "--json"))}

    def until(self, good: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
        deadline = time.monotonic() + SOON
        while not good(pods := self.pods()):
            assert time.monotonic() < deadline, (pods, self("events"))
            time.sleep(0.2)
        return pods


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A machine that is up."""
    if os.geteuid() != 0 or shutil.which("podman") is None or shutil.which("runc") is None:
        pytest.skip("needs root, Podman and runc")
    program = shutil.which("busybox")
    if program is None:
        pytest.skip("needs a static busybox")
    pytest.importorskip("ziglang", reason="the toolchain's wheel is not installed")
    folder = Path(tempfile.mkdtemp(prefix="box"))
    made = Box(folder)
    archive = folder / "box.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("sh", "sleep", "true", "cat", "env", "id"):
            entry = tarfile.TarInfo(f"bin/{name}")
            data = Path(program).read_bytes()
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    made.podman("import", "--quiet", str(archive), IMAGE)
    made.up()
    yield made
    made("down")
    made.podman("rm", "--all", "--force", "--time=0")
    made.podman("rmi", "--all", "--force")
    shutil.rmtree(folder, ignore_errors=True)


def pod(name: str, command: str, *, epc: int = 0, restart: str = "Never") -> dict[str, Any]:
    """A Pod of one container that runs a command of the shell."""
    limits = {"alibabacloud.com/sgx_epc_MiB": epc} if epc else {}
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["/bin/sh", "-c", command],
        "resources": {"limits": limits},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    }
