# SPDX-License-Identifier: Apache-2.0
"""`ensconce platform`: the emulated platform's identity."""

import contextlib
import logging
import os
import signal
from pathlib import Path

import click
from cryptography.hazmat.primitives import hashes

from ensconce.cli import LazyGroup
from ensconce.cli.output import emit, json_option
from ensconce.errors import ConfigError
from ensconce.machine import identity
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor
from ensconce.platform.quote_session import Quoting
from ensconce.platform.quoting import EmulatedPlatform
from ensconce.platform.service import Service, own_lock, take_socket
from ensconce.platform.wire import socket_path

__all__ = ["load_identity", "path_option", "platform"]

path_option = click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="The identity's file; $ENSCONCE_PLATFORM or the user's state folder otherwise.",
)
_MAX_EXPORT = 1 << 16


@click.group(
    cls=LazyGroup,
    lazy={
        "node": "ensconce.cli.platform_node:node",
        "target": "ensconce.cli.quoting:target",
        "quote": "ensconce.cli.quoting:quote",
        "collateral": "ensconce.cli.quoting:collateral",
        "pcs": "ensconce.cli.quoting:pcs",
    },
)
def platform() -> None:
    """Make, show and recover this user's emulated SGX platform; quote its enclaves.

    \b
    Example:
      ensconce platform init
      ensconce platform show --json
    """


@platform.command()
@path_option
@json_option
def init(path: Path | None, *, as_json: bool) -> None:
    """Make the platform's identity once; keep the one that is there.

    \b
    Example:
      ensconce platform init --path /srv/ensconce/platform
    """
    where = path or identity.default_path()
    existed = where.exists()
    emit(_public(where, identity.load_or_create(where)) | {"created": not existed}, as_json=as_json)


@platform.command()
@path_option
@json_option
def show(path: Path | None, *, as_json: bool) -> None:
    """Show the platform's public facts; its keys are never shown.

    \b
    Example:
      ensconce platform show
    """
    where = path or identity.default_path()
    emit(_public(where, load_identity(where)), as_json=as_json)


@platform.command()
@path_option
@click.option("--cpu-svn", metavar="HEX", help="The CPUSVN to go to, 16 bytes in hex.")
@json_option
def recover(path: Path | None, cpu_svn: str | None, *, as_json: bool) -> None:
    """Carry out a TCB recovery: raise CPUSVN; keys of earlier CPUSVNs stay derivable.

    \b
    Example:
      ensconce platform recover
    """
    where = path or identity.default_path()
    load_identity(where)
    emit(_public(where, identity.recover(where, _svn(cpu_svn))), as_json=as_json)


@platform.command(name="export")
@path_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def export_(path: Path | None, file: Path, *, as_json: bool) -> None:
    """Write the identity, SECRET KEYS INCLUDED, to a new file that only you can read.

    \b
    Example:
      ensconce platform export platform.json
    """
    found = load_identity(path or identity.default_path())
    identity.save(file, found)
    emit(_public(file, found) | {"holds_secrets": True}, as_json=as_json)


@platform.command(name="import")
@path_option
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace the identity; what it sealed is lost.")
@json_option
def import_(path: Path | None, file: Path, *, overwrite: bool, as_json: bool) -> None:
    """Take over an exported identity.

    \b
    Example:
      ensconce platform import platform.json
    """
    where = path or identity.default_path()
    with file.open("rb") as stream:
        found = Identity.parse(stream.read(_MAX_EXPORT), source=str(file))
    identity.save(where, found, overwrite=overwrite)
    emit(_public(where, found), as_json=as_json)


@platform.command()
@path_option
@click.option(
    "--socket",
    "socket_",
    type=click.Path(path_type=Path),
    help="Where to listen; $ENSCONCE_SERVICE or the user's runtime folder otherwise.",
)
@click.option(
    "--epc",
    type=click.IntRange(min=1),
    default=None,
    metavar="MIB",
    help="The EPC's size; by the machine's memory otherwise.",
)
@click.option(
    "--idle",
    type=click.FloatRange(min=0),
    default=None,
    help="End after so many seconds without a program; 60 in the background, else never.",
)
@click.option("--background", is_flag=True, help="Return once it listens; it goes on by itself.")
def serve(
    path: Path | None,
    socket_: Path | None,
    epc: int | None,
    idle: float | None,
    *,
    background: bool,
) -> None:
    """Be the emulated processor of this user's C and C++ programs.

    Programs that link ensconce's libsgx_urts start it by themselves.

    \b
    Example:
      ensconce platform serve --epc 128
    """
    found = identity.load_or_create(path)
    where = socket_ or socket_path()
    listener, lock = take_socket(where)
    if background and os.fork():
        os._exit(0)
    if background:
        os.setsid()
        os.chdir("/")
    else:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    own_lock(lock)
    idle = (60.0 if background else 0.0) if idle is None else idle
    size = None if epc is None else epc << 20
    quoting = Quoting(lambda: EmulatedPlatform.of(found).quoter)
    service = Service(Processor(found, epc_size=size), listener, quoting=quoting, idle=idle)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    try:
        service.run()
    finally:
        with contextlib.suppress(OSError):
            where.unlink()
        service.close()
        os.close(lock)
    os._exit(0)  # threads of clients that are still there may hold the interpreter up


def load_identity(path: Path) -> Identity:
    """Return the identity, or say how to make one."""
    try:
        return identity.load(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} holds no platform identity; `ensconce platform init` makes one"
        ) from None


def _svn(text: str | None) -> bytes | None:
    """Return a CPUSVN given in hex."""
    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError:
        raise ConfigError(
            f"--cpu-svn {text!r} is not hexadecimal; give {identity.CPU_SVN_BYTES * 2} digits"
        ) from None


def _public(path: Path, found: Identity) -> dict[str, object]:
    """Return what may be shown of an identity."""
    root = EmulatedPlatform.of(found).pcs.root
    return {
        "path": os.fspath(path),
        "platform_id": found.platform_id,
        "cpu_svn": found.cpu_svn,
        "root_ca_sha256": root.certificate().fingerprint(hashes.SHA256()),
        "emulated": True,
    }
