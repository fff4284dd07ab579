# SPDX-License-Identifier: Apache-2.0
"""Enclaves in pods of an installed cluster: others' manifests, quotes, limits, refusals."""

import base64
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.harness import lifecycle
from tests.cluster.harness.failure import HarnessError
from tests.cluster.harness.namespace import Namespace
from tests.cluster.installed import APP, Installed
from tests.cluster.test_node_agent import image

from ensconce.dcap import INTEL_ROOT, Policy, validate, verify
from ensconce.dcap.policy import SgxPolicy
from ensconce.dcap.verdict import Claims, Reason
from ensconce.kube.names import EMULATED_ALLOWED_LABEL

_EPC, _INTEL = "alibabacloud.com/sgx_epc_MiB", "sgx.intel.com/epc"
_GREETING = "Hello from inside the enclave, Kubernetes!"
_HOST = "cluster.local/enclave-host:1"  # touches as much EPC as it is told
_CRASHED = "0x1006"  # SGX_ERROR_ENCLAVE_CRASHED


def hello_world() -> dict[str, Any]:
    """Return Alibaba's sample Deployment, with another image and its program."""
    container = {
        "name": "helloworld",
        "image": APP,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/app/hello"],
        "resources": {"limits": {"cpu": "250m", "memory": "512Mi", _EPC: 2}},
        "volumeMounts": [{"mountPath": "/var/run/aesmd/aesm.socket", "name": "aesmsocket"}],
    }
    socket = {"path": "/var/run/aesmd/aesm.socket", "type": "Socket"}
    pod = {
        "metadata": {"labels": {"app": "helloworld"}},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "aesmsocket", "hostPath": socket}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "helloworld"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "helloworld"}},
            "template": pod,
        },
    }


def attested(name: str) -> dict[str, Any]:
    """Return a pod that prints a quote for its name, with Intel's annotation for AESM."""
    container = {
        "name": "app",
        "image": APP,
        "command": ["/app/attested", name],
        "resources": {"limits": {_INTEL: "4Mi"}},
    }
    annotations = {"sgx.intel.com/quote-provider": "aesmd"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
    }
    return pod | {"spec": {"restartPolicy": "Never", "containers": [container]}}


def quote_of(namespace: Namespace, name: str) -> bytes:
    namespace.until_phase(name, "Succeeded")
    return base64.b64decode(namespace.kubectl("logs", name).strip(), validate=True)


def genuine(installed: Installed, quote: bytes) -> Claims:
    collateral = installed.collateral(quote)
    claims = verify(quote, collateral, datetime.now(UTC), roots=[installed.root]).claims
    assert claims is not None
    return claims


def seconds(line: str) -> float:
    return datetime.fromisoformat(line.split(" ")[0][:26] + "+00:00").timestamp()


def test_alibabas_hello_world_runs_with_only_its_image_changed(enclaves: Namespace) -> None:
    enclaves.apply(hello_world())
    enclaves.kubectl("rollout", "status", "deployment/helloworld", "--timeout=60s")
    pods = enclaves.kubectl("get", "pods", "--selector=app=helloworld", "--output=name").split()
    assert len(pods) == 2
    for pod in pods:
        enclaves.until(lambda: enclaves.kubectl("logs", pod).count(_GREETING) > 2, "it greets")  # noqa: B023  # waited for here
        lines = enclaves.kubectl("logs", pod, "--timestamps").splitlines()
        assert {line.split(" ", 1)[1] for line in lines} == {_GREETING}
        times = [seconds(line) for line in lines[:3]]
        assert min(b - a for a, b in itertools.pairwise(times)) > 0.9


def test_intels_pod_has_aesm_and_an_enclave_by_its_annotation_alone(enclaves: Namespace) -> None:
    enclaves.apply(attested("intel"))
    assert quote_of(enclaves, "intel")
    spec = enclaves.get("pod", "intel")["spec"]
    [container] = spec["containers"]
    assert {"name": "SGX_AESM_ADDR", "value": "1"} in container["env"]
    assert "/var/run/aesmd" in [each["mountPath"] for each in container["volumeMounts"]]
    assert container["resources"]["limits"]["sgx.intel.com/enclave"] == "1"


def test_a_pods_quote_by_aesm_verifies_with_the_clusters_pccs(
    installed: Installed, enclaves: Namespace
) -> None:
    enclaves.apply(attested("attested"))
    claims = genuine(installed, quote_of(enclaves, "attested"))
    this = SgxPolicy(mr_enclave=(installed.mr_enclave,), allow_debug=True)
    nonce = b"attested".ljust(64, b"\0")
    emulated = installed.root.fingerprint
    wanted = Policy(sgx=this, report_data=nonce, accept_emulated_root=emulated)
    assert validate(claims, wanted) == []
    another = SgxPolicy(mr_enclave=(bytes(32),), allow_debug=True)
    refused = validate(claims, Policy(sgx=another, accept_emulated_root=emulated))
    assert [each.key for each in refused] == ["sgx.mr_enclave"]


def test_a_relying_party_that_names_no_emulated_root_refuses_a_pods_quote(
    installed: Installed, enclaves: Namespace
) -> None:
    enclaves.apply(attested("attested"))
    quote = quote_of(enclaves, "attested")
    verdict = verify(quote, installed.collateral(quote), datetime.now(UTC), roots=[INTEL_ROOT])
    assert (verdict.genuine, verdict.reason) == (False, Reason.ROOT_NOT_TRUSTED)
    this = SgxPolicy(mr_enclave=(installed.mr_enclave,), allow_debug=True)
    assert validate(genuine(installed, quote), Policy(sgx=this))


@pytest.mark.usefixtures("installed")
def test_a_namespace_without_the_label_has_no_pod_on_an_emulated_node(namespace: Namespace) -> None:
    pod = attested("refused")
    strictly = ("apply", "--dry-run=server", "--warnings-as-errors", "--filename=-")
    with pytest.raises(HarnessError, match=f"is not labelled {EMULATED_ALLOWED_LABEL}=true"):
        namespace.kubectl(*strictly, content=json.dumps(pod))
    namespace.apply(pod)

    def told() -> bool:
        conditions = namespace.get("pod", "refused")["status"].get("conditions", [])
        return any("untolerated taint" in each.get("message", "") for each in conditions)

    namespace.until(told, "the scheduler says why")
    assert namespace.phase("refused") == "Pending"


def test_a_pod_over_its_epc_limit_fails_alone(
    installed: Installed, enclaves: Namespace, tmp_path: Path
) -> None:
    lifecycle.load_image(installed.cluster, image(tmp_path))
    limits = {_EPC: "4"}
    for name, pages in (("modest", "256"), ("greedy", "2000")):
        run = ["/app", "/e.signed.so", "fill", pages]
        enclaves.pod(name, run, image=_HOST, limits=limits)
    enclaves.until(lambda: _CRASHED in enclaves.kubectl("logs", "greedy"), "it does not fit")
    enclaves.until(lambda: "0x0" in enclaves.kubectl("logs", "modest"), "it fits")


def test_every_condition_of_the_node_is_true(installed: Installed) -> None:
    shown = lifecycle.kubectl(installed.cluster, "get", "nodes", "--output=json")
    [node] = json.loads(shown)["items"]
    found = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    assert [found[f"Sgx{name}"] for name in ("Ready", "EpcEnforced", "AttestationReady")] == [
        "True"
    ] * 3
