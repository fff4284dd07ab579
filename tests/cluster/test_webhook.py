# SPDX-License-Identifier: Apache-2.0
"""The admission webhook on a real cluster: which pods reach it, and what becomes of them.

The webhook is a process of this machine, where the cluster's API server reaches it.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.harness import lifecycle
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.layout import Cluster
from tests.cluster.injector import injecting
from tests.kube.webhook.pods import container, epc, limits, pod
from tests.kube.webhook.serving import Running, running

from ensconce.kube.names import EMULATED_ALLOWED_LABEL, EMULATED_TAINT, EPC_ANNOTATION, Resource
from ensconce.kube.webhook import configurations

IMAGE = "cluster.local/busybox:1"
ONLY = "ensconce.dev/test-webhook"  # the namespaces of these tests, and no other
NAMESPACES = {"webhook-team": "", "webhook-trusted": "", "webhook-lab": "true"}
TEAM, TRUSTED, LAB = NAMESPACES
SETTINGS = f'epc = ["sgx.intel.com/epc"]\nprovision_pods = ["{TRUSTED}"]\n'
Pod = dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Give a cluster that is up, with namespaces for these tests."""
    try:
        found = lifecycle.running(os.environ.get("NAME") or "main")
    except HarnessError as error:
        pytest.skip(str(error))
    lifecycle.kubectl(found, "delete", "namespace", "--ignore-not-found", *NAMESPACES)
    for name, allowed in NAMESPACES.items():
        labels = {ONLY: "true"} | ({EMULATED_ALLOWED_LABEL: allowed} if allowed else {})
        apply(found, {"apiVersion": "v1", "kind": "Namespace",
                      "metadata": {"name": name, "labels": labels}})  # fmt: skip
    yield found
    lifecycle.kubectl(found, "delete", "namespace", "--wait=false", *NAMESPACES)


@pytest.fixture(scope="module")
def webhook(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Give a webhook that the cluster asks about these tests' pods."""
    with running(tmp_path_factory.mktemp("webhook"), SETTINGS, host=cluster.gateway) as server:
        configure(cluster, server)
        yield server
    unconfigure(cluster)


def configure(cluster: Cluster, server: Running) -> None:
    """Have the API server ask a webhook, about pods in these tests' namespaces only."""
    for each in configurations((server.folder / "ca" / "tls.crt").read_bytes(), url=server.url):
        each["metadata"]["name"] = "ensconce-test"
        for hook in each["webhooks"]:
            mine = {"key": ONLY, "operator": "Exists"}
            hook["namespaceSelector"]["matchExpressions"].append(mine)
        apply(cluster, each)
    eventually(lambda: devices(create(cluster, pod(epc("app")), dry=True)) == [["enclave"]])


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds: API servers hear of configurations a little later."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def unconfigure(cluster: Cluster) -> None:
    """Have the API server ask no more."""
    kinds = "mutatingwebhookconfiguration,validatingwebhookconfiguration"
    lifecycle.kubectl(cluster, "delete", kinds, "ensconce-test", "--ignore-not-found")


def apply(cluster: Cluster, thing: Pod) -> None:
    """Apply an object."""
    lifecycle.kubectl(cluster, "apply", "--filename=-", content=json.dumps(thing))


def create(cluster: Cluster, made: Pod, namespace: str = TEAM, *, dry: bool = False) -> Pod:
    """Create a pod and return it as it came to be; HarnessError with what kubectl says."""
    for each in made["spec"]["containers"] + made["spec"].get("initContainers", []):
        each |= {"image": IMAGE, "command": ["sleep", "1000"]}
    metadata = {name: value for name, value in made["metadata"].items() if name != "name"}
    whole = {"apiVersion": "v1", "kind": "Pod", "spec": made["spec"]}
    whole["metadata"] = metadata | {"generateName": "test-"}
    words = ["create", "--namespace", namespace, "--filename=-", "--output=json"]
    words += ["--dry-run=server"] if dry else []
    found: Pod = json.loads(lifecycle.kubectl(cluster, *words, content=json.dumps(whole)))
    return found


def devices(made: Pod) -> list[list[str]]:
    """Return the short names of the devices that each container is limited to one of."""
    names = ("enclave", "provision")
    every = [limits(made, index) for index in range(len(made["spec"]["containers"]))]
    return [[name for name in names if each.get(f"sgx.intel.com/{name}") == "1"] for each in every]


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize(
    ("names", "quotes", "expected", "volume"),
    [
        (["test"], "", [["enclave"]], None),
        (["test"], "test", [["enclave", "provision"]], None),
        (["test", "aesmd"], "aesmd", [["enclave"], ["enclave", "provision"]], "emptyDir"),
        (["test"], "aesmd", [["enclave"]], "hostPath"),
        (["test1", "test2", "test3"], "aesmd", [["enclave"]] * 3, "hostPath"),
    ],
)
def test_intels_cases(
    cluster: Cluster, names: list[str], quotes: str, expected: list[list[str]], volume: str | None
) -> None:
    before = pod(*map(epc, names), quotes=quotes, automountServiceAccountToken=False)
    made = create(cluster, before, TRUSTED)
    assert devices(made) == expected
    assert made["metadata"]["annotations"][EPC_ANNOTATION] == f"{len(names)}Mi"
    volumes = made["spec"].get("volumes", [])
    assert [(each["name"], volume in each) for each in volumes] == (
        [("aesmd-socket", True)] if volume else []
    )
    for each in made["spec"]["containers"] if volume else []:
        assert [mount["name"] for mount in each["volumeMounts"]] == ["aesmd-socket"]
        assert each["env"][0] == {"name": "SGX_AESM_ADDR", "value": "1"}


@pytest.mark.usefixtures("webhook")
def test_intels_case_of_a_pod_with_a_volume_of_its_own(cluster: Cluster) -> None:
    mounts = [{"name": "aesmd-socket", "mountPath": "/var/run/aesmd"}]
    volumes = [{"name": "aesmd-socket", "emptyDir": {"medium": "Memory"}}]
    before = pod(epc("test", volumeMounts=mounts), volumes=volumes, quotes="aesmd",
                 automountServiceAccountToken=False)  # fmt: skip
    made = create(cluster, before, TRUSTED)
    assert made["spec"]["volumes"] == volumes
    assert made["spec"]["containers"][0]["volumeMounts"] == mounts


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize("name", [name for name in Resource if "epc" in name.lower()])
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_every_name_of_epc_reaches_the_webhook(cluster: Cluster, name: str, kind: str) -> None:
    asks = container("asks", {name: "2Mi" if name == Resource.EPC_INTEL else "2"})
    before = pod(container("plain"))
    before["spec"] |= {kind: [asks]}
    asked = limits(create(cluster, before, dry=True), kind=kind)
    assert asked == {"sgx.intel.com/epc": "2Mi", "sgx.intel.com/enclave": "1"}


@pytest.mark.usefixtures("webhook")
@pytest.mark.parametrize("name", [Resource.PROVISION, Resource.QE, Resource.REGISTRATION])
def test_policy_refuses_with_a_sentence_that_kubectl_shows(cluster: Cluster, name: str) -> None:
    before = pod(container("app", {name: "1", Resource.EPC_INTEL: "1Mi"}))
    with pytest.raises(HarnessError) as refusal:
        create(cluster, before, dry=True)
    assert "denied the request: container 'app' asks for " + name in str(refusal.value)
    assert f'"{TEAM}/default" added to provision_pods' in str(refusal.value)
    assert limits(create(cluster, before, TRUSTED, dry=True))[name] == "1"


@pytest.mark.usefixtures("webhook")
def test_emulated_nodes_are_for_namespaces_with_the_label(cluster: Cluster) -> None:
    def tolerated(namespace: str) -> list[str]:
        made = create(cluster, pod(epc("app")), namespace, dry=True)
        return [each["key"] for each in made["spec"]["tolerations"]]

    assert EMULATED_TAINT in tolerated(LAB)
    assert EMULATED_TAINT not in tolerated(TEAM)


@pytest.mark.usefixtures("webhook")
def test_a_pod_that_another_webhook_gives_sgx_resources_later(
    cluster: Cluster, tmp_path: Path
) -> None:
    marble = pod(container("app"))
    marble["metadata"]["labels"] = {"inject": "yes", "marblerun/marbletype": "backend"}
    other = pod(container("app"))
    other["metadata"]["labels"] = {"inject": "yes"}
    with injecting(cluster, tmp_path, ONLY):
        eventually(lambda: devices(create(cluster, marble, dry=True)) == [["enclave"]])
        with pytest.raises(HarnessError, match="changed by another admission webhook"):
            create(cluster, other, dry=True)


def test_without_a_webhook_sgx_pods_are_refused_and_others_run(
    cluster: Cluster, tmp_path: Path
) -> None:
    with running(tmp_path, SETTINGS, host=cluster.gateway) as server:
        configure(cluster, server)
    try:
        with pytest.raises(HarnessError, match=r'failed calling webhook "sgx-pods\.ensconce\.dev"'):
            create(cluster, pod(epc("app")), dry=True)
        plain = create(cluster, pod(container("web", {"cpu": "10m"})))
        many = {f"example.com/r{n}": "1" for n in range(10)}
        create(cluster, pod(*(container(f"c{n}", many) for n in range(200))), dry=True)
        name = plain["metadata"]["name"]
        words = ["--for=condition=Ready", f"--namespace={TEAM}", "--timeout=60s", f"pod/{name}"]
        lifecycle.kubectl(cluster, "wait", *words)
    finally:
        unconfigure(cluster)
