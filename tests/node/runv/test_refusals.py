# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest
from tests.node.runv.bundles import configuration

from ensconce.errors import ConfigError
from ensconce.node.runv.command import main
from ensconce.node.runv.limits import read_limits
from ensconce.node.runv.refusals import refuse_foreign_namespaces
from ensconce.node.runv.seccomp import compile_filter
from ensconce.node.runv.spec import container_records, read_bundle


def refusal(folder: Path, change: dict[str, Any]) -> str:
    config = configuration("true")
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(config.get(key), dict) else value
    (folder / "rootfs").mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as caught:
        container_records(read_bundle(folder), "box")
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vm": {"kernel": {}}, "solaris": {"x": 1}}, "vm"),
        ({"linux": {"intelRdt": {"closID": "x"}}}, "linux.intelRdt"),
        ({"linux": {"uidMappings": [{"hostID": 1}]}}, "linux.uidMappings"),
        ({"linux": {"namespaces": [{"type": "user"}]}}, "'user'"),
        ({"linux": {"namespaces": [{"type": "ipc", "path": "/proc/1/ns/ipc"}]}}, "/proc/1/ns/ipc"),
        ({"linux": {"namespaces": [{"type": "mount", "path": "/x"}]}}, "'/x'"),
        ({"linux": {"rootfsPropagation": "odd"}}, "linux.rootfsPropagation"),
        ({"linux": {"resources": {"memory": {"limit": 9, "swap": 8}}}}, "memory.swap"),
        ({"linux": {"resources": {"memory": {"swap": 8}}}}, "memory.swap"),
        ({"linux": {"resources": {"memory": {"disableOOMKiller": True}}}}, "disableOOMKiller"),
        ({"linux": {"resources": {"cpu": {"idle": 1}}}}, "linux.resources.cpu.idle"),
        ({"mounts": [{"destination": "/x", "uidMappings": [{"size": 1}]}]}, "mounts.uidMappings"),
        ({"mounts": [{"destination": "/x", "gidMappings": [{"size": 1}]}]}, "mounts.gidMappings"),
        ({"linux": {"resources": {"hugepageLimits": [{"limit": 1}]}}}, "hugepageLimits"),
        ({"linux": {"resources": {"blockIO": {"weight": 10}}}}, "blockIO"),
        ({"linux": {"devices": [{"path": "/dev/sgx_enclave", "type": "c"}]}}, "/dev/sgx_enclave"),
        ({"process": {"selinuxLabel": "x"}}, "process.selinuxLabel"),
        ({"process": {"apparmorProfile": "mine"}}, "process.apparmorProfile"),
        ({"mounts": [{"destination": "/x", "type": "nfs", "source": "y"}]}, "'nfs'"),
        ({"ociVersion": "2.0.0"}, "ociVersion"),
    ],
)
def test_what_a_sandbox_can_not_do_is_refused_by_name(
    change: dict[str, Any], named: str, tmp_path: Path
) -> None:
    assert named in refusal(tmp_path, change)


def test_an_option_that_a_bind_mount_can_not_have_is_refused(tmp_path: Path) -> None:
    mount = {"destination": "/s", "source": "/etc", "options": ["bind", "idmap"]}
    assert "'idmap'" in refusal(tmp_path, {"mounts": [mount]})


def test_only_the_namespaces_of_the_containers_own_pod_can_be_named() -> None:
    linux = {"namespaces": [{"type": "network", "path": "/run/n"},
                            {"type": "uts", "path": "/proc/77/ns/uts"}]}  # fmt: skip
    assert refuse_foreign_namespaces(linux, 77) == ["uts"]
    with pytest.raises(ConfigError, match="/proc/77/ns/uts"):
        refuse_foreign_namespaces(linux, 78)


def test_descriptors_of_the_hosts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "--preserve-fds", "1", "box"]) == 1
    assert "--preserve-fds" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL"])
def test_a_filter_that_would_let_an_unknown_call_through_is_refused(action: str) -> None:
    rules = [{"names": ["no_such_call"], "action": action}]
    with pytest.raises(ConfigError, match="no_such_call"):
        compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})


def test_an_unknown_call_that_a_filter_allows_stays_denied() -> None:
    rules = [{"names": ["no_such_call", "read"], "action": "SCMP_ACT_ALLOW"}]
    without = [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]
    strict = {"defaultAction": "SCMP_ACT_ERRNO"}
    assert compile_filter({**strict, "syscalls": rules}) == compile_filter(
        {**strict, "syscalls": without}
    )


@pytest.mark.parametrize(
    ("swap", "held"), [(None, None), (-1, None), (0, None), (100, 0), (150, 50)]
)
def test_swap_is_what_is_over_the_limit_of_memory(swap: int | None, held: int | None) -> None:
    assert read_limits({"memory": {"limit": 100, "swap": swap}}).swap == held


def test_a_socket_of_the_hosts_is_not_let_in(tmp_path: Path) -> None:
    mount = {"destination": "/s", "type": "bind", "source": "/dev/null"}
    assert "/dev/null" in refusal(tmp_path, {"mounts": [mount]})
