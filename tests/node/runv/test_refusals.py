# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest
from tests.node.runv.bundles import configuration

from ensconce.errors import ConfigError
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


def test_a_socket_of_the_hosts_is_not_let_in(tmp_path: Path) -> None:
    mount = {"destination": "/s", "type": "bind", "source": "/dev/null"}
    assert "/dev/null" in refusal(tmp_path, {"mounts": [mount]})
