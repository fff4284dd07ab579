# SPDX-License-Identifier: Apache-2.0
"""`ensconce platform node`: the emulated processor of a cluster's node."""

import logging
import os
import signal
import sys
from pathlib import Path

import click

from ensconce.cli.platform import path_option
from ensconce.machine import identity
from ensconce.machine.processor import default_epc_size
from ensconce.platform.allocations import Allocations
from ensconce.platform.node import NodePlatform
from ensconce.platform.quoting import EmulatedPlatform

__all__ = ["node"]


@click.command()
@path_option
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("/run/ensconce"),
    show_default=True,
    help="Where the containers' sockets and the device plugin's records are.",
)
@click.option(
    "--epc",
    type=click.IntRange(min=1),
    default=None,
    metavar="MIB",
    help="The node's EPC; by the machine's memory otherwise.",
)
def node(path: Path | None, folder: Path, epc: int | None) -> None:
    """Be the emulated processor of all containers on a node that were given EPC.

    Runs as root. Each allocation has its own socket, process and EPC limit.

    \b
    Example:
      ensconce platform node --path /var/lib/ensconce/platform --epc 128
    """
    where = path or identity.default_path()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    size = default_epc_size() if epc is None else epc << 20
    quoter = EmulatedPlatform.load(where).quoter
    found = identity.load(where)
    platform = NodePlatform(found, Allocations(folder), epc=size, quoter=quoter)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: platform.stop())
    platform.run()
    os._exit(0)
