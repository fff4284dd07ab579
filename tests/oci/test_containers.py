# SPDX-License-Identifier: Apache-2.0
"""The images in real containers: Podman's, with a platform and an AESM beside hello world."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ensconce
from ensconce.dcap.quote import Quote
from ensconce.isa.report import ReportBody
from ensconce.oci.inspection import inspect_archive

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("podman") is None or shutil.which("runc") is None,
    reason="needs root, Podman and runc",
)

OWN = f"ensconce:{ensconce.__version__}"
HELLO = f"ensconce-hello-world:{ensconce.__version__}"
USER = 65532
LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=8192:8192")
LEAST = ("--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")


class Engine:
    """Podman with a store of its own, and volumes that containers share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.volumes = {
            "run": "/run/ensconce",
            "state": "/var/lib/ensconce",
            "aesm": "/var/run/aesmd",
            "lib": "/opt/ensconce/lib",
        }
        for name in self.volumes:
            (folder / name).mkdir()
            os.chown(folder / name, USER, USER)

    def __call__(self, *arguments: str, limit: float = 120) -> str:
        places = {"root": "store", "runroot": "runtime", "tmpdir": "tmp"}
        store = [f"--{option}={self.folder / name}" for option, name in places.items()]
        command = ["podman", "--runtime=runc", "--cgroup-manager=cgroupfs", *store, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments: str) -> str:
        mounts = [f"--volume={self.folder / n}:{place}" for n, place in self.volumes.items()]
        host = ["--env=LD_LIBRARY_PATH=/opt/ensconce/lib", "--env=ENSCONCE_SERVICE=/run/ensconce/s"]
        return self("run", *LIMITS, *LEAST, *mounts, *host, *arguments)


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, platform_archive: Path, hello_archive: Path
) -> Iterator[Engine]:
    """Podman with both images, and containers that are the platform and its AESM."""
    engine = Engine(tmp_path_factory.mktemp("podman"))
    for archive in (platform_archive, hello_archive):
        engine("load", "--quiet", f"--input={archive}")
    identity = "--path=/var/lib/ensconce/platform"
    platform = ("platform", "serve", "--socket=/run/ensconce/s", identity)
    engine.run("--detach", "--name=platform", OWN, *platform)
    engine.run("--detach", "--name=aesm", OWN, "aesm", "serve", "--backend=emulated", identity)
    copy = "import shutil; shutil.copytree('/opt/ensconce/lib', '/mnt', dirs_exist_ok=True)"
    into = f"--volume={engine.folder / 'lib'}:/mnt"
    engine("run", "--rm", *LIMITS, *LEAST, into, "--entrypoint=python3", OWN, "-c", copy)
    deadline = time.monotonic() + 60
    while not (
        (engine.folder / "run/s").exists() and (engine.folder / "aesm/aesm.socket").exists()
    ):
        assert time.monotonic() < deadline, engine("logs", "platform") + engine("logs", "aesm")
        time.sleep(0.1)
    yield engine
    engine("rm", "--force", "--all", "--time=1")
    engine("rmi", "--force", "--all")


@pytest.mark.parametrize("command", ["aesm serve", "pccs serve", "platform serve"])
def test_every_service_of_the_image_starts(engine: Engine, command: str) -> None:
    shown = engine("run", "--rm", *LIMITS, *LEAST, OWN, *command.split(), "--help")
    assert f"Usage: ensconce {command}" in shown


def test_an_enclave_greets_from_a_container_until_it_is_told_to_end(engine: Engine) -> None:
    engine.run("--detach", "--name=hello", HELLO)
    deadline = time.monotonic() + 60
    while engine("logs", "hello").count("Hello from inside the enclave, Kubernetes!") < 2:
        assert time.monotonic() < deadline, engine("logs", "hello")
        time.sleep(0.2)
    engine("stop", "--time=20", "hello")
    state = json.loads(engine("inspect", "hello"))[0]["State"]
    assert state["ExitCode"] == 0


def test_a_container_gets_a_quote_of_its_enclave_by_aesm(
    engine: Engine, hello_archive: Path
) -> None:
    printed = engine.run("--rm", "--entrypoint=/app/attested", HELLO, "a nonce")
    quote = Quote.parse(base64.b64decode(printed.strip(), validate=True))
    assert isinstance(quote.body, ReportBody)
    (enclave,) = inspect_archive(hello_archive).enclaves
    assert bytes(quote.body.mr_enclave).hex() == enclave.mr_enclave
    assert bytes(quote.body.report_data) == b"a nonce".ljust(64, b"\0")
