# SPDX-License-Identifier: Apache-2.0
"""`ensconce aesm`: serve quotes by the AESM protocol, forward to another service, check one."""

import asyncio
import importlib.util
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensconce.cli.logs import log_json
from ensconce.cli.output import emit, json_option
from ensconce.enclave.device import chosen_backend
from ensconce.errors import ConfigError

if TYPE_CHECKING:
    from ensconce.aesm.daemon import Daemon
    from ensconce.aesm.journal import Journal
    from ensconce.aesm.limits import Limits
    from ensconce.aesm.responder import Responder

__all__ = ["aesm"]

_NODES = ("google.protobuf", "prometheus_client")
_SPARE_FILES = 64

_socket = click.option(
    "--socket",
    "socket_",
    type=click.Path(path_type=Path),
    default=Path("/var/run/aesmd/aesm.socket"),
    show_default=True,
    help="The service's socket.",
)
_backend = click.option(
    "--backend",
    type=click.Choice(["auto", "hardware", "emulated"]),
    default="auto",
    show_default=True,
    help="Who quotes: the vendor's library or the emulated platform.",
)
_path = click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="The emulated platform's identity; $ENSCONCE_PLATFORM or the user's state folder else.",
)
_metrics = click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Serve Prometheus metrics over HTTP there, such as 127.0.0.1:9464.",
)


@click.group()
def aesm() -> None:
    """Serve quotes to enclaves' hosts by the AESM protocol.

    \b
    Example:
      ensconce aesm serve --socket /var/run/aesmd/aesm.socket
      ensconce aesm health --json
    """
    for name in _NODES:
        if importlib.util.find_spec(name.split(".")[0]) is None:
            raise ConfigError(f"`ensconce aesm` needs {name}: pip install 'ensconce[aesm]'")


@aesm.command()
@_socket
@_backend
@_path
@click.option(
    "--library",
    default="libsgx_dcap_ql.so.1",
    show_default=True,
    help="The vendor's quoting library, for the hardware.",
)
@_metrics
def serve(
    socket_: Path, backend: str, path: Path | None, library: str, metrics: str | None
) -> None:
    """Serve quotes until SIGTERM; takes a socket of its supervisor's (LISTEN_FDS) if there is one.

    Logs JSON lines on standard error.

    \b
    Example:
      ensconce aesm serve --backend emulated --metrics 127.0.0.1:9464
    """
    from ensconce.aesm.emulated import EmulatedBackend
    from ensconce.aesm.hardware import HardwareBackend
    from ensconce.aesm.responder import BackendResponder

    def responder(limits: "Limits") -> "Responder":
        if _chosen(backend) == "hardware":
            return BackendResponder(HardwareBackend(library), limits)
        return BackendResponder(EmulatedBackend(path), limits)

    _run(socket_, responder, metrics)


@aesm.command()
@_socket
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path),
    required=True,
    help="The socket of the service to forward to.",
)
@_metrics
def proxy(socket_: Path, target: Path, metrics: str | None) -> None:
    """Stand before another AESM service, such as the vendor's, and keep slow clients from it.

    \b
    Example:
      ensconce aesm proxy --to /run/host-aesmd/aesm.socket --socket /var/run/aesmd/aesm.socket
    """
    from ensconce.aesm.responder import ProxyResponder

    if target.resolve() == socket_.resolve():
        raise ConfigError(f"--to and --socket are both {target}; a proxy takes two sockets")
    _run(socket_, lambda limits: ProxyResponder(target, limits), metrics)


@aesm.command()
@_socket
@_backend
@_path
@click.option("--timeout", type=click.FloatRange(min=0.1), default=10.0, show_default=True)
@json_option
def health(
    socket_: Path, backend: str, path: Path | None, timeout: float, *, as_json: bool
) -> None:
    """Have a small enclave quoted by the service, and check the quote; exit 0 if all is well.

    \b
    Example:
      ensconce aesm health --json
    """
    from ensconce.aesm.client import Client
    from ensconce.aesm.health import check_health
    from ensconce.enclave import Device, KernelDevice
    from ensconce.machine import identity
    from ensconce.machine.driver import DriverModel
    from ensconce.machine.processor import Processor

    device: Device
    if _chosen(backend) == "hardware":
        device = KernelDevice()
    else:
        found = identity.load_or_create(path)
        device = DriverModel(Processor(found, epc_size=1 << 20))
    client = Client(socket_, timeout=timeout, patience=min(timeout, 5.0))
    result = check_health(client, device)
    facts = {"socket": socket_, "healthy": True, **asdict(result), "retries": client.retries}
    emit(facts, as_json=as_json)


def _chosen(backend: str) -> str:
    """Return the backend asked for, or the one that this machine has."""
    return chosen_backend("" if backend == "auto" else backend)


def _run(path: Path, responder: "Callable[[Limits], Responder]", metrics: str | None) -> None:
    """Take the socket and serve it until a signal comes."""
    from ensconce.aesm.daemon import Daemon
    from ensconce.aesm.endpoint import adopt_socket, take_socket
    from ensconce.aesm.journal import Journal

    log_json()
    limits, journal = _limits(), Journal()
    endpoint = adopt_socket(os.environ)
    ready = responder(limits) if endpoint else None
    endpoint = endpoint or take_socket(path)
    try:
        daemon = Daemon(endpoint, ready or responder(limits), limits=limits, journal=journal)
        if metrics:
            _serve_metrics(metrics, journal)
        asyncio.run(_until_signal(daemon))
    finally:
        endpoint.withdraw()
        endpoint.close()
    sys.stderr.flush()
    os._exit(0)  # a quoting library that hangs may hold the interpreter up


async def _until_signal(daemon: "Daemon") -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await daemon.run(stop)


def _limits() -> "Limits":
    """Return the service's limits, with as many connections as it may have files."""
    from ensconce.aesm.limits import Limits

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = Limits().connections + _SPARE_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    connections = max(1, min(Limits().connections, max(soft, most) - _SPARE_FILES))
    return Limits(connections=connections)


def _serve_metrics(address: str, journal: "Journal") -> None:
    """Serve the metrics over HTTP."""
    from prometheus_client import start_http_server

    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise ConfigError(f"--metrics {address!r} is no HOST:PORT; give one such as 127.0.0.1:9464")
    try:
        start_http_server(int(port), addr=host.strip("[]"), registry=journal.metrics.registry)
    except OSError as error:
        raise ConfigError(f"--metrics {address} can't be served: {error.strerror}") from error
