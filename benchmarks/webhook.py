# SPDX-License-Identifier: Apache-2.0
"""Admission reviews a second over TLS and their p99, beside a route that allows whatever it reads.

The bare route runs on the same server library. With ENSCONCE_PEER_WEBHOOK naming the binary of
Intel's webhook (cmd/sgx_admissionwebhook), that one is asked the same. Each server has one core to
itself and the client the other; 32 connections are kept open, as API servers do.
"""

import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

from ensconce.kube.webhook import Authority
from pccs import free_port, pinned

SECONDS, CONNECTIONS, ROUNDS = 3.0, 32, 3
MUTATE = "/mutate--v1-pod"  # Intel's path as well
COMMAND = [sys.executable, "-c", "from ensconce.cli import main; main()", "webhook", "serve"]
BARE = """
import json, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def allow(request):
    review = json.loads(await request.body())
    answer = {"uid": review["request"]["uid"], "allowed": True}
    whole = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
    return Response(json.dumps(whole), media_type="application/json")
routes = [Route("/mutate--v1-pod", allow, methods=["POST"])]
uvicorn.run(Starlette(routes=routes), port=int(sys.argv[1]),
    ssl_certfile=sys.argv[2], ssl_keyfile=sys.argv[3], access_log=False, log_level="error")
"""
NOWHERE = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "none",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "users": [{"name": "none", "user": {}}],
}


def example() -> bytes:
    """Return a review of a pod as a Deployment makes it, in its usual size."""
    env = [{"name": f"NAME_{n}", "value": "value"} for n in range(10)]
    epc, cpu = {"sgx.intel.com/epc": "64Mi"}, {"cpu": "1"}
    containers = [
        {"name": "app", "image": "app", "env": env, "resources": {"limits": epc, "requests": epc}},
        {"name": "proxy", "image": "proxy", "resources": {"limits": cpu, "requests": cpu}},
    ]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-5d9", "uid": "0" * 36}
    managed = [{"manager": "kubelet", "fieldsV1": {f"f:{n}": {} for n in range(40)}}]
    metadata = {
        "generateName": "app-5d9-",
        "annotations": {"sgx.intel.com/quote-provider": "aesmd"},
        "ownerReferences": [owner],
        "managedFields": managed,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    request = {
        "uid": "0" * 36,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop",
        "operation": "CREATE",
        "object": pod | {"spec": {"containers": containers}},
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(review).encode()


def command(folder: Path, port: int) -> list[str]:
    """Return how a webhook is run, whose CA and settings are in a folder."""
    words = ["--authority", f"{folder}/ca", "--policy", f"{folder}/webhook.toml"]
    words += ["--name", "localhost", "--name", "127.0.0.1", "--host", "127.0.0.1"]
    return [*COMMAND, *words, "--port", str(port)]


@contextmanager
def running(words: list[str], port: int, tls: ssl.SSLContext, **more: str) -> Iterator[None]:
    """Run a server until it answers, and end it."""
    process = subprocess.Popen(  # noqa: S603 # named here
        [*pinned(0), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | more,
    )
    try:
        for _ in range(300):
            try:
                httpx.get(f"https://127.0.0.1:{port}/", verify=tls)
                break
            except httpx.HTTPError:
                if process.poll() is not None:
                    raise SystemExit(f"{words[0]} ended with {process.returncode}") from None
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)


def load(port: int, body: bytes, tls: ssl.SSLContext) -> tuple[float, list[float]]:
    """Return requests a second and the latency of each, with all connections busy."""
    head = f"POST {MUTATE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    waited: list[float] = []
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(port, tls)) for _ in range(CONNECTIONS)]
        start = time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            sent = []
            for connection in connections:
                connection.sendall(request)
                sent.append(time.perf_counter())
            for connection, began in zip(connections, sent, strict=True):
                read_allowed(connection)
                waited.append(time.perf_counter() - began)
        return len(waited) / (time.perf_counter() - start), waited


def connected(port: int, tls: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection."""
    raw = socket.create_connection(("127.0.0.1", port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(raw, server_hostname="localhost")


def read_allowed(connection: ssl.SSLSocket) -> None:
    """Read one answer, which has to allow the pod."""
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    assert head.startswith(b"HTTP/1.1 200"), head[:80]
    assert b'"allowed":true' in body.replace(b" ", b""), body[:200]


def main() -> None:
    """Measure each server in turn, several times, and print the best with ratios."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        authority = Authority.make(datetime.now(UTC))
        authority.save(folder / "ca")
        (folder / "webhook.toml").write_text('epc = ["sgx.intel.com/epc"]')
        issued = authority.issue(["localhost", "127.0.0.1"], datetime.now(UTC))
        place = folder / "k8s-webhook-server" / "serving-certs"
        place.mkdir(parents=True)
        (place / "tls.crt").write_bytes(issued.chain)
        (place / "tls.key").write_bytes(issued.key)
        (folder / "config").write_text(json.dumps(NOWHERE))
        tls = ssl.create_default_context(cafile=folder / "ca" / "tls.crt")
        ports = {"ensconce": free_port(), "bare route": free_port()}
        commands = {
            "ensconce": command(folder, ports["ensconce"]),
            "bare route": [sys.executable, "-c", BARE, str(ports["bare route"]),
                           str(place / "tls.crt"), str(place / "tls.key")],
        }  # fmt: skip
        if peer := os.environ.get("ENSCONCE_PEER_WEBHOOK"):
            ports["intel"], commands["intel"] = 9443, [peer]
        more = {"TMPDIR": str(folder), "KUBECONFIG": str(folder / "config")}
        for each, words in commands.items():
            stack.enter_context(running(words, ports[each], tls, **more))
        if pinned(1):
            os.sched_setaffinity(0, {1})
        report(ports, tls)


def report(ports: dict[str, int], tls: ssl.SSLContext) -> None:
    """Measure and print."""
    body = example()
    best: dict[str, float] = dict.fromkeys(ports, 0.0)
    p99: dict[str, float] = dict.fromkeys(ports, 1e9)
    for _ in range(ROUNDS):
        for each, port in ports.items():
            rate, waited = load(port, body, tls)
            best[each] = max(best[each], rate)
            p99[each] = min(p99[each], statistics.quantiles(waited, n=100)[98])
    print(f"{len(body)} bytes a review, {CONNECTIONS} connections")
    for each, rate in best.items():
        ratio = best["ensconce"] / rate
        print(
            f"{each:10} {rate:8,.0f} reviews/s   p99 {p99[each] * 1e3:6.1f} ms"
            f"   ensconce is {ratio:.2f} times"
        )


if __name__ == "__main__":
    main()
