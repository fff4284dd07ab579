# SPDX-License-Identifier: Apache-2.0
"""`ensconce node-agent`: be a node's agent, prepare a node, say how it stands, clean up."""

import asyncio
import contextlib
import gc
import logging
import os
import platform
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensconce.cli.device_plugin import settings_options
from ensconce.cli.logs import log_json
from ensconce.cli.output import emit, json_option
from ensconce.kube.names import AESM_SOCKET, HOST_LIBRARIES, PLATFORM_FOLDER

if TYPE_CHECKING:
    from ensconce.kube.agent.agent import NodeAgent

__all__ = ["node_agent"]

_THREADS = 2  # for files and the platform's socket, neither of which waits for long

_node = click.option(
    "--node",
    envvar="NODE_NAME",
    metavar="NAME",
    default=lambda: platform.node().lower(),
    help="The node's name in the cluster; $NODE_NAME, else the host's.",
)
_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(PLATFORM_FOLDER),
    show_default=True,
    help="The emulated platform's folder.",
)
_aesm = click.option(
    "--aesm-socket",
    "aesm",
    type=click.Path(path_type=Path),
    default=Path(AESM_SOCKET),
    show_default=True,
    help="AESM's socket.",
)


@click.group()
def node_agent() -> None:
    """Look after one node of a cluster: its EPC, what its object says, its emulated platform.

    \b
    Example:
      ensconce node-agent init --dry-run
      ensconce node-agent run --node worker-1
    """


@node_agent.command()
@_node
@_folder
@_aesm
@click.option(
    "--libraries",
    type=click.Path(path_type=Path),
    default=Path(HOST_LIBRARIES),
    show_default=True,
    help="The host libraries that containers of an emulated node get.",
)
@click.option("--no-cluster", is_flag=True, help="Leave the node's object alone.")
@click.option("--host-folder", type=click.Path(path_type=Path), hidden=True)
@click.option("--library-folder", type=click.Path(path_type=Path), hidden=True)
@settings_options
def run(
    node: str,
    folder: Path,
    aesm: Path,
    libraries: Path,
    config: Path | None,
    *,
    no_cluster: bool,
    host_folder: Path | None,
    library_folder: Path | None,
    **flags: Any,
) -> None:
    """Be a node's agent until SIGTERM; the device plugin is in it, with its settings.

    Logs JSON lines on standard error.

    \b
    Example:
      ensconce node-agent run --node worker-1 --emulated-mib 128 --listen 127.0.0.1:9465
    """
    from ensconce.kube.agent.agent import NodeAgent, Settings
    from ensconce.kube.agent.cluster import Cluster
    from ensconce.kube.agent.grants import LIBRARY_FOLDER
    from ensconce.kube.deviceplugin import load_config

    chosen = load_config(config, os.environ, flags)
    settings = Settings(
        node=node,
        folder=folder,
        host_folder=host_folder or Path(PLATFORM_FOLDER),
        libraries=libraries,
        library_folder=library_folder or Path(LIBRARY_FOLDER),
        aesm_socket=aesm,
    )
    log_json()
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every request
    agent = NodeAgent(settings, chosen, None if no_cluster else Cluster(node))
    asyncio.run(_until_signal(agent))


@node_agent.command()
@click.option("--root", type=click.Path(path_type=Path), default=Path("/"), show_default=True)
@click.option("--pccs", default="", metavar="URL", help="The PCCS that quote providers ask.")
@click.option("--own-certificate", is_flag=True, help="Its certificate is from no authority.")
@click.option("--region", default="", metavar="ID", help="Alibaba Cloud's: its PCCS, its packages.")
@click.option("--vpc", is_flag=True, help="The node reaches these in its VPC only.")
@click.option("--no-packages", is_flag=True, help="Install no packages.")
@click.option("--sdk", is_flag=True, help="Install the TEE SDK (Alibaba Cloud Linux).")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@json_option
def init(root: Path, *, no_packages: bool, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Prepare a node: check the driver; install packages, udev rules and the QCNL file.

    Run again, it does what is left to do. A node without SGX is left as it is.

    \b
    Example:
      ensconce node-agent init --dry-run
      ensconce node-agent init --region cn-hongkong --vpc
    """
    from ensconce import _core
    from ensconce.kube.agent.init import Choice, apply, chroot_runner, plan

    runner = chroot_runner(root)
    made = plan(root, Choice(packages=not no_packages, **flags), runner, _core.cpuid)
    if not dry_run:
        apply(made, root, runner, lambda text: click.echo(text, err=True))
    emit(asdict(made) | {"dry_run": dry_run}, as_json=as_json)


@node_agent.command()
@_node
def clean(node: str) -> None:
    """Remove from the node's object what agents wrote: conditions, labels, taint, capacity.

    \b
    Example:
      ensconce node-agent clean --node worker-1
    """
    from ensconce.kube.agent.cluster import Cluster

    asyncio.run(Cluster(node).clean())


@node_agent.command()
@_folder
@_aesm
@settings_options
@json_option
def status(folder: Path, aesm: Path, config: Path | None, *, as_json: bool, **flags: Any) -> None:
    """Say what this node has, how its emulated platform stands, and whether AESM answers.

    \b
    Example:
      ensconce node-agent status --json
    """
    from ensconce.kube.agent.status import node_status
    from ensconce.kube.deviceplugin import load_config

    emit(node_status(load_config(config, os.environ, flags), folder, aesm), as_json=as_json)


@node_agent.command(hidden=True)
@_aesm
@json_option
def probe(aesm: Path, *, as_json: bool) -> None:
    """Say whether AESM makes quotes.

    \b
    Example:
      ensconce node-agent probe --json
    """
    from ensconce.kube.agent.probe import probe_aesm

    emit(asdict(probe_aesm(aesm)), as_json=as_json)


async def _until_signal(agent: "NodeAgent") -> None:
    """Run until SIGTERM or SIGINT, in little memory."""
    # what is loaded by now stays: without it, garbage is looked for often and found soon
    gc.collect()
    gc.freeze()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    task = asyncio.ensure_future(agent.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
