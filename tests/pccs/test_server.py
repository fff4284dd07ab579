# SPDX-License-Identifier: Apache-2.0
"""The commands, and a server of theirs on a real socket."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.dcap.corpus import CORPUS, needs_corpus
from tests.platform.reporting import report_of

from ensconce.machine import identity
from ensconce.platform.pcs_server import PREFIX, emulated_ppid
from ensconce.platform.quoting import EmulatedPlatform

ENSCONCE = [sys.executable, "-c", "from ensconce.cli import main; main()"]
CASE = "sgx-v3-00606a000000-268c0681-eval17-2025-08-15"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a platform and a database of its own."""
    path = tmp_path / "platform"
    identity.load_or_create(path)
    kept = {name: text for name, text in os.environ.items() if not name.startswith("ENSCONCE_")}
    return kept | {
        "ENSCONCE_PLATFORM": str(path),
        "ENSCONCE_PCCS_DATABASE": f"sqlite:///{tmp_path}/pccs.db",
    }


def run(environment: dict[str, str], *words: str | Path, code: int = 0) -> dict[str, Any]:
    """Run a command and return what it prints in JSON."""
    done = subprocess.run(
        [*ENSCONCE, *map(str, words), "--json"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"error": done.stderr}
    return found


@contextmanager
def serving(environment: dict[str, str], *words: str | Path) -> Iterator[str]:
    """Give the URL of a server that a command runs."""
    server = subprocess.Popen(
        [*ENSCONCE, *map(str, words), "--json"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = server.stdout.readline()
            assert line, "the server ended"
            text += line
        yield json.loads(text)["url"]
    finally:
        server.terminate()
        server.wait(20)
        if server.stdout is not None:
            server.stdout.close()


@pytest.fixture
def root(environment: dict[str, str], tmp_path: Path) -> Path:
    """Return a file with the platform's test root; its collateral lies beside it."""
    file = tmp_path / "root.der"
    run(environment, "platform", "collateral", tmp_path / "collateral.json", "--root-ca", file)
    return file


def test_an_imported_bundle_is_served(environment: dict[str, str], root: Path) -> None:
    bundle = root.with_name("collateral.json")
    done = run(environment, "pccs", "import", bundle, "--root-ca", root)
    assert (done["items"], done["new"]) == (4, 4)
    words = ("pccs", "serve", "--mode", "offline", "--port", "0", "--read-only", "--root-ca", root)
    with serving(environment, *words) as url:
        wanted = json.loads(bundle.read_text())
        got = httpx.get(f"{url}tcb?fmspc=E5C05CE00000")
        assert wanted["tcb_info"] in got.text
        assert httpx.post(f"{url}platforms", json={}).status_code == 401
        assert httpx.get(url.replace("/sgx/certification/v4/", "/healthz")).text == "ok\n"
    shown = run(environment, "pccs", "status", "--root-ca", root)
    assert 29 < shown["items"]["tcb sgx/E5C05CE00000/standard"]["days"] <= 30
    exported = root.with_name("export.json")
    assert run(environment, "pccs", "export", exported, "--root-ca", root)["items"] == 4
    other = environment | {"ENSCONCE_PCCS_DATABASE": f"sqlite:///{root.parent}/other.db"}
    assert run(other, "pccs", "import", exported, "--root-ca", root)["new"] == 4


def test_a_pccs_fills_itself_from_the_test_pcs_over_tls(
    environment: dict[str, str], root: Path, tmp_path: Path, free_port: int
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    user = run(environment, "pccs", "token")
    admin = run(environment, "pccs", "token")
    tokens = {
        "ENSCONCE_PCCS_USER_TOKEN_HASH": user["hash"],
        "ENSCONCE_PCCS_ADMIN_TOKEN_HASH": admin["hash"],
    }
    found = EmulatedPlatform.load(Path(environment["ENSCONCE_PLATFORM"]))
    with serving(environment, "platform", "pcs", "serve", "--port", str(free_port)) as pcs:
        words = ("--upstream", "pcs", "--url", pcs, "--root-ca", root)
        tls = ("--cert", cert, "--key", key, "--port", "0")
        with serving(environment | tokens, "pccs", "serve", *words, *tls) as url:
            context = ssl.create_default_context(cafile=cert)
            with httpx.Client(verify=context, base_url=url, timeout=30) as client:
                registration = {
                    "qe_id": "0A", "pce_id": "0000", "enc_ppid": emulated_ppid(found),
                    "cpu_svn": found.identity.cpu_svn.hex(), "pce_svn": "0d00",
                }  # fmt: skip
                posted = client.post(
                    "platforms", json=registration, headers={"user-token": user["token"]}
                )
                assert (posted.status_code, posted.text) == (200, "Operation successful.")
                query = {"qeid": "0A", "cpusvn": registration["cpu_svn"], "pcesvn": "0d00"}
                pck = client.get("pckcert", params=query | {"pceid": "0000"})
                assert pck.status_code == 200
                assert PREFIX in url
        assert run(environment, "pccs", "refresh", *words)["failed"] == {}
    assert run(environment, "pccs", "refresh", *words, code=1)["failed"]


def test_relying_parties_fetch_what_verifies_a_quote(
    environment: dict[str, str], root: Path, tmp_path: Path, free_port: int
) -> None:
    found = EmulatedPlatform.load(Path(environment["ENSCONCE_PLATFORM"]))
    evidence = found.quoter.quote(report_of(found.identity, found.quoter.target_info))
    file, policy = tmp_path / "quote.bin", tmp_path / "policy.toml"
    file.write_bytes(evidence)
    fingerprint = run(environment, "platform", "show")["root_ca_sha256"]
    policy.write_text(f'accept_emulated_root = "{fingerprint}"\n')
    with serving(environment, "platform", "pcs", "serve", "--port", str(free_port)) as pcs:
        words = ("--upstream", "pcs", "--url", pcs, "--root-ca", root, "--read-only", "--port", "0")
        with serving(environment, "pccs", "serve", *words) as url:
            told = run(
                environment, "verify", file, "--pccs", url, "--root-ca", root, "--policy", policy
            )
            assert (told["accepted"], told["tcb_status"]) == (True, "UpToDate")
            peer = pytest.importorskip("dcap_qvl", reason="the peer's package is not installed")

            async def fetch() -> Any:
                return await peer.get_collateral(url, evidence)

            collateral = asyncio.run(fetch())
    verdict = peer.verify_with_root_ca(evidence, collateral, root.read_bytes(), int(time.time()))
    assert verdict.status == "UpToDate"


@needs_corpus
def test_evidence_of_another_time_can_not_be_imported(environment: dict[str, str]) -> None:
    told = run(environment, "pccs", "import", CORPUS / CASE / "collateral.json", code=1)
    assert "validity" in told["error"]


def test_a_database_keeps_to_one_root(environment: dict[str, str], root: Path) -> None:
    run(environment, "pccs", "import", root.with_name("collateral.json"), "--root-ca", root)
    told = run(environment, "pccs", "status", code=3)
    assert "another root" in told["error"]


def test_a_server_without_tokens_does_not_start(environment: dict[str, str]) -> None:
    told = run(environment, "pccs", "serve", "--port", "0", code=3)
    assert "user_token_hash is not set" in told["error"]


def test_a_weak_token_is_not_hashed(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*ENSCONCE, "pccs", "token", "--stdin"],
        env=environment, input="password\n", capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")


def test_the_vendors_configuration_is_printed(environment: dict[str, str]) -> None:
    assert run(environment, "pccs", "qcnl", "https://pccs.example:8081")["retry_times"] == 6


@pytest.mark.parametrize("words", [["--help"], ["platform", "pcs", "--help"], ["pccs", "token"]])
def test_without_the_extra_the_other_commands_work(words: list[str]) -> None:
    absent = "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None"
    done = subprocess.run(
        [sys.executable, "-c", f"{absent}; from ensconce.cli import main; main()", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == (3 if words[0] == "pccs" else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert ("ensconce[server]" in done.stderr) == (words[0] == "pccs")
