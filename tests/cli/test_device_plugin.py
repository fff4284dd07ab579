# SPDX-License-Identifier: Apache-2.0
"""`ensconce device-plugin` as a user calls it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ensconce.cli import cli, run

COMMAND = [sys.executable, "-c", "from ensconce.cli import main; main()", "device-plugin"]


def inventory(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, object]:
    assert run(cli, ["device-plugin", "inventory", "--json", *args]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_an_inventory_says_what_would_be_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = inventory(capsys, "--root", str(tmp_path), "--emulated-mib", "1048576")
    assert found["platform"] == "emulated"
    assert found["devices"] == {"sgx.intel.com/enclave": 110}
    assert found["node_capacity"] == {"alibabacloud.com/sgx_epc_MiB": 1048576}
    assert found["enforcement"] == "EmulatedLimit"


def test_an_inventory_says_why_nothing_is_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = inventory(capsys, "--root", str(tmp_path))
    assert (found["reason"], found["devices"]) == ("NoSgx", {})
    assert "set emulated_mib" in str(found["fault"])


def test_intels_flags_are_taken_with_one_hyphen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-enclave-limit", "20", "-provision-limit=3", "-v", "4", "-dcap-infra-resources"]
    found = inventory(
        capsys,
        *("--root", str(tmp_path), "--emulated-mib", "64", "--provision-pods", "aesm"),
        *flags,
    )
    assert found["devices"] == {
        "alibabacloud.com/sgx_epc_MiB": 64,
        "sgx.intel.com/enclave": 20,
        "sgx.intel.com/provision": 3,
    }


def test_a_wrong_setting_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["device-plugin", "inventory", "--epc", "a/b"]) == 3
    assert capsys.readouterr().err.startswith("error: epc names 'a/b', which is no resource")


def test_a_node_without_sgx_is_served_until_the_signal(tmp_path: Path) -> None:
    options = ["--root", str(tmp_path), "--plugin-folder", str(tmp_path)]
    with subprocess.Popen(
        [*COMMAND, "serve", "--enable-aesm-socket-attach", *options], stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        assert (first["event"], first["reason"]) == ("state", "NoSgx")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr.read() == b""
