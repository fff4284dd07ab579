# SPDX-License-Identifier: Apache-2.0
"""`ensconce up`, `down` and what they start: one machine's services."""

import importlib.util
import logging
import os

import click

from ensconce.cli.logs import log_json
from ensconce.cli.output import emit, json_option, show_progress
from ensconce.errors import ConfigError

__all__ = ["check_extras", "down", "service", "up"]

_NEEDS = {"grpc": "grpcio", "google": "protobuf", "yaml": "pyyaml", "starlette": "starlette"}


def check_extras() -> None:
    """Say which package is missing. Raises ConfigError."""
    for module, name in _NEEDS.items():
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"this needs {name}: pip install 'ensconce[kube,aesm,server,sdk]'")


@click.command()
@click.option("--epc", type=click.IntRange(1, 65536), metavar="MIB", help="The emulated EPC.")
@click.option("--pccs-port", type=click.IntRange(1, 65535), default=8081, show_default=True)
@click.option("--pcs-port", type=click.IntRange(1, 65535), default=8082, show_default=True)
@json_option
def up(epc: int | None, pccs_port: int, pcs_port: int, *, as_json: bool) -> None:
    """Start this machine's platform, AESM, PCCS and EPC accounting, or adopt what runs of them.

    \b
    Example:
      ensconce up --epc 256
      ensconce run examples/01-hello-world/pod.yaml
    """
    check_extras()
    from ensconce.node import services
    from ensconce.node.machine import choose_engine
    from ensconce.node.places import Places

    show_progress("ensconce.sdk")
    places = Places.find(os.environ)
    chosen = services.Settings(
        epc_mib=epc or services.default_epc_mib(),
        pccs_port=pccs_port,
        pcs_port=pcs_port,
        engine="podman",
    )
    places.prepare()
    engine = choose_engine(chosen.engine, places, os.environ)
    services.up(places, chosen)
    emit({**services.standing(places), "isolation": engine.isolation()}, as_json=as_json)


@click.command()
@json_option
def down(*, as_json: bool) -> None:
    """End all containers and services; workloads run on with the next `ensconce up`.

    \b
    Example:
      ensconce down
    """
    check_extras()
    from ensconce.node import services
    from ensconce.node.places import Places

    emit({"was_up": services.down(Places.find(os.environ))}, as_json=as_json)


@click.group(hidden=True)
def service() -> None:
    """Be one of the services that `ensconce up` starts.

    \b
    Example:
      ensconce node-service supervise
    """
    log_json()
    logging.getLogger("grpc").setLevel(logging.WARNING)


@service.command()
def supervise() -> None:
    """Keep the services running.

    \b
    Example:
      ensconce node-service supervise
    """
    from ensconce.node import services
    from ensconce.node.keeper import KEEPER
    from ensconce.node.places import Places
    from ensconce.node.supervisor import Supervisor

    places = Places.find(os.environ)
    wanted = services.services(places, services.Settings.load(places))
    Supervisor(places, wanted, keeper=KEEPER).run()


@service.command()
def keep() -> None:
    """Keep the workloads running.

    \b
    Example:
      ensconce node-service keep
    """
    from ensconce.node.keeper import run_keeper
    from ensconce.node.machine import choose_engine
    from ensconce.node.places import Places
    from ensconce.node.services import Settings

    places = Places.find(os.environ)
    run_keeper(places, choose_engine(Settings.load(places).engine, places, os.environ))
