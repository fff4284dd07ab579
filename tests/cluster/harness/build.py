# SPDX-License-Identifier: Apache-2.0
"""Build Kubernetes, etcd, CoreDNS and Helm once from their Go modules, into a cache folder."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.harness.failure import HarnessError

__all__ = ["build"]

MODULES = Path(__file__).parent.parent / "modules"
KUBERNETES = "v1.34.4"
_MAJOR, _MINOR, _ = KUBERNETES.removeprefix("v").split(".")

# program -> (module's folder, package)
PROGRAMS = {
    **{
        name: ("kubernetes", f"k8s.io/kubernetes/cmd/{name}")
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubectl",
        )
    },
    "etcd": ("kubernetes", "go.etcd.io/etcd/server/v3"),
    "coredns": ("coredns", "."),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
}
LDFLAGS = " ".join(
    [
        "-s -w",
        *(
            f"-X {package}.gitVersion={KUBERNETES} -X {package}.gitMajor={_MAJOR}"
            f" -X {package}.gitMinor={_MINOR}"
            for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        ),
    ]
)


def build() -> Path:
    """Build what is missing and return the folder that holds all of the programs.

    Each module's programs are built once for its files and our flags.
    """
    folder = _cache("-".join(_digest(name)[:6] for name in ("kubernetes", "coredns", "helm")))
    folder.mkdir(parents=True, exist_ok=True)
    for name, (module, package) in PROGRAMS.items():
        program = folder / name
        if not program.exists():
            made = _cache(f"{module}-{_digest(module)}") / name
            if not made.exists():
                print(f"building {name}", file=sys.stderr, flush=True)
                _build(made, module, package)
            _link(made, program)
    return folder


def _build(program: Path, module: str, package: str) -> None:
    """Build one program, which appears when it is whole."""
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as temporary:
        made = Path(temporary) / program.name
        command = [_go(), "build", "-trimpath", "-ldflags", LDFLAGS, "-o", str(made), package]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
        done = subprocess.run(
            command, cwd=MODULES / module, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise HarnessError(f"building {program.name} failed: {done.stderr.strip()[-2000:]}")
        made.rename(program)


def _link(made: Path, program: Path) -> None:
    with contextlib.suppress(FileExistsError):  # another run was first
        program.hardlink_to(made)


def _digest(module: str) -> str:
    digest = hashlib.sha256(LDFLAGS.encode())
    for path in sorted((MODULES / module).iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache(name: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "ensconce/cluster" / name


def _go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not found:
        raise HarnessError(
            "Go is needed to build Kubernetes and is neither on PATH nor in /usr/local/go; "
            "install Go 1.26 or later"
        )
    return found
