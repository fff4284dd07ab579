# SPDX-License-Identifier: Apache-2.0
"""The device plugin before a real kubelet and scheduler.

A node's EPC and driver are files under a folder of the node: the kernel's figures, and device
nodes that are the null device's. The kubelet counts, grants and mounts them as it would real ones.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.cluster.harness import components, lifecycle, namespaces
from tests.cluster.harness.build import build
from tests.cluster.harness.configuration import BUSYBOX
from tests.cluster.harness.layout import Cluster, Node
from tests.cluster.harness.namespace import Namespace, wait_until

ALIBABA = "alibabacloud.com/sgx_epc_MiB"
INTEL = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
ROOT = "/opt/sgx"
ADDRESS = "127.0.0.1:9465"
FOREVER = ["sleep", "infinity"]
_COMMAND = [sys.executable, "-c", "from ensconce.cli import main; main()", "device-plugin"]
_STATUS = 12  # seconds: a kubelet tells the cluster of its devices every 10


@dataclass
class Plugin:
    """A node with files of SGX, and the plugin that runs on it."""

    node: Node
    _process: subprocess.Popen[bytes] | None = None

    def run(self, *command: str) -> str:
        done = subprocess.run(
            namespaces.inside(self.node, command), capture_output=True, text=True, check=True
        )
        return done.stdout

    def furnish(self, mib: int) -> None:
        folder = f"{ROOT}/sys/devices/system/node/node0/x86"
        self.run("mkdir", "-p", f"{ROOT}/dev", folder)
        self.run("sh", "-c", f"echo {mib << 20} > {folder}/sgx_total_bytes")
        for name in ("sgx_enclave", "sgx_provision"):
            self.add(name)

    def add(self, name: str) -> None:
        self.run("sh", "-c", f"test -c {ROOT}/dev/{name} || mknod {ROOT}/dev/{name} c 1 3")

    def remove(self, name: str) -> None:
        self.run("rm", f"{ROOT}/dev/{name}")

    def start(self, *options: str) -> None:
        """Start the plugin; its process id is that of the node's namespace."""
        command = [*_COMMAND, "serve", "--root", ROOT, "--listen", ADDRESS, *options]
        script = f'echo $$ > {ROOT}/pid; exec "$@"'
        with (self.node.logs / "device-plugin.log").open("ab") as log:
            self._process = subprocess.Popen(
                namespaces.inside(self.node, ["sh", "-c", script, "sh", *command]), stderr=log
            )

    def stop(self, signal: str = "TERM") -> None:
        if self._process:
            self.run("sh", "-c", f"kill -{signal} $(cat {ROOT}/pid)")
            self._process.wait(30)
            self._process = None

    def forget(self) -> None:
        """Have the kubelet start as on a new node, where no resource was ever devices."""
        components.stop(self.node, "kubelet")
        self.run("rm", "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint")
        components.start(self.node, "kubelet", build())

    def figures(self, *options: str) -> dict[str, int]:
        """What has to stand in the node's status, which is the node agent's to write."""
        said = self.run(*_COMMAND, "inventory", "--json", "--root", ROOT, *options)
        figures: dict[str, int] = json.loads(said)["node_capacity"]
        return figures

    def patch(self, figures: dict[str, int | None]) -> None:
        body = json.dumps({"status": {"capacity": figures, "allocatable": figures}})
        arguments = ("patch", "node", self.node.name, "--subresource=status", "--patch", body)
        lifecycle.kubectl(self.node.cluster, *arguments)

    def registrations(self) -> int:
        """How often the kubelet has taken the plugin's registration of EPC."""
        read = f"from urllib.request import urlopen; print(urlopen('http://{ADDRESS}/metrics').read().decode())"
        name = f'registrations_total{{resource="{ALIBABA}",result="accepted"}}'
        lines = self.run(sys.executable, "-c", read).splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if name in line)

    def allocatable(self, resource: str) -> int:
        got = lifecycle.kubectl(self.node.cluster, "get", "node", self.node.name, "-o", "json")
        return quantity(json.loads(got)["status"]["allocatable"].get(resource, "0"))

    def until(self, resource: str, count: int, seconds: float = _STATUS) -> float:
        """Wait until the node says so; return the seconds that it took."""
        start = time.monotonic()
        what = f"{self.node.name} has {count} of {resource}"
        wait_until(lambda: self.allocatable(resource) == count, what, seconds)
        return time.monotonic() - start


def quantity(text: str) -> int:
    """A quantity as the API server writes it."""
    units = {"k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    units |= {"T": 10**12, "Ti": 1 << 40}
    number = text.rstrip("kMGTi")
    return int(number) * units.get(text.removeprefix(number), 1)


@pytest.fixture
def plugin(cluster: Cluster) -> Iterator[Plugin]:
    """The first node, with 1,000 MiB of EPC and the plugin."""
    one = Plugin(cluster.node("node1"))
    one.furnish(1000)
    one.start()
    try:
        one.until(ALIBABA, 1000, 30)
        yield one
    finally:
        one.stop()
        one.run("rm", "-rf", ROOT)


def hello_world(replicas: int, mib: int) -> dict[str, Any]:
    """Alibaba's Deployment, but for the image and what it runs."""
    labels = {"app": "helloworld"}
    container = {
        "name": "helloworld",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "ls /dev/sgx_* /dev/sgx/*; env | grep SGX_; sleep infinity"],
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "10m", "memory": "16Mi", ALIBABA: mib},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "helloworld"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }


@pytest.mark.usefixtures("plugin")
def test_alibabas_deployment_gets_its_devices(namespace: Namespace) -> None:
    namespace.apply(hello_world(replicas=2, mib=2))
    namespace.kubectl("rollout", "status", "deployment/helloworld", "--timeout=60s")

    def log() -> list[str]:
        return namespace.kubectl("logs", "deployment/helloworld").split()

    namespace.until(lambda: len(log()) > 2, "the container has said what it has")
    assert sorted(log()[:2]) == ["/dev/sgx/enclave", "/dev/sgx_enclave"]
    name, _, devices = log()[2].partition("=")
    assert (name, len(devices.split(","))) == ("SGX_VISIBLE_DEVICES", 2)


@pytest.mark.usefixtures("plugin")
def test_a_third_of_three_pods_with_40_percent_waits_and_follows_a_release(
    namespace: Namespace,
) -> None:
    for name in ("first", "second"):
        namespace.pod(name, FOREVER, limits={ALIBABA: "400"})
        namespace.until_phase(name, "Running")
    namespace.pod("third", FOREVER, limits={ALIBABA: "400"})

    def refused() -> bool:
        conditions = namespace.get("pod", "third")["status"].get("conditions", [])
        return any(f"Insufficient {ALIBABA}" in c.get("message", "") for c in conditions)

    namespace.until(refused, "the scheduler says what is missing")
    assert namespace.phase("third") == "Pending"
    namespace.kubectl("delete", "pod", "first", "--grace-period=1")
    namespace.until_phase("third", "Running", 10)


def test_a_driver_node_that_goes_is_seen_and_so_is_its_return(plugin: Plugin) -> None:
    plugin.remove("sgx_enclave")
    plugin.until(ALIBABA, 0)
    plugin.add("sgx_enclave")
    plugin.until(ALIBABA, 1000)


def uids(namespace: Namespace) -> list[str]:
    path = "jsonpath={.items[*].metadata.uid} {.items[*].status.containerStatuses[*].containerID}"
    return sorted(namespace.kubectl("get", "pods", "--output", path).split())


def restart_kubelet(plugin: Plugin) -> None:
    """Restart the kubelet, and wait until the new one has taken the plugin's registration."""
    known = plugin.registrations()
    lifecycle.restart(plugin.node, "kubelet")
    what = "the plugin has registered with the new kubelet"
    wait_until(lambda: plugin.registrations() > known, what, 15)


@pytest.mark.slow
@pytest.mark.parametrize("ended", ["kubelet", "plugin"])
def test_twenty_ends_of_kubelet_or_plugin_leave_pods_alone(
    plugin: Plugin, namespace: Namespace, ended: str
) -> None:
    namespace.apply(hello_world(replicas=2, mib=400))
    namespace.kubectl("rollout", "status", "deployment/helloworld", "--timeout=60s")
    before = uids(namespace)
    for _ in range(20):
        if ended == "kubelet":
            restart_kubelet(plugin)
        else:
            plugin.stop("KILL")
            plugin.until(ALIBABA, 0)
            plugin.start()
        plugin.until(ALIBABA, 1000, 15)
    assert uids(namespace) == before


@pytest.mark.parametrize("gib", [64, 221, 512, 1024])
def test_all_epc_is_shown_and_a_pod_has_most_of_it(
    plugin: Plugin, namespace: Namespace, gib: int
) -> None:
    plugin.stop()
    plugin.forget()
    plugin.furnish(gib << 10)
    plugin.start()
    plugin.until(ENCLAVE, 110, 30)
    figures = plugin.figures()
    plugin.patch(dict(figures))
    try:
        plugin.until(ALIBABA, gib << 10)
        asked = min(200, gib * 3 // 4) << 10
        # the webhook adds the enclave device, which brings the device nodes along
        limits = {ALIBABA: str(asked)} | ({ENCLAVE: "1"} if figures else {})
        namespace.pod("large", ["sh", "-c", "ls /dev/sgx_enclave && env"], limits=limits)
        namespace.until_phase("large", "Succeeded")
    finally:
        plugin.patch(dict.fromkeys(figures))


def test_intels_bytes_stand_in_the_nodes_status_through_a_kubelets_restart(
    plugin: Plugin, namespace: Namespace
) -> None:
    options = ("--epc", INTEL)
    plugin.stop()
    plugin.start(*options)
    plugin.patch(dict(plugin.figures(*options)))
    try:
        plugin.until(INTEL, 1000 << 20)
        lifecycle.restart(plugin.node, "kubelet")
        plugin.until(ENCLAVE, 110, 15)
        assert plugin.allocatable(INTEL) == 1000 << 20
        namespace.pod("intel", ["ls", "/dev/sgx_enclave"], limits={INTEL: "5Mi", ENCLAVE: "1"})
        namespace.until_phase("intel", "Succeeded")
    finally:
        plugin.patch({INTEL: None})
