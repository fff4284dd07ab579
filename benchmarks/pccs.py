# SPDX-License-Identifier: Apache-2.0
"""Requests a second of the PCCS over TLS, beside a bare Starlette route of the same size.

With ENSCONCE_PEER_PCCS naming the `service` folder of Intel's PCCS (its packages installed by npm),
that one is asked the same questions with the same collateral too. Each server has one core to
itself and the client the other; 32 connections are kept open.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import httpx
from cryptography.hazmat.primitives.serialization import Encoding

from ensconce.machine.identity import Identity
from ensconce.pccs import hash_token
from ensconce.platform.certificates import pem
from ensconce.platform.quoting import EmulatedPlatform

SECONDS, CONNECTIONS, ROUNDS = 3.0, 32, 3
SGX = "/sgx/certification/v4"
ADMIN = "admin-7b1d2e8f4a6c9035"
QE_ID = "0123456789ABCDEF"
COMMAND = [sys.executable, "-c", "from ensconce.cli import main; main()", "pccs"]
BARE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def tcb(request):
    body = b"x" * int(sys.argv[4])
    return Response(body, media_type="application/json", headers={"a": "b" * 2400})
uvicorn.run(Starlette(routes=[Route("/sgx/certification/v4/tcb", tcb)]), port=int(sys.argv[1]),
    ssl_certfile=sys.argv[2], ssl_keyfile=sys.argv[3], access_log=False, log_level="error")
"""


def pinned(core: int) -> list[str]:
    """Return the words before a command that keep it to a core."""
    return ["taskset", "-c", str(core)] if shutil.which("taskset") and os.cpu_count() != 1 else []


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, tls: ssl.SSLContext, **options: object) -> Iterator[int]:
    """Run a server until it answers, and end it."""
    process = subprocess.Popen(  # type: ignore[call-overload]  # noqa: S603 # named above
        [*pinned(0), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )
    try:
        for _ in range(300):
            try:
                httpx.get(f"https://127.0.0.1:{port}{SGX}/rootcacrl", verify=tls)
                break
            except httpx.HTTPError:
                if process.poll() is not None:
                    raise SystemExit(f"{command[0]} ended with {process.returncode}") from None
                time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def rate(port: int, path: str, tls: ssl.SSLContext) -> float:
    """Return requests a second, over connections that each wait for their answer."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with ExitStack() as stack:
        open_ = []
        for _ in range(CONNECTIONS):
            raw = socket.create_connection(("127.0.0.1", port))
            open_.append(stack.enter_context(tls.wrap_socket(raw, server_hostname="localhost")))
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            for connection in open_:
                connection.sendall(request)
            for connection in open_:
                read_answer(connection)
            done += CONNECTIONS
        return done / (time.perf_counter() - start)


def read_answer(connection: ssl.SSLSocket) -> None:
    """Read one answer of 200 with a length."""
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head[:80]
    left = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]) - len(body)
    while left > 0:
        left -= len(connection.recv(65536))


def vendors_file(found: EmulatedPlatform, collateral: dict[str, str]) -> dict[str, object]:
    """Return collateral in the form that both servers take from an admin."""
    own = {"qe_id": QE_ID, "pce_id": "0000", "enc_ppid": "", "platform_manifest": None}
    tcb = {"cpu_svn": found.identity.cpu_svn.hex(), "pce_svn": "0d00"}
    certificate = pem([found.pck.certificate()])
    components = {f"sgxtcbcomp{n:02}svn": svn for n, svn in enumerate(found.identity.cpu_svn, 1)}
    listed = [{"svn": svn} for svn in found.identity.cpu_svn]
    one = {
        "tcb": components | {"sgxtcbcomponents": listed, "pcesvn": 13},
        "tcbm": tcb["cpu_svn"] + tcb["pce_svn"],
        "cert": quote(certificate),
    }  # fmt: skip
    info = {"tcbInfo": json.loads(collateral["tcb_info"])}
    identity = {"enclaveIdentity": json.loads(collateral["qe_identity"])}
    chain = quote(collateral["pck_crl_issuer_chain"])
    signing = quote(collateral["tcb_info_issuer_chain"])
    return {
        "platforms": [own | tcb],
        "collaterals": {
            "version": 4,
            "pck_certs": [own | {"certs": [one]}],
            "tcbinfos": [
                {
                    "fmspc": found.pcs.fmspc.hex(),
                    "sgx_tcbinfo": info | {"signature": collateral["tcb_info_signature"]},
                }
            ],
            "pckcacrl": {"platformCrl": collateral["pck_crl"]},
            "qeidentity": json.dumps(
                identity | {"signature": collateral["qe_identity_signature"]}, separators=(",", ":")
            ),
            "certificates": {
                "SGX-PCK-Certificate-Issuer-Chain": {"PLATFORM": chain},
                "TCB-Info-Issuer-Chain": signing,
                "SGX-Enclave-Identity-Issuer-Chain": signing,
            },
            "rootcacrl": collateral["root_ca_crl"],
        },
    }


def ours(folder: Path, port: int) -> tuple[list[str], dict[str, object]]:
    """Return how our server is run."""
    settings = {
        "ENSCONCE_PCCS_DATABASE": f"sqlite:///{folder}/ours.db",
        "ENSCONCE_PCCS_USER_TOKEN_HASH": hash_token("user-0f3a9c5d7e21b846"),
        "ENSCONCE_PCCS_ADMIN_TOKEN_HASH": hash_token(ADMIN),
    }
    words = ["serve", "--mode", "offline", "--root-ca", f"{folder}/root.der", "--port", str(port)]
    tls = ["--cert", f"{folder}/cert.pem", "--key", f"{folder}/key.pem"]
    return [*COMMAND, *words, *tls], {"env": os.environ | settings}


def intels(folder: Path, port: int, service: Path) -> tuple[list[str], dict[str, object]]:
    """Return how Intel's server is run, over a copy of its folder."""
    copy = folder / "intel"
    shutil.copytree(service, copy, ignore=shutil.ignore_patterns("node_modules", "*.db"))
    (copy / "node_modules").symlink_to(service / "node_modules")
    for name in ("ssl_key", "logs"):
        (copy / name).mkdir(exist_ok=True)
    shutil.copy(folder / "key.pem", copy / "ssl_key" / "private.pem")
    shutil.copy(folder / "cert.pem", copy / "ssl_key" / "file.crt")
    hashes = {
        f"{who}TokenHash": hashlib.sha512(word.encode()).hexdigest()
        for who, word in (("User", "user-0f3a9c5d7e21b846"), ("Admin", ADMIN))
    }
    chosen = {"HTTPS_PORT": port, "CachingFillMode": "OFFLINE", "LogLevel": "error"} | hashes
    environment = {"NODE_ENV": "production", "NODE_CONFIG": json.dumps(chosen)}
    return ["node", "pccs_server.js"], {"env": os.environ | environment, "cwd": copy}


def make_certificate(folder: Path) -> ssl.SSLContext:
    """Make a TLS certificate for localhost, and return how a client trusts it."""
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    out = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    command = ["openssl", "req", "-x509", *kind, *out, *names]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 # named above
    return ssl.create_default_context(cafile=folder / "cert.pem")


def fill(port: int, bundle: dict[str, object], tls: ssl.SSLContext) -> None:
    """Give a server its collateral, as the vendor's admin tool does."""
    place = f"https://127.0.0.1:{port}{SGX}/platformcollateral"
    token = {"admin-token": ADMIN}
    put = httpx.put(place, json=bundle, headers=token, verify=tls, timeout=30)
    assert put.status_code == 200, put.text


def main() -> None:
    """Measure each server in turn, several times, and print the best with ratios."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        tls = make_certificate(folder)
        found = EmulatedPlatform.of(Identity.generate())
        root = found.pcs.root.certificate().public_bytes(Encoding.DER)
        (folder / "root.der").write_bytes(root)
        bundle = vendors_file(found, found.pcs.collateral(datetime.now(UTC)))
        ports = {"ensconce": free_port()}
        tasks = {"ensconce": ours(folder, ports["ensconce"])}
        if peer := os.environ.get("ENSCONCE_PEER_PCCS"):
            ports["intel"] = free_port()
            tasks["intel"] = intels(folder, ports["intel"], Path(peer))
        for each, (command, options) in tasks.items():
            stack.enter_context(running(command, ports[each], tls, **options))
            fill(ports[each], bundle, tls)
        questions = {
            "tcb": f"{SGX}/tcb?fmspc={found.pcs.fmspc.hex()}",
            "pckcert": f"{SGX}/pckcert?qeid={QE_ID}&cpusvn={found.identity.cpu_svn.hex()}"
            "&pcesvn=0d00&pceid=0000",
        }
        got = httpx.get(f"https://127.0.0.1:{ports['ensconce']}{questions['tcb']}", verify=tls)
        ports["starlette"] = free_port()
        given = [str(ports["starlette"]), f"{folder}/cert.pem", f"{folder}/key.pem"]
        stack.enter_context(
            running(
                [sys.executable, "-c", BARE, *given, str(len(got.content))], ports["starlette"], tls
            )
        )
        if pinned(1):
            os.sched_setaffinity(0, {1})
        report(ports, questions, tls)


def report(ports: dict[str, int], questions: dict[str, str], tls: ssl.SSLContext) -> None:
    """Measure and print."""
    best: dict[tuple[str, str], float] = {}
    for _ in range(ROUNDS):
        for name, port in ports.items():
            for question, path in questions.items():
                if name != "starlette" or question == "tcb":
                    now = rate(port, path, tls)
                    best[name, question] = max(now, best.get((name, question), 0.0))
    for (name, question), value in best.items():
        ratio = best["ensconce", question] / value
        print(f"{name:10} {question:8} {value:8,.0f} requests/s   ensconce is {ratio:.2f} times")


if __name__ == "__main__":
    main()
