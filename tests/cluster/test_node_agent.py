# SPDX-License-Identifier: Apache-2.0
"""An emulated node of a real cluster: what it says, and enclaves in the pods that ask for EPC."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.cluster.harness import lifecycle, namespaces
from tests.cluster.harness.layout import Cluster
from tests.cluster.harness.namespace import Namespace, wait_until
from tests.sdk.hosts import build_host

from ensconce.image.config import EnclaveConfig
from ensconce.image.sigstruct import key_signer
from ensconce.kube.names import EMULATED_TAINT, PLATFORM_LABEL
from ensconce.sdk.build import build
from ensconce.sdk.host_libraries import host_libraries
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_HOST = Path(__file__).parents[1] / "sdk" / "host"
_IMAGE = "cluster.local/enclave-host:1"
_MAIN = [sys.executable, "-c", "from ensconce.cli import main; main()"]
_EPC, _INTEL = "alibabacloud.com/sgx_epc_MiB", "sgx.intel.com/epc"
_CRASHED = "0x1006"  # SGX_ERROR_ENCLAVE_CRASHED
_MIB = 64
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 12345,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Daemons:
    """The node's platform, AESM and agent, as a DaemonSet has them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        state, libraries = "/var/lib/ensconce/platform", str(host_libraries())
        agent = ["node-agent", "run", "--node=node1", "--platform=emulated", "--enclave-limit=20"]
        agent += [f"--emulated-mib={_MIB}", f"--epc={_EPC}=50,{_INTEL}=50"]
        self._commands = {
            "platform": ["platform", "node", f"--path={state}", f"--epc={_MIB}"],
            "aesm": ["aesm", "serve", "--backend=emulated", f"--path={state}"],
            "agent": [*agent, f"--libraries={libraries}"],
        }
        self._cluster, self._folder = cluster, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in self._commands:
            self.start(name)

    def run(self, *arguments: str) -> None:
        subprocess.run(self._command(arguments), env=self._environment, check=True)

    def start(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self._command(self._commands[name]), env=self._environment, stdout=log, stderr=log
            )

    def end(self, name: str, how: str = "KILL") -> None:
        process = self._running.pop(name)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        subprocess.run(["kill", f"-{how}", *(children or [str(process.pid)])], check=True)
        process.wait()

    def close(self) -> None:
        for name in list(self._running):
            self.end(name, "TERM")

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"KUBECONFIG": str(self._cluster.kubeconfig)}

    def _command(self, arguments: Any) -> list[str]:
        return namespaces.enter(self._cluster.nodes[0], [*_MAIN, *arguments])


def image(folder: Path) -> bytes:
    """Return a docker archive with a C host of the vendor's kind, its enclave and a libc."""
    toolchain = Toolchain.find()
    enclave = build([_HOST / "enclave.c"], _HOST / "host.edl", folder / "e.so", toolchain=toolchain)
    private = rsa.generate_private_key(public_exponent=3, key_size=3072)
    config = EnclaveConfig(tcs_num=5, heap_max_size=0x1000000, stack_max_size=0x20000, tcs_policy=0)
    key = SigningKey(private.public_key(), key_signer(private))
    sign(enclave, folder / "e.signed.so", key, config=config)
    app = build_host(toolchain, _HOST / "app.c", _HOST / "host.edl", folder)
    files = {"app": app, "e.signed.so": folder / "e.signed.so"}
    for path in re.findall(r"\s(/lib\S+)", subprocess.check_output(["ldd", app], text=True)):
        files[path.lstrip("/")] = Path(path)
    layer = tar({name: path.read_bytes() for name, path in files.items()})
    root = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    about = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}
    names = [{"Config": "config.json", "RepoTags": [_IMAGE], "Layers": ["layer.tar"]}]
    parts = {"manifest.json": json.dumps(names), "config.json": json.dumps(about)}
    return tar({name: text.encode() for name, text in parts.items()} | {"layer.tar": layer})


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope="module")
def daemons(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    folder = tmp_path_factory.mktemp("daemons")
    lifecycle.load_image(cluster, image(folder))
    made = Daemons(cluster, folder)
    try:
        wait_until(lambda: all(is_true(cluster, kind) for kind in _CONDITIONS), "all is ready", 30)
        yield made
    finally:
        made.close()
        made.run("node-agent", "clean", "--node=node1")


_CONDITIONS = ("SgxReady", "SgxEpcEnforced", "SgxAttestationReady")


def node(cluster: Cluster) -> dict[str, Any]:
    return dict(json.loads(lifecycle.kubectl(cluster, "get", "node", "node1", "--output=json")))


def condition(cluster: Cluster, kind: str) -> dict[str, str]:
    found = [each for each in node(cluster)["status"]["conditions"] if each["type"] == kind]
    return dict(found[0]) if found else {}


def is_true(cluster: Cluster, kind: str) -> bool:
    return condition(cluster, kind).get("status") == "True"


def start(namespace: Namespace, name: str, *arguments: str, **limits: str) -> None:
    """Make a pod that asks for EPC, tolerates the taint, and has no right at all."""
    container = {
        "name": "main",
        "image": _IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/app", "/e.signed.so", *arguments],
        "resources": {"limits": {_NAMES[key]: value for key, value in limits.items()}},
        "securityContext": _RESTRICTED,
        "stdin": True,
    }
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"key": EMULATED_TAINT, "operator": "Exists"}],
        "containers": [container],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    namespace.apply(pod)


_NAMES = {"epc": _EPC, "intel": _INTEL, "enclave": "sgx.intel.com/enclave"}


@pytest.mark.usefixtures("daemons")
def test_an_emulated_node_says_what_it_is(cluster: Cluster) -> None:
    found = node(cluster)
    assert found["metadata"]["labels"][PLATFORM_LABEL] == "emulated"
    assert EMULATED_TAINT in [each["key"] for each in found["spec"]["taints"]]
    assert condition(cluster, "SgxEpcEnforced")["reason"] == "EmulatedLimit"
    assert found["status"]["capacity"][_INTEL] == str(_MIB << 19)


@pytest.mark.usefixtures("daemons")
@pytest.mark.parametrize(
    "limits",
    [
        {"epc": "4"},
        {"epc": "4", "enclave": "1"},
        {"intel": "4Mi", "enclave": "1"},
    ],
)
def test_a_pod_that_asks_for_epc_runs_an_enclave(
    namespace: Namespace, limits: dict[str, str]
) -> None:
    namespace.until(lambda: _INTEL in node(namespace.cluster)["status"]["allocatable"], "capacity")
    start(namespace, "hello", "calls", **limits)
    namespace.until_phase("hello", "Succeeded")
    assert namespace.kubectl("logs", "hello").splitlines()[-1] == "done"


@pytest.mark.usefixtures("daemons")
def test_a_pod_over_its_epc_limit_fails_alone(namespace: Namespace) -> None:
    start(namespace, "modest", "fill", "256", epc="4")
    start(namespace, "greedy", "fill", "2000", epc="4")
    namespace.until(lambda: "0x0" in namespace.kubectl("logs", "modest"), "it fits")
    namespace.until(lambda: _CRASHED in namespace.kubectl("logs", "greedy"), "it does not fit")
    start(namespace, "late", "calls", epc="4")
    namespace.until_phase("late", "Succeeded")
    assert namespace.phase("modest") == "Running"


def test_pods_outlive_the_agent_and_a_kubelet_restart_brings_all_back(
    cluster: Cluster, daemons: Daemons, namespace: Namespace
) -> None:
    start(namespace, "steady", "fill", "16", epc="4")
    namespace.until(lambda: "0x0" in namespace.kubectl("logs", "steady"), "an enclave runs")
    uid = namespace.get("pod", "steady")["metadata"]["uid"]
    daemons.end("agent")
    lifecycle.restart(cluster.nodes[0], "kubelet")
    daemons.start("agent")
    wait_until(lambda: is_true(cluster, "SgxReady"), "the node is ready", 15)
    wait_until(
        lambda: node(cluster)["status"]["allocatable"].get(_EPC) == str(_MIB // 2), "EPC", 15
    )
    assert namespace.get("pod", "steady")["metadata"]["uid"] == uid
    assert namespace.phase("steady") == "Running"


def test_a_platform_that_is_killed_is_said_and_comes_back(
    cluster: Cluster, daemons: Daemons, namespace: Namespace
) -> None:
    daemons.end("platform")
    wait_until(lambda: condition(cluster, "SgxReady")["reason"] == "PlatformDown", "it says", 15)
    start(namespace, "patient", "exceptions", epc="4")
    namespace.until(lambda: namespace.phase("patient") == "Running", "it waits")
    daemons.start("platform")
    namespace.until_phase("patient", "Succeeded")
    wait_until(lambda: is_true(cluster, "SgxReady"), "the node is ready", 15)
