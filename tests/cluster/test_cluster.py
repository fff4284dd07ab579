# SPDX-License-Identifier: Apache-2.0
"""The cluster is one that tests can believe."""

import http.client
import json
import subprocess
from functools import partial
from pathlib import Path

from tests.cluster.harness import components, lifecycle, namespaces
from tests.cluster.harness.layout import Cluster
from tests.cluster.harness.namespace import Namespace, wait_until

FOREVER = ["sleep", "infinity"]


def test_every_node_is_ready(cluster: Cluster) -> None:
    path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    ready = lifecycle.kubectl(cluster, "get", "nodes", "--output", path)
    assert ready.split() == ["True"] * cluster.options.nodes


def test_a_pods_program_runs_and_its_output_is_its_log(namespace: Namespace) -> None:
    namespace.pod("hello", ["echo", "hello from a pod"])
    namespace.until_phase("hello", "Succeeded")
    assert namespace.kubectl("logs", "hello") == "hello from a pod\n"


def test_a_command_can_be_run_in_a_pod(namespace: Namespace) -> None:
    namespace.pod("idle", FOREVER)
    namespace.until_phase("idle", "Running")
    assert namespace.kubectl("exec", "idle", "--", "hostname") == "idle\n"


def test_a_pod_that_asks_for_what_no_node_has_stays_pending(namespace: Namespace) -> None:
    namespace.pod("greedy", FOREVER, limits={"example.com/unobtainium": "1"})

    def refused() -> bool:
        conditions = namespace.get("pod", "greedy")["status"].get("conditions", [])
        return any("Insufficient example.com/unobtainium" in c["message"] for c in conditions)

    namespace.until(refused, "the scheduler says what is missing")
    assert namespace.phase("greedy") == "Pending"


def _serve(namespace: Namespace, name: str) -> None:
    """Make a web server and its Service; it answers `found`."""
    serve = "echo found > /tmp/index.html && exec httpd -f -p 8080 -h /tmp"
    namespace.pod(name, ["sh", "-c", serve])
    namespace.kubectl("expose", "pod", name, "--port=80", "--target-port=8080")
    namespace.until_phase(name, "Running")


def test_a_pod_reaches_another_by_its_services_name(namespace: Namespace) -> None:
    _serve(namespace, "server")
    get = f"until wget -q -O - http://server.{namespace.name}.svc.cluster.local; do sleep 1; done"
    namespace.pod("client", ["sh", "-c", get])
    namespace.until_phase("client", "Succeeded")
    assert namespace.kubectl("logs", "client").endswith("found\n")


def test_this_machine_reaches_a_service(namespace: Namespace) -> None:
    _serve(namespace, "server")
    address = namespace.get("service", "server")["spec"]["clusterIP"]
    namespace.until(partial(_answers, address), "the server answers")


def _answers(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read() == b"found\n"
    except OSError:
        return False
    finally:
        connection.close()


def test_a_service_accounts_token_names_the_pods_node(namespace: Namespace) -> None:
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105
    namespace.pod("holder", ["cat", token])
    namespace.until_phase("holder", "Succeeded")
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": namespace.kubectl("logs", "holder")},
    }
    path = "--output=jsonpath={.status.user.extra}"
    said = lifecycle.kubectl(
        namespace.cluster, "create", path, "--filename=-", content=json.dumps(review)
    )
    node = namespace.get("pod", "holder")["spec"]["nodeName"]
    assert json.loads(said)["authentication.kubernetes.io/node-name"] == [node]


def test_pods_outlive_a_kubelet_that_is_killed(namespace: Namespace) -> None:
    namespace.pod("idle", FOREVER)
    namespace.until_phase("idle", "Running")
    before = namespace.get("pod", "idle")["status"]["containerStatuses"][0]["containerID"]
    node = namespace.cluster.node(namespace.get("pod", "idle")["spec"]["nodeName"])
    lifecycle.restart(node, "kubelet", "KILL")
    assert components.alive(node, "kubelet")
    hello = ("exec", "idle", "--", "echo", "here")
    namespace.until(lambda: namespace.kubectl(*hello) == "here\n", "the kubelet serves again")
    after = namespace.get("pod", "idle")["status"]["containerStatuses"][0]["containerID"]
    assert after == before


def test_a_nodes_devices_are_its_own(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    made = ["sh", "-c", "mknod /dev/test-device c 1 3 && echo > /dev/test-device"]
    subprocess.run(namespaces.inside(node, made), check=True)
    assert not Path("/dev/test-device").exists()
    subprocess.run(namespaces.inside(node, ["rm", "/dev/test-device"]), check=True)


def test_a_process_inside_a_node_ends_with_the_one_outside(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    with subprocess.Popen(namespaces.inside(node, ["sleep", "98765"])) as outside:
        look = namespaces.inside(node, ["pgrep", "--full", "^sleep 98765"])
        wait_until(lambda: _returns(look) == 0, "the process is there")
        outside.terminate()
    wait_until(lambda: _returns(look) == 1, "the process is gone")


def _returns(command: list[str]) -> int:
    return subprocess.run(command, capture_output=True).returncode
