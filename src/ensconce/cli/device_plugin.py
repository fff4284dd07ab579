# SPDX-License-Identifier: Apache-2.0
"""`ensconce device-plugin`: offer a node's EPC to the kubelet, or say what would be offered."""

import asyncio
import contextlib
import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensconce.cli.logs import log_json
from ensconce.cli.output import emit, json_option
from ensconce.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ensconce.kube.deviceplugin.config import Config

__all__ = ["device_plugin", "settings_options"]

_NEEDS = {"grpc": "grpcio", "google": "protobuf", "prometheus_client": "prometheus-client"}


def settings_options(command: "Callable[..., Any]") -> "Callable[..., Any]":
    """Give a command the options that are settings; those with one hyphen are Intel's."""
    for option in reversed(
        (
            click.option("--config", type=click.Path(path_type=Path), help="Settings, in TOML."),
            click.option("--epc", metavar="NAME[=PERCENT],…", help="Names to offer EPC under."),
            click.option("--platform", metavar="KIND", help="auto, sgx, emulated or none."),
            click.option("--emulated-mib", type=int, help="An emulated platform's EPC."),
            click.option("--emulated-numa-nodes", type=int, help="How many nodes it lies on."),
            click.option("--enclave-limit", "-enclave-limit", type=int, help="Enclave devices."),
            click.option(
                "--provision-limit", "-provision-limit", type=int, help="Provisioning devices."
            ),
            click.option(
                "--provision-pods", metavar="NAMESPACE[/ACCOUNT],…", help="Who may have these."
            ),
            click.option(
                "--provision-with-epc",
                is_flag=True,
                default=None,
                help="Give the provisioning device to every container with EPC.",
            ),
            click.option(
                "--enable-aesm-socket-attach",
                "aesm_socket",
                is_flag=True,
                default=None,
                help="Mount AESM's folder into every container with EPC.",
            ),
            click.option("--max-devices", type=int, help="Most devices under one name."),
            click.option("--root", type=click.Path(path_type=Path), hidden=True),
            click.option(
                "--plugin-folder", type=click.Path(path_type=Path), help="The kubelet's folder."
            ),
            click.option(
                "--pod-resources", type=click.Path(path_type=Path), help="The kubelet's socket."
            ),
            click.option(
                "--listen", metavar="HOST:PORT", help="Serve /metrics and /healthz there."
            ),
            # the vendors' manifests may have these
            click.option("-v", "verbosity", hidden=True, expose_value=False),
            click.option("-dcap-infra-resources", is_flag=True, hidden=True, expose_value=False),
        )
    ):
        command = option(command)
    return command


@click.group()
def device_plugin() -> None:
    """Offer enclave memory (EPC) to a cluster's pods, from SGX or from an emulated platform.

    \b
    Example:
      ensconce device-plugin inventory --json
      ensconce device-plugin serve --listen 127.0.0.1:9465
    """
    for module, name in _NEEDS.items():
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"`ensconce device-plugin` needs {name}: pip install 'ensconce[kube]'"
            )


@device_plugin.command()
@settings_options
def serve(config: Path | None, **flags: Any) -> None:
    """Serve the kubelet until SIGTERM; on a node without SGX stay, and say why.

    Logs JSON lines on standard error. Takes the flags of Alibaba's and of Intel's plugin.

    \b
    Example:
      ensconce device-plugin serve --enable-aesm-socket-attach
      ensconce device-plugin serve --epc sgx.intel.com/epc -enclave-limit 20 -provision-limit 1
    """
    settings = _load(config, flags)
    log_json()
    asyncio.run(_until_signal(settings))


@device_plugin.command()
@settings_options
@json_option
def inventory(config: Path | None, *, as_json: bool, **flags: Any) -> None:
    """Say what EPC this node has, and what would be offered under which name.

    \b
    Example:
      ensconce device-plugin inventory --emulated-mib 1024 --json
    """
    from ensconce.kube.deviceplugin import discover_here
    from ensconce.kube.deviceplugin.report import report

    settings = _load(config, flags)
    emit(report(settings, discover_here(settings)), as_json=as_json)


def _load(path: Path | None, flags: dict[str, Any]) -> "Config":
    """Return the settings."""
    from ensconce.kube.deviceplugin import load_config

    return load_config(path, os.environ, flags)


async def _until_signal(config: "Config") -> None:
    """Serve until SIGTERM or SIGINT."""
    from ensconce.kube.deviceplugin import DevicePlugins, discover_here
    from ensconce.kube.deviceplugin.web import serve_http

    plugins = DevicePlugins(config, lambda: discover_here(config))
    if config.listen:
        serve_http(config.listen, plugins)
    task = asyncio.ensure_future(plugins.run())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
