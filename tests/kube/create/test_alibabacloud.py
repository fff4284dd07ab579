# SPDX-License-Identifier: Apache-2.0
"""ACK clusters, by the official SDK against a served API."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.kube.create.ack import KEY_ID, SECRET, Ack, Refusal

from ensconce.errors import ConfigError, PolicyError, ServiceError
from ensconce.kube.create import Records, create, delete, provider_of
from ensconce.kube.create.alibabacloud import FAMILIES, AckSettings, AlibabaCloud
from ensconce.kube.create.settings import make_settings

pytest.importorskip("alibabacloud_cs20151215", reason="needs Alibaba Cloud's SDK")
from alibabacloud_credentials.client import Client as Credentials
from alibabacloud_credentials.models import Config

from ensconce.kube.create.alibabacloud_api import Cloud

KEYS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": KEY_ID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET}
SETTINGS = {"region": "cn-hangzhou", "vpc": "vpc-1", "vswitches": ["vsw-1"], "key_pair": "admin"}


def provider(
    ack: Ack, *, sleep: Callable[[float], None] = lambda _: None, **more: Any
) -> AlibabaCloud:
    """Return the provider at the served API, which does not wait."""
    values = SETTINGS | {"endpoint": ack.url} | more
    settings = make_settings(AckSettings, values, "alibabacloud")
    credentials = Credentials(
        Config(type="access_key", access_key_id=KEY_ID, access_key_secret=SECRET)
    )

    def connect(at: AckSettings) -> Cloud:
        return Cloud.connect(at.region, endpoint=at.endpoint, credentials=credentials, sleep=sleep)

    return AlibabaCloud("prod", settings, connect)


def run(ack: Ack, records: Records, **more: Any) -> None:
    """Create, as a process of its own would."""
    with records.open("prod") as found:
        chosen = provider(ack, **more)
        create(chosen, found or records.begin("prod", chosen.kind, chosen.settings))


def remove(ack: Ack, records: Records) -> None:
    """Delete, as a process of its own would."""
    with records.open("prod") as record:
        if record is not None:
            delete(provider(ack), record)


def test_a_cluster_and_its_confidential_pool_are_made_and_deleted(
    ack: Ack, records: Records
) -> None:
    run(ack, records)
    (cluster,) = ack.clusters.values()
    (pool,) = ack.pools.values()
    assert cluster["cluster_type"] == "ManagedKubernetes"
    assert cluster["addons"] == [{"name": "flannel"}]
    assert pool["kubernetes_config"]["runtime"] == "containerd"
    assert pool["scaling_group"]["image_type"] == "AliyunLinux3Security"
    assert dict(ack.bodies)["CreateClusterNodePool"]["tee_config"] == {"tee_enable": True}
    remove(ack, records)
    assert not ack.clusters
    assert not ack.pools
    assert records.find("prod") is None


def test_the_kubeconfig_is_private_and_by_the_vpc_unless_asked_otherwise(
    ack: Ack, records: Records
) -> None:
    run(ack, records)
    record = records.find("prod")
    assert record is not None
    path = record.path.with_suffix(".kubeconfig")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "private True" in path.read_text()


def test_no_credential_reaches_the_record_or_the_log(
    ack: Ack, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        run(ack, records)
    record = records.find("prod")
    assert record is not None
    assert SECRET not in record.path.read_text() + caplog.text


@pytest.mark.parametrize("number", range(14))
def test_a_run_whose_nth_answer_is_lost_is_gone_on_with(
    number: int, ack: Ack, records: Records
) -> None:
    ack.lost = {number}
    with suppress(ServiceError):
        run(ack, records)
    run(ack, records)
    assert len(ack.made) == 2
    assert len(ack.clusters) == len(ack.pools) == 1


@pytest.mark.parametrize("number", range(14))
def test_a_deletion_whose_nth_answer_is_lost_is_gone_on_with(
    number: int, ack: Ack, records: Records
) -> None:
    run(ack, records)
    ack.lost = {len(ack.actions) + number}
    with suppress(ServiceError):
        remove(ack, records)
    remove(ack, records)
    assert not ack.clusters
    assert records.find("prod") is None


@pytest.mark.parametrize(
    "step", ["stock", "cluster", "control-plane", "node-pool", "nodes", "kubeconfig"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_at_any_step_leaves_what_goes_on_and_can_be_deleted(
    step: str, when: str, ack: Ack, records: Records
) -> None:
    chosen = provider(ack)
    whole = chosen.apply

    def interrupted(name: str, record: Any) -> str:
        if name == step and when == "before":
            raise KeyboardInterrupt
        outcome = whole(name, record)
        if name == step:
            raise KeyboardInterrupt
        return outcome

    chosen.apply = interrupted  # type: ignore[assignment, method-assign]
    with records.open("prod"), pytest.raises(KeyboardInterrupt):
        create(chosen, records.begin("prod", chosen.kind, chosen.settings))
    run(ack, records)
    assert len(ack.made) == 2
    remove(ack, records)
    assert not ack.clusters


def test_what_was_begun_and_not_recorded_is_deleted_all_the_same(
    ack: Ack, records: Records
) -> None:
    ack.lost = {2}  # CreateCluster's answer
    with pytest.raises(ServiceError):
        run(ack, records)
    assert len(ack.clusters) == 1
    remove(ack, records)
    assert not ack.clusters


def test_a_cluster_of_the_same_name_that_is_not_ours_is_left_alone(
    ack: Ack, records: Records
) -> None:
    ack.clusters["c-other"] = {
        "name": "prod",
        "cluster_id": "c-other",
        "state": "running",
        "tags": [],
    }
    run(ack, records)
    remove(ack, records)
    assert list(ack.clusters) == ["c-other"]


def test_a_cluster_that_lost_its_mark_is_not_deleted(ack: Ack, records: Records) -> None:
    run(ack, records)
    next(iter(ack.clusters.values()))["tags"] = []
    with pytest.raises(PolicyError, match="lost its tag"):
        remove(ack, records)
    assert ack.clusters


def test_throttling_is_waited_out(ack: Ack, records: Records) -> None:
    ack.throttled = {0, 2, 3, 5, 8}
    waits: list[float] = []
    run(ack, records, sleep=waits.append)
    assert len(ack.made) == 2
    assert len([wait for wait in waits if wait < 10]) == 5


def test_a_refusal_is_one_sentence_with_the_request_id(ack: Ack, records: Records) -> None:
    ack.refusals = {
        "CreateCluster": Refusal(400, "ErrorQuota", "the quota of clusters is used up.")
    }
    with pytest.raises(ServiceError) as raised:
        run(ack, records)
    assert str(raised.value) == (
        "Alibaba Cloud refused CreateCluster: the quota of clusters is used up "
        "(ErrorQuota, request R-CreateCluster); correct that and run this again"
    )


@pytest.mark.parametrize(
    "action",
    [
        "DescribeAvailableResource",
        "DescribeClustersV1",
        "CreateCluster",
        "DescribeClusterDetail",
        "DescribeClusterNodePools",
        "CreateClusterNodePool",
        "DescribeClusterNodePoolDetail",
        "DescribeClusterUserKubeconfig",
    ],
)
def test_a_refusal_of_any_action_can_be_mended(action: str, ack: Ack, records: Records) -> None:
    ack.refusals = {action: Refusal(403, "Forbidden.RAM", "not allowed")}
    with pytest.raises(ServiceError, match=f"{action}.*let the RAM user"):
        run(ack, records)
    ack.refusals = {}
    run(ack, records)
    assert len(ack.made) == 2


def test_a_failed_task_says_why(ack: Ack, records: Records) -> None:
    ack.task_error = {"code": "QuotaExceeded.Eip", "message": "no address is left"}
    with pytest.raises(
        ServiceError, match=r"prepare-vpc \(QuotaExceeded.Eip: no address is left\)"
    ):
        run(ack, records)


def test_a_pool_that_came_up_without_confidential_computing_is_refused(
    ack: Ack, records: Records
) -> None:
    ack.tee_honoured = False
    with pytest.raises(PolicyError, match="without confidential computing"):
        run(ack, records)


def test_nothing_is_made_where_the_region_has_no_stock(ack: Ack, records: Records) -> None:
    with pytest.raises(PolicyError, match=r"no zone of cn-hangzhou has ecs\.r7t\.large"):
        run(ack, records, instance_types=["ecs.r7t.large"])
    assert not ack.made


@pytest.mark.parametrize(
    "values",
    [
        {"instance_types": ["ecs.g7.large"]},
        {"instance_types": ["ecs.c7t"]},
        {"instance_types": ["ecs.g7t.large", "ecs.g8i.large"]},
        {"region": "us-east-1"},
        {"image_type": "AliyunLinux3"},
    ],
)
def test_what_has_no_sgx_is_refused_before_anything_is_asked(
    values: dict[str, Any], ack: Ack
) -> None:
    with pytest.raises(PolicyError, match="take one of"):
        provider(ack, **values)
    assert not ack.actions


@pytest.mark.parametrize("family", FAMILIES)
def test_families_with_sgx_are_taken(family: str, ack: Ack) -> None:
    plan = provider(ack, instance_types=[f"{family}.4xlarge"]).steps()
    assert [step.name for step in plan if step.changes] == ["cluster", "node-pool", "kubeconfig"]
    assert not ack.actions


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"nodes": 0}, "nodes is 0"),
        ({"nodes": "2"}, "no whole number"),
        ({"colour": "red"}, "no setting 'colour'"),
        ({"vswitches": []}, "at least one"),
        ({"pod_network": "8.8.0.0/16"}, "not private"),
        ({"pod_network": "172.21.0.0/16"}, "overlaps"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], says: str, ack: Ack) -> None:
    with pytest.raises(ConfigError, match=says):
        provider(ack, **values)


def test_plain_http_is_for_loopback_only() -> None:
    with pytest.raises(ConfigError, match="unencrypted"):
        Cloud.connect("cn-hangzhou", endpoint="http://cs.example.com")


def test_other_settings_are_refused_when_a_creation_is_gone_on_with(
    ack: Ack, records: Records
) -> None:
    run(ack, records)
    with pytest.raises(ConfigError, match="begun with another nodes"):
        run(ack, records, nodes=3)


def start(ack: Ack, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, whose SDK may not ask a metadata service."""
    given = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    given |= {
        "XDG_STATE_HOME": str(folder / "state"),
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
    }
    words = ["-c", "from ensconce.cli import main; main()", "cluster", "create", "prod"]
    flags = ["--provider", "alibabacloud", "--region", "cn-hangzhou", "--vpc", "vpc-1"]
    flags += ["--vswitch", "vsw-1", "--key-pair", "admin", "--endpoint", ack.url, *arguments]
    return subprocess.Popen(
        [sys.executable, *words, *flags], env=given | environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def command(
    ack: Ack, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    with start(ack, folder, *arguments, **environment) as process:
        out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_missing_credentials_are_said_in_one_sentence(ack: Ack, tmp_path: Path) -> None:
    result = command(ack, tmp_path, "--yes")
    assert result.returncode == 3
    assert result.stderr.splitlines()[-1].startswith("error: no credentials of Alibaba Cloud")
    assert "Traceback" not in result.stderr
    assert not ack.actions


def test_the_command_takes_credentials_from_the_environment(ack: Ack, tmp_path: Path) -> None:
    ack.polls = 0
    result = command(ack, tmp_path, "--yes", "--json", **KEYS)
    assert json.loads(result.stdout)["phase"] == "ready", result.stderr
    assert "[6/6] write the kubeconfig" in result.stderr
    assert SECRET not in result.stdout + result.stderr


def test_an_interrupted_command_says_that_it_can_be_repeated(ack: Ack, tmp_path: Path) -> None:
    with start(ack, tmp_path, "--yes", **KEYS) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "cluster_create: prepare-vpc" in line:
                process.send_signal(signal.SIGINT)
                break
        said = process.stderr.read()
    assert process.returncode == 130
    assert "the same command goes on" in said
    ack.polls = 0
    assert command(ack, tmp_path, "--yes", **KEYS).returncode == 0
    assert len(ack.made) == 2


def test_the_command_acts_on_a_yes_only(ack: Ack, tmp_path: Path) -> None:
    result = command(ack, tmp_path)
    assert result.returncode == 3
    assert "repeat with --yes" in result.stderr
    assert not ack.actions


def test_a_dry_run_needs_no_sdk_and_asks_nothing(ack: Ack, tmp_path: Path) -> None:
    result = command(ack, tmp_path, "--dry-run", "--json")
    assert [step["name"] for step in json.loads(result.stdout)["steps"]][1] == "cluster"
    assert not ack.actions
    assert not (tmp_path / "state").exists()


def test_a_record_is_enough_to_delete_by(ack: Ack, records: Records) -> None:
    run(ack, records)
    record = records.find("prod")
    assert record is not None
    assert provider_of(record).settings == record.settings
