# SPDX-License-Identifier: Apache-2.0
"""A cluster of 5,000 nodes against one webhook and one PCCS, each on a core, over loopback.

Every node is a platform of its own that asks the PCCS what the vendor's quoting library and a
verifier ask for, over a connection of its own, and has a pod created, over one of the API server's
32 connections. Beside them, the same is asked of a bare route with answers of the same size: it
shows what connections, TLS and HTTP cost there. NODES changes how many nodes there are.
"""

import asyncio
import json
import os
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import webhook
from cryptography.hazmat.primitives.serialization import Encoding

from ensconce.dcap.roots import Root
from ensconce.kube.webhook import Authority
from ensconce.machine.identity import Identity
from ensconce.pccs import Mode, Service, Store, read_bundle
from ensconce.platform.quoting import EmulatedPlatform
from pccs import SGX, free_port, make_certificate, ours, pinned, vendors_file

NODES = int(os.environ.get("NODES", "5000"))
AT_ONCE, CONNECTIONS = 64, 32
BARE = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def some(request):
    await request.body()
    return Response(b"x" * int(request.headers["size"]))
uvicorn.run(Starlette(routes=[Route("/{path:path}", some, methods=["GET", "POST"])]),
    port=int(sys.argv[1]), ssl_certfile=sys.argv[2], ssl_keyfile=sys.argv[3], access_log=False,
    log_level="error")
"""


@dataclass
class Measured:
    """What was asked of a server: the latencies in seconds, and the time that all took."""

    waited: list[float] = field(default_factory=list)
    seconds: float = 0.0
    size: int = 0  # of the largest answer

    def line(self, name: str) -> str:
        """Return it as a line."""
        hundredths = statistics.quantiles(self.waited, n=100)
        rate = len(self.waited) / self.seconds
        half, most = (hundredths[each] * 1e3 for each in (49, 98))
        times = f"p50 {half:5.1f}   p99 {most:6.1f}   max {max(self.waited) * 1e3:6.1f} ms"
        return f"{name:22} {len(self.waited):6} requests {rate:7,.0f}/s   {times}"


class Connection:
    """A connection over TLS that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext) -> "Connection":
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))

    async def ask(self, line: str, body: bytes, size: int) -> int:
        """Ask and return the answer's size; `size` is what a bare route answers with."""
        head = f"{line} HTTP/1.1\r\nHost: localhost\r\nSize: {size}\r\nContent-Length: {len(body)}"
        self._writer.write(f"{head}\r\n\r\n".encode() + body)
        got = await self._reader.readuntil(b"\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200"), got[:200]
        length = int(got.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        return length

    async def close(self) -> None:
        """Close it."""
        self._writer.close()


async def quoting(
    port: int, tls: ssl.SSLContext, paths: Callable[[int], list[str]], size: int
) -> Measured:
    """Have every node ask a PCCS, so many nodes at once."""
    found = Measured()

    async def node(number: int) -> None:
        start = time.perf_counter()
        connection = await Connection.open(port, tls)
        for path in paths(number):
            found.size = max(found.size, await connection.ask(f"GET {path}", b"", size))
            now = time.perf_counter()
            found.waited.append(now - start)  # the first one's with its connection
            start = now
        await connection.close()

    await _by_workers(found, AT_ONCE, (lambda number=n: node(number) for n in range(NODES)))
    return found


async def creating(port: int, tls: ssl.SSLContext, body: bytes, size: int) -> Measured:
    """Have an API server ask a webhook about a pod for every node."""
    found = Measured()
    free = [await Connection.open(port, tls) for _ in range(CONNECTIONS)]

    async def pod() -> None:
        connection = free.pop()
        start = time.perf_counter()
        got = await connection.ask(f"POST {webhook.MUTATE}", body, size)
        found.waited.append(time.perf_counter() - start)
        found.size = max(found.size, got)
        free.append(connection)

    await _by_workers(found, CONNECTIONS, (pod for _ in range(NODES)))
    for connection in free:
        await connection.close()
    return found


async def _by_workers(
    found: Measured, workers: int, tasks: Iterable[Callable[[], Awaitable[None]]]
) -> None:
    """Do all tasks, so many at once, and take the time."""
    waiting = iter(tasks)

    async def work() -> None:
        for task in waiting:
            await task()

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    found.seconds = time.perf_counter() - start


def qe_id(number: int) -> str:
    """Return the identifier of a node's quoting enclave."""
    return f"{number:032X}"


async def register(folder: Path, found: EmulatedPlatform) -> None:
    """Fill a PCCS's database with collateral, and the certificate of every node."""
    one = vendors_file(found, found.pcs.collateral(datetime.now(UTC)))
    bundle = read_bundle(json.dumps(one).encode())
    root = Root.parse((folder / "root.der").read_bytes())
    store = Store.open(f"sqlite:///{folder}/ours.db")
    service = Service(store, root, Mode.OFFLINE, None)
    (known,) = bundle.platforms
    nodes = [
        replace(known, platform=replace(known.platform, qe_id=qe_id(number)))
        for number in range(NODES)
    ]
    await service.keep(bundle.items, nodes)
    store.close()


async def measure(
    ports: dict[str, int], trusted: dict[str, ssl.SSLContext], paths: Callable[[int], list[str]]
) -> None:
    """Measure and print."""
    body, bare = webhook.example(), (ports["bare"], trusted["bare"])
    pods = await creating(ports["webhook"], trusted["webhook"], body, 0)
    bare_pods = await creating(*bare, body, pods.size)
    quotes = await quoting(ports["pccs"], trusted["pccs"], paths, 0)
    bare_quotes = await quoting(*bare, paths, quotes.size)
    for name, ours_, theirs in (("webhook", pods, bare_pods), ("PCCS", quotes, bare_quotes)):
        print(ours_.line(name))
        print(theirs.line(f"  bare route of {ours_.size}"))
        print(f"  {name} took {ours_.seconds / theirs.seconds:.2f} times as long")


def main() -> None:
    """Start the servers and measure."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        tls = make_certificate(folder)
        found = EmulatedPlatform.of(Identity.generate())
        root = found.pcs.root.certificate().public_bytes(Encoding.DER)
        (folder / "root.der").write_bytes(root)
        print(f"registering {NODES} platforms …", flush=True)
        asyncio.run(register(folder, found))
        authority = Authority.make(datetime.now(UTC))
        authority.save(folder / "ca")
        (folder / "webhook.toml").write_text('epc = ["sgx.intel.com/epc"]')
        trusted = {"pccs": tls, "bare": tls}
        trusted["webhook"] = ssl.create_default_context(cafile=folder / "ca" / "tls.crt")
        ports = {each: free_port() for each in ("webhook", "pccs", "bare")}
        command, options = ours(folder, ports["pccs"])
        given = [str(ports["bare"]), f"{folder}/cert.pem", f"{folder}/key.pem"]
        commands = {
            "webhook": webhook.command(folder, ports["webhook"]),
            "pccs": command,
            "bare": [sys.executable, "-c", BARE, *given],
        }
        for each, words in commands.items():
            more = dict(options["env"]) if each == "pccs" else {}
            stack.enter_context(webhook.running(words, ports[each], trusted[each], **more))
        if pinned(1):
            os.sched_setaffinity(0, {1})
        svn, fmspc = found.identity.cpu_svn.hex(), found.pcs.fmspc.hex()

        def paths(number: int) -> list[str]:
            asked = f"qeid={qe_id(number)}&cpusvn={svn}&pcesvn=0d00&pceid=0000"
            fixed = ["/qe/identity", "/pckcrl?ca=platform", "/rootcacrl"]
            return [f"{SGX}/pckcert?{asked}", f"{SGX}/tcb?fmspc={fmspc}", *(SGX + p for p in fixed)]

        asyncio.run(measure(ports, trusted, paths))


if __name__ == "__main__":
    main()
