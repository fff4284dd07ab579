# SPDX-License-Identifier: Apache-2.0
"""Bundles for the OCI runtime: a root folder with busybox and a configuration to change."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSYBOX = shutil.which("busybox")
NEEDED = ("qemu-system-x86_64", "busybox")
_TOOLS = (
    "sh",
    "uname",
    "cat",
    "echo",
    "sleep",
    "id",
    "ls",
    "ps",
    "touch",
    "mount",
    "insmod",
    "env",
)


def missing() -> str:
    """Return why machines can't run here; empty where they can."""
    if os.geteuid() != 0:
        return "sandboxes need root for mounts and network namespaces"
    absent = [each for each in NEEDED if not shutil.which(each)]
    return f"sandboxes need {', '.join(absent)}" if absent else ""


def configuration(*words: str) -> dict[str, Any]:
    """Return a configuration of a container without network that runs these words."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(words),
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {
            "namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount")]
        },
    }


@dataclass
class Runtime:
    """The runtime with a root folder of its own."""

    folder: Path
    names: list[str] = field(default_factory=list)

    def bundle(self, config: dict[str, Any]) -> Path:
        """Return a bundle with this configuration."""
        bundle = self.folder / uuid.uuid4().hex[:8]
        tools = bundle / "rootfs/bin"
        tools.mkdir(parents=True)
        assert BUSYBOX
        shutil.copy(BUSYBOX, tools / "busybox")
        for tool in _TOOLS:
            (tools / tool).symlink_to("busybox")
        (bundle / "config.json").write_text(json.dumps(config))
        return bundle

    def __call__(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command of the runtime."""
        return subprocess.run(
            [sys.executable, "-m", "ensconce.node.runv", f"--root={self.folder}/state", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def run(
        self, *words: str, stdin: str = "", **config: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a container to its end."""
        made = configuration(*words)
        for key, value in config.items():
            made[key] = {**made.get(key, {}), **value} if isinstance(value, dict) else value
        return self("run", "--bundle", str(self.bundle(made)), "one", stdin=stdin)

    def start(self, name: str, *words: str) -> None:
        """Start a container that stays."""
        bundle = self.bundle(configuration(*words))
        with Path(os.devnull).open("r+b") as nothing:  # a pipe would be held open by the container
            subprocess.run(
                [sys.executable, "-m", "ensconce.node.runv", f"--root={self.folder}/state", "run",
                 "--detach", "--bundle", str(bundle), name],
                stdin=nothing, stdout=nothing, stderr=nothing, check=True, timeout=90,
            )  # fmt: skip
        self.names.append(name)

    def pid(self, name: str) -> int:
        """Return the process that stands for a container."""
        return int(json.loads(self("state", name).stdout)["pid"])

    def clean(self) -> None:
        """Remove what is left."""
        for name in self.names:
            self("delete", "--force", name)
