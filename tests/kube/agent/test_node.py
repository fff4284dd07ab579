# SPDX-License-Identifier: Apache-2.0
"""What the agent writes to its node's object, and what it leaves alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from tests.kube.agent.api import NODE, Api, serving

from ensconce.errors import ServiceError
from ensconce.kube.agent.cluster import Cluster
from ensconce.kube.agent.desired import Attestation, Facts, desired
from ensconce.kube.names import (
    EMULATED_TAINT,
    NFD_SGX_LABEL,
    PLATFORM_LABEL,
    SGX_CAPABLE_LABEL,
    TEE_CATEGORY_LABEL,
    Platform,
    TeeCategory,
)

_EMULATED = Facts(
    platform=Platform.EMULATED,
    ready=True,
    reason="Ready",
    message="64 MiB of emulated EPC",
    node_capacity={"sgx.intel.com/epc": 1 << 26},
    platform_serves=True,
    attestation=Attestation(ready=True, reason="AesmAnswers", message="it does"),
)
_NONE = Facts(platform=Platform.NONE, ready=False, reason="NoSgx", message="no SGX here")


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(Api()) as made:
        yield made


@contextlib.asynccontextmanager
async def connected(api: Api) -> AsyncIterator[Cluster]:
    cluster = Cluster(NODE, api.client())
    try:
        yield cluster
    finally:
        await cluster.close()


def reconcile(api: Api, *facts: Facts) -> list[bool]:
    async def run() -> list[bool]:
        async with connected(api) as cluster:
            return [await cluster.reconcile(desired(each)) for each in facts]

    return asyncio.run(run())


def test_an_emulated_node_is_labelled_tainted_and_conditioned(api: Api) -> None:
    reconcile(api, _EMULATED)
    labels = api.node["metadata"]["labels"]
    assert labels == {
        "zone": "a",
        PLATFORM_LABEL: "emulated",
        TEE_CATEGORY_LABEL: "intel-sgx2",
        SGX_CAPABLE_LABEL: "true",
        NFD_SGX_LABEL: "true",
    }
    assert [each["key"] for each in api.node["spec"]["taints"]] == ["spot", EMULATED_TAINT]
    assert api.condition("SgxReady")["status"] == "True"
    assert api.condition("SgxEpcEnforced")["reason"] == "EmulatedLimit"
    assert api.condition("SgxAttestationReady")["reason"] == "AesmAnswers"
    assert api.condition("Ready") == {"type": "Ready", "status": "True"}


def test_a_node_that_says_what_it_should_is_not_written(api: Api) -> None:
    assert reconcile(api, _EMULATED, _EMULATED) == [True, False]


def test_a_node_without_sgx_says_so_and_has_no_label_but_that(api: Api) -> None:
    reconcile(api, _NONE)
    assert api.node["metadata"]["labels"] == {"zone": "a", PLATFORM_LABEL: "none"}
    assert [each["key"] for each in api.node["spec"]["taints"]] == ["spot"]
    assert {api.condition(kind)["reason"] for kind in ("SgxReady", "SgxEpcEnforced")} == {"NoSgx"}


def test_a_node_that_gets_sgx_loses_its_taint(api: Api) -> None:
    sgx = replace(_EMULATED, platform=Platform.SGX, category=TeeCategory.SGX1)
    reconcile(api, _EMULATED, sgx)
    assert [each["key"] for each in api.node["spec"]["taints"]] == ["spot"]
    assert api.node["metadata"]["labels"][TEE_CATEGORY_LABEL] == "intel-sgx1"
    assert api.condition("SgxEpcEnforced")["reason"] == "AdmissionOnly"


def test_capacity_that_a_kubelet_zeroed_comes_back(api: Api) -> None:
    reconcile(api, _EMULATED)
    api.node["status"]["capacity"]["sgx.intel.com/epc"] = "0"
    assert reconcile(api, _EMULATED) == [True]
    assert api.node["status"]["capacity"] == {"cpu": "2", "sgx.intel.com/epc": str(1 << 26)}


def test_capacity_that_is_written_otherwise_is_the_same(api: Api) -> None:
    reconcile(api, _EMULATED)
    api.node["status"]["capacity"]["sgx.intel.com/epc"] = "64Mi"
    assert reconcile(api, _EMULATED) == [False]


def test_a_condition_keeps_the_time_of_its_last_turn(api: Api) -> None:
    reconcile(api, _EMULATED)
    api.condition("SgxReady")
    for each in api.node["status"]["conditions"]:
        each["lastTransitionTime"] = each["lastHeartbeatTime"] = "2020-01-01T00:00:00Z"
    reconcile(api, _EMULATED)
    assert api.condition("SgxReady")["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert api.condition("SgxReady")["lastHeartbeatTime"] > "2026"


def test_people_hear_of_turns_by_events(api: Api) -> None:
    reconcile(api, _EMULATED, _EMULATED, replace(_EMULATED, platform_serves=False))
    assert [each["reason"] for each in api.events][-1] == "PlatformDown"
    assert [each["type"] for each in api.events] == ["Normal"] * 3 + ["Warning"]
    assert api.events[0]["involvedObject"] == {"kind": "Node", "name": NODE, "uid": "u1"}


def test_cleaning_leaves_what_others_wrote(api: Api) -> None:
    before = Api().node

    async def clean() -> None:
        async with connected(api) as cluster:
            await cluster.clean()

    reconcile(api, _EMULATED)
    asyncio.run(clean())
    assert api.node["metadata"]["labels"] == before["metadata"]["labels"]
    assert (api.node["spec"], api.node["status"]) == (before["spec"], before["status"])


def test_a_taint_is_not_written_over_what_somebody_else_just_wrote(api: Api) -> None:
    reconcile(api, _EMULATED)
    assert api.patch("node", "merge", {"metadata": {"resourceVersion": "0"}, "spec": {}}) == 409


@pytest.mark.parametrize("code", [401, 403, 500])
def test_an_api_server_that_refuses_is_an_error_of_one_sentence(api: Api, code: int) -> None:
    api.refuse = code
    with pytest.raises(ServiceError, match="the API server refuses"):
        reconcile(api, _EMULATED)


def test_an_api_server_that_is_away_is_an_error_of_one_sentence(api: Api) -> None:
    api.url = "http://127.0.0.1:9"
    with pytest.raises(ServiceError, match="can't be reached"):
        reconcile(api, _EMULATED)


def test_a_containers_epc_is_read_from_its_limits(api: Api) -> None:
    limits = {"sgx.intel.com/epc": "5Mi", "cpu": "1"}
    container = {"name": "app", "resources": {"limits": limits}}
    api.pods = [
        {"metadata": {"uid": "other", "name": "a"}, "spec": {"containers": []}},
        {"metadata": {"uid": "p1", "name": "b"}, "spec": {"containers": [container]}},
    ]

    async def ask(uid: str, name: str) -> int:
        async with connected(api) as cluster:
            return await cluster.asked(uid, name)

    assert asyncio.run(ask("p1", "app")) == 5 << 20
    assert asyncio.run(ask("p1", "other")) == 0
    assert asyncio.run(ask("p2", "app")) == 0
