# SPDX-License-Identifier: Apache-2.0
"""What is done to prepare a node, in a root folder that is one."""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from ensconce.errors import ConfigError, DeviceError
from ensconce.kube.agent.init import Choice, Plan, apply, chroot_runner, plan

_LEAF = {(0, 0): (0x20, 0, 0, 0), (7, 0): (0, 4, 0, 0), (0x12, 0): (3, 0, 0, 0x241F)}


def cpuid(leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    return _LEAF.get((leaf, subleaf), (0, 0, 0, 0))


class Node:
    """A root folder, and a package manager that knows what was installed."""

    def __init__(self, root: Path, distribution: str, *, repository: bool = False) -> None:
        self.root = root
        self.commands: list[str] = []
        self.installed: set[str] = set()
        self.repository = repository
        self.groups: set[str] = set()
        (root / "etc").mkdir()
        (root / "etc/os-release").write_text(distribution)

    def add_driver(self) -> None:
        (self.root / "dev").mkdir()
        os.mknod(self.root / "dev/sgx_enclave", 0o600 | stat.S_IFCHR, os.makedev(1, 3))

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        name, *arguments = command
        if name in ("dpkg-query", "rpm"):
            return int(arguments[-1] not in self.installed), ""
        if name == "getent":
            return 0 if arguments[-1] in self.groups else 2, ""
        if name == "apt-cache" or "list" in arguments:
            return int(not self.repository), ""
        self.commands.append(" ".join(command))
        if "install" in arguments:
            self.installed.update(each for each in arguments if each.startswith(("lib", "tee")))
        if name == "groupadd":
            self.groups.add(arguments[-1])
        return 0, ""

    def plan(self, **choice: bool | str) -> Plan:
        return plan(self.root, Choice(**choice), self.run, cpuid)  # type: ignore[arg-type]

    def apply(self, **choice: bool | str) -> list[str]:
        said: list[str] = []
        apply(self.plan(**choice), self.root, self.run, said.append)
        return said


_DEBIAN = 'ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n'


@pytest.fixture
def debian(tmp_path: Path) -> Node:
    node = Node(tmp_path, _DEBIAN)
    node.add_driver()
    return node


def test_a_node_without_sgx_is_left_as_it_is(tmp_path: Path) -> None:
    node = Node(tmp_path, _DEBIAN)
    made = plan(tmp_path, Choice(), node.run, lambda _leaf, _subleaf: (0, 0, 0, 0))
    assert (made.sgx, made.distribution, made.steps) == (False, "debian", ())


def test_a_prepared_node_has_nothing_left_to_do(debian: Node) -> None:
    choice = {"pccs": "https://pccs.example:8081"}
    said = debian.apply(**choice)
    assert [line.partition(":")[0] for line in said] == [
        "group",
        "udev",
        "repository",
        "packages",
        "qcnl",
    ]
    assert debian.plan(**choice).steps == ()


def test_a_plan_by_itself_changes_nothing(debian: Node) -> None:
    before = sorted(debian.root.rglob("*"))
    assert debian.plan(region="cn-hongkong").steps
    assert sorted(debian.root.rglob("*")) == before
    assert debian.commands == []


def test_the_qcnl_file_names_the_regions_service(debian: Node) -> None:
    debian.apply(region="cn-hongkong", vpc=True)
    settings = json.loads((debian.root / "etc/sgx_default_qcnl.conf").read_text())
    where = "https://sgx-dcap-server-vpc.cn-hongkong.aliyuncs.com/sgx/certification/v4/"
    assert settings["pccs_url"] == where
    assert settings["use_secure_cert"] is True


def test_packages_of_the_distributions_own_need_no_repository(tmp_path: Path) -> None:
    node = Node(tmp_path, _DEBIAN, repository=True)
    node.add_driver()
    assert "repository" not in [step.name for step in node.plan().steps]


def test_alibaba_cloud_linux_gets_the_regions_repository_and_the_sdk(tmp_path: Path) -> None:
    node = Node(tmp_path, 'ID="alinux"\nVERSION_ID="3"\n')
    node.add_driver()
    node.apply(region="cn-beijing", sdk=True)
    url = "https://enclave-cn-beijing.oss-cn-beijing.aliyuncs.com/repo/alinux/enclave-expr.repo"
    assert f"yum-config-manager --add-repo {url}" in node.commands
    assert "teesdk" in node.installed
    assert node.plan(region="cn-beijing", sdk=True).steps == ()


def test_a_missing_driver_is_said_and_nothing_else_is_done(tmp_path: Path) -> None:
    node = Node(tmp_path, _DEBIAN)
    with pytest.raises(DeviceError, match=r"driver: use Linux 5\.11 or later"):
        node.apply()
    assert node.commands == []


def test_the_hosts_own_aesm_is_ended(debian: Node) -> None:
    unit = debian.root / "usr/lib/systemd/system/aesmd.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    debian.apply()
    assert "systemctl disable --now aesmd.service" in debian.commands


def test_a_distribution_that_is_not_known_is_named(tmp_path: Path) -> None:
    node = Node(tmp_path, "ID=plan9\n")
    node.add_driver()
    with pytest.raises(ConfigError, match="'plan9' are not known"):
        node.plan()
    assert [step.name for step in node.plan(packages=False).steps] == ["group", "udev"]


def test_a_command_that_fails_is_named_with_its_last_line(debian: Node) -> None:
    run = chroot_runner(Path("/"))
    made = plan(debian.root, Choice(packages=False), debian.run, cpuid)
    failing = made.steps[0].__class__("x", "y", (("sh", "-c", "echo one; echo two; exit 3"),))
    with pytest.raises(DeviceError, match="failed on this node: two"):
        apply(Plan(sgx=True, distribution="debian", steps=(failing,)), debian.root, run, print)
    assert run(("no-such-program",))[0] == 127
