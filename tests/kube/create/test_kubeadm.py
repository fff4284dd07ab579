# SPDX-License-Identifier: Apache-2.0
"""Clusters by kubeadm, through a real sshd to machines whose kubeadm is a script that records."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.kube.create.machines import Machine, certificate, machine, unusable

from ensconce.errors import ConfigError, PolicyError, ProtocolError, ServiceError
from ensconce.kube.create import Records, create, delete, provider_for
from ensconce.kube.create.kubeadm import Kubeadm
from ensconce.kube.create.preflight import MachineFacts, faults

TOKEN = "abcdef.0123456789abcdef"  # noqa: S105  # of the script
needs_sshd = pytest.mark.skipif(bool(unusable()), reason=unusable() or "sshd is there")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    """Start a control plane and a worker."""
    with machine(tmp_path, "head") as head, machine(tmp_path, "one") as one:
        yield [head, one]


def provider(machines: list[Machine], **more: Any) -> Kubeadm:
    """Return the provider for the machines."""
    folder = machines[0].root.parent
    (folder / "network.yaml").write_text("kind: List\n")
    values = {
        "control_plane": machines[0].host,
        "workers": [each.host for each in machines[1:]],
        "key": str(folder / "user"),
        "ssh_config": str(folder / "ssh_config"),
        "network_manifest": str(folder / "network.yaml"),
        "labels": {"example.com/rack": "r1"},
    }
    chosen = provider_for("kubeadm", "own", values | more)
    assert isinstance(chosen, Kubeadm)
    return chosen


def run(machines: list[Machine], records: Records, **more: Any) -> None:
    """Create, as a process of its own would."""
    chosen = provider(machines, **more)
    with records.open("own") as found:
        create(chosen, found or records.begin("own", chosen.kind, chosen.settings))


def remove(machines: list[Machine], records: Records) -> None:
    """Delete, as a process of its own would."""
    with records.open("own") as record:
        assert record is not None
        delete(provider(machines), record)


@needs_sshd
def test_a_cluster_is_made_and_taken_back(
    machines: list[Machine], records: Records, tmp_path: Path
) -> None:
    with machine(tmp_path, "two") as third:
        live_and_end([*machines, third], records)


def live_and_end(machines: list[Machine], records: Records) -> None:
    """Make a cluster, look, take it back, look."""
    before = [each.files() for each in machines]
    run(machines, records)
    head, one, two = machines
    assert any(line.startswith("kubeadm init --config") for line in head.commands)
    assert "SystemdCgroup = true" in (one.root / "etc/containerd/config.toml").read_text()
    assert (head.root / "var/applied.yaml").read_text() == "kind: List\n"
    assert any(
        "label node one two --overwrite example.com/rack=r1" in each for each in head.commands
    )
    remove(machines, records)
    assert any(line.startswith("kubeadm reset") for line in two.commands)
    residue = [after.files() - was for after, was in zip(machines, before, strict=True)]
    assert all(each <= {"etc/containerd", "var/lib/ensconce"} for each in residue)  # empty folders


@needs_sshd
def test_workers_join_by_a_pinned_ca_and_a_token_that_is_removed(
    machines: list[Machine], records: Records
) -> None:
    run(machines, records)
    head, one = machines
    found = yaml.safe_load((one.root / "var/join.yaml").read_text())["discovery"]["bootstrapToken"]
    key = certificate(head).public_key()
    pin = hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()
    assert found["caCertHashes"] == [f"sha256:{pin}"]
    assert (one.root / "var/join.mode").read_text() == "600\n"
    assert not (one.root / "run/ensconce-kubeadm.yaml").exists()
    assert head.commands.count(f"kubeadm token delete {TOKEN}") == 1


@needs_sshd
def test_no_token_or_kubeconfig_reaches_the_record_or_the_log(
    machines: list[Machine], records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        run(machines, records)
    record = records.find("own")
    assert record is not None
    assert TOKEN not in record.path.read_text() + caplog.text
    assert "kind: Config" not in record.path.read_text()
    assert Path(record.facts["kubeconfig"]).stat().st_mode & 0o777 == 0o600


CRASHES = [
    (0, "apt-get--qq"),
    (0, "sysctl--q"),
    (0, "kubeadm-version"),
    (0, "kubeadm-init"),
    (0, "kubeadm-init-late"),
    (1, "modprobe-overlay"),
    (1, "kubeadm-join"),
    (1, "kubeadm-join-late"),
]


@needs_sshd
@pytest.mark.parametrize(("index", "point"), CRASHES)
def test_a_crash_on_a_machine_is_gone_on_from(
    index: int, point: str, machines: list[Machine], records: Records
) -> None:
    machines[index].crash_at(point)
    with pytest.raises((ServiceError, PolicyError)):
        run(machines, records)
    run(machines, records)
    assert (machines[0].root / "etc/kubernetes/admin.conf").exists()
    assert all((each.root / "etc/kubernetes/kubelet.conf").exists() for each in machines[1:])


@needs_sshd
def test_a_machine_of_another_cluster_is_refused_and_left_alone(
    machines: list[Machine], records: Records
) -> None:
    (machines[1].root / "etc/kubernetes").mkdir()
    (machines[1].root / "etc/kubernetes/kubelet.conf").touch()
    with pytest.raises(PolicyError, match="in a cluster already"):
        run(machines, records)
    assert not any("apt-get" in line for each in machines for line in each.commands)


@needs_sshd
def test_deletion_leaves_a_machine_alone_that_another_creation_prepared(
    machines: list[Machine], records: Records
) -> None:
    run(machines, records)
    (machines[1].root / "var/lib/ensconce/created-by").write_text("another\n")
    remove(machines, records)
    assert (machines[1].root / "etc/kubernetes/kubelet.conf").exists()
    assert not (machines[0].root / "etc/kubernetes").exists()


@needs_sshd
def test_packages_that_were_there_before_stay(machines: list[Machine], records: Records) -> None:
    (machines[1].root / "var/lib/packages/containerd").touch()
    run(machines, records)
    remove(machines, records)
    assert (machines[1].root / "var/lib/packages/containerd").exists()
    assert not (machines[1].root / "var/lib/packages/kubeadm").exists()


@needs_sshd
def test_a_host_that_is_not_known_is_refused(machines: list[Machine], records: Records) -> None:
    (machines[0].root.parent / "known_hosts").write_text("")
    with pytest.raises(ServiceError, match="can't be reached by ssh"):
        run(machines, records)


@needs_sshd
def test_machines_without_sgx_are_taken_as_emulated_only(tmp_path: Path, records: Records) -> None:
    with machine(tmp_path, "head") as head, machine(tmp_path, "one", sgx=False) as one:
        with pytest.raises(PolicyError, match="shows no SGX: enable it in the firmware"):
            run([head, one], records)
        with records.open("own") as record:
            assert record is not None
            delete(provider([head, one]), record)
        run([head, one], records, emulated=True)


FIT = MachineFacts(
    hostname="one",
    arch="x86_64",
    kernel="6.1.0-30-amd64",
    flags=frozenset({"sgx", "sgx_lc"}),
    devices=frozenset({"/dev/sgx_enclave", "/dev/sgx_provision"}),
    packages=frozenset({"containerd", "kubeadm", "kubelet", "kubectl"}),
)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arch": "aarch64"}, "take another machine"),
        ({"swaps": 1}, "swapoff"),
        ({"apt": False}, "no apt"),
        ({"packages": frozenset({"containerd"})}, "lack kubeadm, kubelet, kubectl"),
        ({"cgroup": False}, "SystemdCgroup"),
        ({"marker": "other"}, "another creation"),
        ({"member": True}, "in a cluster already"),
        ({"kernel": "5.10.0-8-amd64"}, "5.11 or later"),
        ({"flags": frozenset()}, "shows no SGX"),
        ({"flags": frozenset({"sgx"})}, "launch control"),
        ({"devices": frozenset({"/dev/sgx_enclave"})}, "lacks /dev/sgx_provision"),
    ],
)
def test_each_fault_of_a_machine_is_named_with_its_mend(change: dict[str, Any], says: str) -> None:
    (fault,) = faults(replace(FIT, **change), "mine", enclaves=True)
    assert says in fault


def test_a_fit_machine_has_no_faults_and_ours_may_be_a_member() -> None:
    assert not faults(FIT, "mine", enclaves=True)
    assert not faults(replace(FIT, marker="mine", member=True), "mine", enclaves=True)


def test_a_login_shell_that_talks_is_said_so() -> None:
    with pytest.raises(ProtocolError, match="prints nothing of its own"):
        MachineFacts.parse("welcome!\n", "one")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"control_plane": "-oProxyCommand=x"}, "is no host"),
        ({"workers": ["a b"]}, "is no host"),
        ({"workers": ["head"]}, "named twice"),
        ({"user": "Root;"}, "no user name"),
        ({"endpoint": "10.0.0.1"}, "no HOST:PORT"),
        ({"labels": {"a b": "c"}}, "no label"),
        ({"network_manifest": "/nowhere.yaml"}, "is no file"),
        ({"workers": "one"}, "no list of texts"),
    ],
)
def test_wrong_inventories_are_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        provider_for("kubeadm", "own", {"control_plane": "head", "workers": ["one"]} | values)
