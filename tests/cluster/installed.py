# SPDX-License-Identifier: Apache-2.0
"""All of ensconce on the test cluster, installed by the command line from this checkout's images.

Its nodes are one emulated platform, whose identity the tests make; so they know the root under
which a relying party would accept its quotes, and the cluster's PCCS has the collateral.
"""

import base64
import json
import os
import runpy
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.harness import lifecycle
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster
from tests.cluster.harness.namespace import Namespace, fresh_namespace

from ensconce.dcap import Collateral, Root
from ensconce.dcap.client import fetch_collateral, web
from ensconce.kube.names import EMULATED_ALLOWED_LABEL, NAMESPACE, NODE_NAMESPACE
from ensconce.oci.inspection import inspect_archive
from ensconce.oci.release import write_release_image

__all__ = ["APP", "EPC_MIB", "Installed", "enclaves", "installed"]

APP = "ensconce-hello-world:0.1.0"
EPC_MIB = 128
_ROOT = Path(__file__).parents[2]
_IDENTITY = "sgx-identity"
_SETTINGS = {
    "image.pullPolicy": "Never",
    "emulated.enabled": "true",
    "emulated.epcMiB": str(EPC_MIB),
    "emulated.identitySecret": _IDENTITY,
    "webhook.replicas": "1",
}
_AGENT = ("--selector=app.kubernetes.io/component=node-agent", "--output=name")


@dataclass(frozen=True, slots=True)
class Installed:
    """The installation: the emulated platform's root, and MRENCLAVE of the app's enclave."""

    cluster: Cluster
    root: Root
    mr_enclave: bytes

    def collateral(self, quote: bytes) -> Collateral:
        """Return what the cluster's PCCS has for a quote."""
        address = self._kubectl(
            "get", "service", "ensconce-pccs", "-o", "jsonpath={.spec.clusterIP}"
        )
        url = f"https://{address}:8081/sgx/certification/v4"
        return fetch_collateral(quote, url, web(check_tls=False))

    def memory(self, container: str) -> int:
        """Return the resident KiB of a container's process in the node agent's pod."""
        [pod] = lifecycle.kubectl(
            self.cluster, "-n", NODE_NAMESPACE, "get", "pods", *_AGENT
        ).split()
        shown = lifecycle.kubectl(
            self.cluster, "-n", NODE_NAMESPACE, "exec", pod, f"--container={container}", "--",
            "/usr/bin/python3", "-c", "print(open('/proc/1/status').read())",
        )  # fmt: skip
        [line] = [each for each in shown.splitlines() if each.startswith("VmRSS:")]
        return int(line.split()[1])

    def _kubectl(self, *arguments: str) -> str:
        return lifecycle.kubectl(self.cluster, f"--namespace={NAMESPACE}", *arguments)


@pytest.fixture(scope="module")
def installed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Install once for a module's tests, and uninstall."""
    folder = tmp_path_factory.mktemp("installed")
    made = os.environ.get("ENSCONCE_IMAGE")
    platform = Path(made) if made else write_release_image(_ROOT, folder)
    app = runpy.run_path(str(_ROOT / "examples/07-container/image.py"))["write_image"](folder)
    for archive in (platform, app.archive):
        lifecycle.load_image(cluster, archive.read_bytes())
    root = make_identity(cluster, folder)
    settings = [text for each in _SETTINGS.items() for text in ("--set", "=".join(each))]
    try:
        in_cluster(cluster, "install", *settings)
        [enclave] = inspect_archive(app.archive).enclaves
        yield Installed(cluster, root, bytes.fromhex(enclave.mr_enclave))
    finally:
        in_cluster(cluster, "uninstall")
        # which leaves namespaces that were there before
        lifecycle.kubectl(cluster, "delete", "namespace", NAMESPACE, NODE_NAMESPACE)


@pytest.fixture
def enclaves(installed: Installed) -> Iterator[Namespace]:
    """A namespace whose pods may run on emulated nodes."""
    with fresh_namespace(installed.cluster, f"enclaves-{uuid.uuid4().hex[:8]}") as made:
        made.kubectl("label", "namespace", made.name, f"{EMULATED_ALLOWED_LABEL}=true")
        yield made


def make_identity(cluster: Cluster, folder: Path) -> Root:
    """Make a platform's identity, put it into Secrets of both namespaces, and return its root."""
    path, root = folder / "platform.json", folder / "root.der"
    ensconce("platform", "init", f"--path={path}")
    ensconce(
        "platform", "collateral", f"--path={path}", f"--root-ca={root}", str(folder / "c.json")
    )
    data = {"platform.json": base64.b64encode(path.read_bytes()).decode()}
    for name in (NAMESPACE, NODE_NAMESPACE):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        about = {"name": _IDENTITY, "namespace": name}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "data": data}
        for each in (namespace, secret):
            lifecycle.kubectl(cluster, "apply", "-f", "-", content=json.dumps(each))
    return Root.parse(root.read_bytes())


def in_cluster(cluster: Cluster, *arguments: str) -> None:
    """Run a command of `ensconce cluster`."""
    ensconce("cluster", *arguments, f"--kubeconfig={cluster.kubeconfig}", "--timeout=180")


def ensconce(*arguments: str) -> Any:
    """Run a command and return the JSON that it prints; HarnessError with what it said else."""
    command = [str(Path(sys.executable).with_name("ensconce")), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HarnessError(f"{' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout)
