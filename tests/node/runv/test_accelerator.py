# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest
from tests.node.runv.bundles import Runtime, configuration

from ensconce.node.runv import accelerator
from ensconce.node.runv.kernel import Kernel
from ensconce.node.runv.state import default_root

NO_KERNEL = Kernel(Path("/none"), Path("/none"), "none")


def test_without_kvms_device_machines_run_on_tcg_and_the_reason_is_kept(tmp_path: Path) -> None:
    found, new = accelerator.choose(tmp_path, NO_KERNEL, tmp_path / "kvm")
    assert (found.name, new) == ("tcg", True)
    assert "No such file" in found.notice
    assert accelerator.choose(tmp_path, NO_KERNEL) == (found, False)
    assert accelerator.remembered(tmp_path) == found


def test_what_was_found_before_the_hosts_start_is_tried_again(tmp_path: Path) -> None:
    accelerator.choose(tmp_path, NO_KERNEL, tmp_path / "kvm")
    file = tmp_path / "accelerator.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "boot_id": "another"}))
    assert accelerator.remembered(tmp_path) is None
    assert accelerator.choose(tmp_path, NO_KERNEL, tmp_path / "kvm")[1]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "odd", "why": "", "boot_id": ""}'])
def test_a_file_that_says_nothing_is_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "accelerator.json").write_text(text)
    assert accelerator.remembered(tmp_path) is None


def test_a_device_whose_machines_do_not_boot_is_not_used(tmp_path: Path) -> None:
    broken = tmp_path / "kvm"  # opens, and is no KVM; nor is there a kernel to boot
    broken.touch()
    found, _ = accelerator.choose(tmp_path, NO_KERNEL, broken)
    assert found.name == "tcg"
    assert found.why.startswith(("KVM is there, but", "qemu-system-x86_64 does not start"))


@pytest.mark.slow
def test_a_slow_machine_is_said_in_the_features_and_once_in_the_engines_log(
    runtime: Runtime, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    (default_root() / "accelerator.json").unlink(missing_ok=True)
    for _ in range(2):
        runtime(f"--log={log}", "--log-format=json", "run", "--bundle",
                str(runtime.bundle(configuration("true"))), "one")  # fmt: skip
    found = accelerator.remembered(default_root())
    assert found
    said = json.loads(runtime("features").stdout)["annotations"]
    assert said["dev.ensconce.runv.accelerator"] == found.name
    assert said.get("dev.ensconce.runv.notice", "") == found.notice
    heard = log.read_text() if log.exists() else ""
    assert heard.count("TCG") == bool(found.notice)
