# SPDX-License-Identifier: Apache-2.0
"""AESM requests of 64 clients at once, beside a unix-socket echo with the same clients and loop.

The echo reads a frame and sends one back of the answer's size: what is left is the service's own.
Service and clients are processes of their own. `python benchmarks/aesm.py [clients]`.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

from ensconce.aesm.daemon import Daemon
from ensconce.aesm.emulated import EmulatedBackend
from ensconce.aesm.endpoint import take_socket
from ensconce.aesm.responder import BackendResponder
from ensconce.aesm.wire import LENGTH, code_of, frame, parse_request, request
from ensconce.isa.report import Report
from ensconce.machine import identity
from ensconce.machine.driver import DriverModel
from ensconce.machine.processor import Processor
from ensconce.platform.roles import QE_TARGET
from ensconce.platform.witness import Witness

SECONDS = 4.0
WARM = 0.5


def serve(path: Path, platform: Path, ready: Event) -> None:
    """Be the service."""

    async def run() -> None:
        daemon = Daemon(take_socket(path), BackendResponder(EmulatedBackend(platform)))
        await daemon.run(asyncio.Event(), ready=ready.set)

    asyncio.run(run())


def echo(path: Path, size: int, ready: Event) -> None:
    """Be the peer: no protocol, no limits, no log."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = LENGTH.unpack(await reader.readexactly(4))
        await reader.readexactly(length)
        writer.write(frame(bytes(size)))
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(answer, path, backlog=1024)
        ready.set()
        await server.serve_forever()

    asyncio.run(run())


async def ask(path: Path, data: bytes) -> bytes:
    """Carry out one request on a connection of its own, as the protocol has it."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    (length,) = LENGTH.unpack(await reader.readexactly(4))
    answer = await reader.readexactly(length)
    writer.transport.abort()
    return answer


async def load(path: Path, data: bytes, clients: int) -> list[float]:
    """Let clients ask again and again; return the times in ms, without the first ones."""
    times: list[float] = []
    begin = time.perf_counter()

    async def client() -> None:
        while (start := time.perf_counter()) - begin < SECONDS:
            await ask(path, data)
            if start - begin > WARM:
                times.append((time.perf_counter() - start) * 1000)

    await asyncio.gather(*(client() for _ in range(clients)))
    return times


def percentiles(times: list[float]) -> tuple[float, float]:
    """Return p50 and p99."""
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


def measured(
    target: Callable[..., None],
    arguments: tuple[object, ...],
    path: Path,
    data: bytes,
    clients: int,
) -> tuple[float, float, float]:
    """Run a service in its process; return p50, p99 in ms and requests per second."""
    context = get_context("spawn")
    ready = context.Event()
    process = context.Process(target=target, args=(path, *arguments, ready))
    process.start()
    try:
        assert ready.wait(60)
        times = asyncio.run(load(path, data, clients))
    finally:
        process.terminate()
        process.join()
    return *percentiles(times), len(times) / (SECONDS - WARM)


def real_report(platform: Path) -> Report:
    """Return an enclave's REPORT for the quoting role."""
    found = identity.load_or_create(platform)
    witness = Witness(DriverModel(Processor(found, epc_size=1 << 20)))
    try:
        return witness.report(QE_TARGET, bytes(64))
    finally:
        witness.close()


def main(clients: int) -> None:
    """Measure each kind of request beside the echo."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        platform = folder / "platform"
        report = real_report(platform)
        backend = EmulatedBackend(platform)
        key, size = bytes(backend.key_ids()[0]), backend.quote_size()
        rows = [
            request("select_att_key_id"),
            request("init_quote_ex", att_key_id=key, b_pub_key_id=True, buf_size=32),
            request("get_quote_ex", att_key_id=key, report=bytes(report), buf_size=size),
        ]
        print(
            f"{clients} clients at once, {os.cpu_count()} cores shared with them; p50 and p99 in ms"
        )
        for row in rows:
            kind, data = parse_request(row).kind, frame(row)
            answer = asyncio.run(_one(serve, (platform,), folder / "one", data))
            assert code_of(answer, kind) == 0
            peer = measured(echo, (len(answer),), folder / "echo", data, clients)
            own = measured(serve, (platform,), folder / "own", data, clients)
            print(
                f"{kind.name:20} echo {peer[0]:7.2f} {peer[1]:7.2f} {peer[2]:7.0f}/s   "
                f"AESM {own[0]:7.2f} {own[1]:7.2f} {own[2]:7.0f}/s   "
                f"{own[0] / peer[0]:5.2f} x p50, {own[1] / peer[1]:5.2f} x p99"
            )


async def _one(
    target: Callable[..., None], arguments: tuple[object, ...], path: Path, data: bytes
) -> bytes:
    """Ask once, to see that it is answered well."""
    context = get_context("spawn")
    ready = context.Event()
    process = context.Process(target=target, args=(path, *arguments, ready))
    process.start()
    try:
        assert ready.wait(60)
        return await ask(path, data)
    finally:
        process.terminate()
        process.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
