# SPDX-License-Identifier: Apache-2.0
"""How pods reach AESM, and which nodes they may be on."""

from dataclasses import replace
from typing import Any

import pytest
from tests.kube.webhook.pods import (
    EMULATED,
    HERE,
    INTEL,
    TRUSTED,
    container,
    epc,
    mutated,
    pod,
    refused,
    warned,
)

from ensconce.kube.names import EMULATED_ALLOWED_LABEL, EMULATED_TAINT, PLATFORM_LABEL
from ensconce.kube.webhook import Mutation, mutate

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
OURS = {"key": EMULATED_TAINT, "operator": "Equal", "value": "true", "effect": "NoSchedule"}
ELSEWHERE = {"key": PLATFORM_LABEL, "operator": "NotIn", "values": ["emulated"]}


def terms(made: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made["spec"]["affinity"]["nodeAffinity"][_REQUIRED][
        "nodeSelectorTerms"
    ]
    return found


def test_containers_without_epc_get_no_way_to_aesm() -> None:
    made = mutated(pod(epc("app"), container("web"), quotes="aesmd"))
    assert made["spec"]["containers"][1] == container("web")


def test_only_aesm_itself_may_write_to_its_folder() -> None:
    made = mutated(pod(epc("app"), epc("aesmd"), quotes="aesmd"), TRUSTED)
    mounts = [each["volumeMounts"][0] for each in made["spec"]["containers"]]
    assert [mount.get("readOnly", False) for mount in mounts] == [True, False]


def test_aesm_may_be_a_sidecar_that_starts_first() -> None:
    sidecar = epc("aesmd", restartPolicy="Always")
    made = mutated(pod(epc("app"), initContainers=[sidecar], quotes="aesmd"), TRUSTED)
    assert made["spec"]["volumes"] == [{"name": "aesmd-socket", "emptyDir": {"medium": "Memory"}}]


def test_the_daemon_set_of_aesm_uses_the_nodes_folder() -> None:
    made = mutated(pod(epc("aesmd"), quotes="aesmd"), TRUSTED)
    assert made["spec"]["volumes"][0]["hostPath"]["type"] == "DirectoryOrCreate"


def test_a_pods_own_address_and_mounts_stay() -> None:
    env = [{"name": "SGX_AESM_ADDR", "value": "0"}]
    mounts = [{"name": "mine", "mountPath": "/var/run/aesmd/"}]
    made = mutated(pod(epc("app", env=env, volumeMounts=mounts), quotes="aesmd"))
    assert made["spec"]["containers"][0]["env"] == env
    assert made["spec"]["containers"][0]["volumeMounts"] == mounts


def test_other_variables_and_mounts_are_kept() -> None:
    env, mount = [{"name": "A", "value": "1"}], {"name": "data", "mountPath": "/data"}
    made = mutated(pod(epc("app", env=env, volumeMounts=[mount]), quotes="aesmd"))
    app = made["spec"]["containers"][0]
    assert [each["name"] for each in app["env"]] == ["A", "SGX_AESM_ADDR"]
    assert [each["name"] for each in app["volumeMounts"]] == ["data", "aesmd-socket"]


def test_a_namespace_that_allows_emulated_nodes_has_its_pods_tolerate_them() -> None:
    other = {"key": "spot", "operator": "Exists"}
    assert mutated(pod(epc("app"), tolerations=[other]), EMULATED)["spec"]["tolerations"] == [
        other,
        OURS,
    ]


@pytest.mark.parametrize(
    "own",
    [OURS, {"operator": "Exists"}, {"key": EMULATED_TAINT, "operator": "Exists"}],
)
def test_a_pod_that_tolerates_them_already_is_left_so(own: dict[str, str]) -> None:
    assert mutated(pod(epc("app"), tolerations=[own]), EMULATED)["spec"]["tolerations"] == [own]


def test_other_namespaces_may_not_ask_for_emulated_nodes() -> None:
    said = refused(pod(epc("app"), tolerations=[OURS]))
    assert "'team' does not allow the emulated processor" in said
    assert f"{EMULATED_ALLOWED_LABEL}=true" in said


def test_a_pods_author_is_told_what_keeps_it_off_emulated_nodes_where_there_are_any() -> None:
    some = replace(INTEL, emulated_nodes=True)
    assert f"'team' is not labelled {EMULATED_ALLOWED_LABEL}=true" in warned(
        pod(epc("app")), policy=some
    )
    assert not warned(pod(epc("app")), EMULATED, some)
    assert not warned(pod(epc("app")))


def test_pods_without_sgx_may_be_on_emulated_nodes_as_they_like() -> None:
    assert mutate(pod(container("web"), tolerations=[OURS]), HERE, INTEL) == Mutation()


@pytest.mark.parametrize("spec", [{"tolerations": [{"operator": "Exists"}]}, {"nodeName": "n"}])
def test_a_pod_that_no_taint_stops_is_kept_off_emulated_nodes(spec: dict[str, Any]) -> None:
    assert terms(mutated(pod(epc("app"), **spec))) == [{"matchExpressions": [ELSEWHERE]}]


def test_every_way_onto_a_node_is_closed_and_empty_ones_stay_so() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    given = [{"matchExpressions": [zone]}, {"matchFields": [zone]}, {}]
    affinity = {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": given}}, "podAffinity": {}}
    made = mutated(pod(epc("app"), affinity=affinity, nodeName="n"))
    assert terms(made) == [
        {"matchExpressions": [zone, ELSEWHERE]},
        {"matchFields": [zone], "matchExpressions": [ELSEWHERE]},
        {},
    ]
    assert made["spec"]["affinity"]["podAffinity"] == {}
