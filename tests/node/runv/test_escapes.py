# SPDX-License-Identifier: Apache-2.0
"""What a privileged container does to its host under runc, it does to its own machine here."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.node.runv.bundles import Runtime, configuration

from ensconce.node.runv.options import CAPABILITIES

pytestmark = pytest.mark.slow  # machines boot, for a minute or more

MARK = "a line that only the host has"


def privileged(*words: str) -> dict[str, Any]:
    config = configuration(*words)
    status = Path("/proc/self/status").read_text().split("CapBnd:")[1]
    held = int(status.split()[0], 16)  # runc can give no more than there is here
    every = [name for name, place in CAPABILITIES.items() if held >> place & 1]
    sets = ("bounding", "effective", "permitted", "inheritable")
    config["process"]["capabilities"] = dict.fromkeys(sets, every)
    config["process"]["noNewPrivileges"] = False
    del config["hostname"]
    config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "network"}]  # the host's processes
    return config


def test_the_hosts_processes_and_files_are_out_of_reach(runtime: Runtime, tmp_path: Path) -> None:
    marker = tmp_path / "file"
    marker.write_text(MARK)
    sleeper = subprocess.Popen(["sleep", "4321"])  # runs on the host while the container looks
    seen = f"/proc/{sleeper.pid}/root{marker}"  # the host's files, as a process of its sees them
    script = f"ps | busybox grep 'sleep 4321' | busybox grep -v grep; cat {seen}"
    try:
        config = privileged("sh", "-c", script)
        ours = runtime("run", "--bundle", str(runtime.bundle(config)), "one")
        assert "sleep 4321" not in ours.stdout
        assert MARK not in ours.stdout
        if not shutil.which("runc"):
            pytest.skip("runc is not here to show the attack's success")
        theirs = subprocess.run(
            ["runc", f"--root={tmp_path}/runc", "run", "--bundle", runtime.bundle(config), "one"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "sleep 4321" in theirs.stdout
        assert MARK in theirs.stdout
    finally:
        sleeper.kill()
        sleeper.wait()


def test_settings_of_the_kernel_that_a_container_changes_are_its_machines(
    runtime: Runtime,
) -> None:
    setting = Path("/proc/sys/kernel/panic_on_warn")
    before = setting.read_text()
    script = "echo 1 > /proc/sys/kernel/panic_on_warn; cat /proc/sys/kernel/panic_on_warn"
    done = runtime("run", "--bundle", str(runtime.bundle(privileged("sh", "-c", script))), "one")
    assert done.stdout == "1\n"
    assert setting.read_text() == before
