# SPDX-License-Identifier: Apache-2.0
"""The commands of `ensconce webhook`."""

import asyncio
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import yaml

from ensconce.cli.logs import log_json
from ensconce.cli.output import emit, json_option
from ensconce.errors import ConfigError
from ensconce.kube.names import NAMESPACE
from ensconce.kube.webhook import SERVICE, Authority, Refusal, Where, configurations
from ensconce.kube.webhook import mutate as mutate_pod
from ensconce.kube.webhook.server import Settings
from ensconce.kube.webhook.server import serve as run_server

__all__ = ["authority", "manifest", "mutate", "serve"]

_folder = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False, exists=True)
_policy = click.option("--policy", type=_file, help="What pods may have (TOML).")


@click.command()
@click.option("--authority", type=_folder, required=True, help="Folder of the CA.")
@_policy
@click.option("--name", "names", multiple=True, help="Name in the certificate; may be repeated.")
@click.option("--namespace", default=NAMESPACE, show_default=True, help="Where its service is.")
@click.option("--host", default="0.0.0.0", show_default=True)  # noqa: S104 # over TLS
@click.option("--port", default=8443, show_default=True, type=click.IntRange(0, 65535))
@click.option(
    "--drain",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, 600),
    help="Seconds to serve on after the signal to stop.",
)
@json_option
def serve(
    authority: Path,
    *,
    policy: Path | None,
    names: tuple[str, ...],
    namespace: str,
    host: str,
    port: int,
    drain: float,
    as_json: bool,
) -> None:
    """Serve admission reviews until stopped. It needs no access to the cluster.

    \b
    Example:
      ensconce webhook serve --authority /etc/ensconce/ca --policy /etc/ensconce/webhook.toml
    """
    log_json()
    own = tuple(f"{SERVICE}.{namespace}.{end}" for end in ("svc", "svc.cluster.local"))
    settings = Settings(
        authority=authority,
        policy=policy,
        names=names or own,
        host=host,
        port=port,
        drain=drain,
    )

    def ready(facts: Mapping[str, Any]) -> None:
        emit(dict(facts), as_json=as_json)
        sys.stdout.flush()

    asyncio.run(run_server(settings, ready))


@click.command()
@click.argument("folder", type=_folder)
@json_option
def authority(folder: Path, *, as_json: bool) -> None:
    """Make the CA that signs the webhook's certificates, good for ten years.

    \b
    Example:
      ensconce webhook authority ca
    """
    made = Authority.make(datetime.now(UTC))
    made.save(folder)
    emit({"folder": folder, "ends": made.certificate.not_valid_after_utc}, as_json=as_json)


@click.command()
@click.option("--ca", type=_file, help="Certificate of the CA, for caBundle.")
@click.option("--namespace", default=NAMESPACE, show_default=True, help="Where its service is.")
@click.option("--url", default="", help="Where it listens, if not at its service.")
@json_option
def manifest(ca: Path | None, *, namespace: str, url: str, as_json: bool) -> None:
    """Print the webhook configurations: which pods API servers ask about.

    \b
    Example:
      ensconce webhook manifest --ca ca/tls.crt | kubectl apply -f -
    """
    made = configurations(ca.read_bytes() if ca else b"", namespace=namespace, url=url)
    whole = {"apiVersion": "v1", "kind": "List", "items": made}
    emit(whole, as_json=as_json, text=lambda _: yaml.safe_dump_all(made, sort_keys=False).rstrip())


@click.command()
@click.argument("file", type=_file)
@_policy
@click.option("--namespace", default="default", show_default=True)
@click.option("--emulated", is_flag=True, help="The namespace allows the emulated processor.")
@json_option
def mutate(
    file: Path, *, policy: Path | None, namespace: str, emulated: bool, as_json: bool
) -> int:
    """Show what the webhook would do to a pod; exit 1 if it would refuse it.

    \b
    Example:
      ensconce webhook mutate pod.yaml --policy webhook.toml
    """
    try:
        pod = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is no YAML: {error}") from error
    if not isinstance(pod, dict):
        raise ConfigError(f"{file} has no pod; give the manifest of one")
    settings = Settings(authority=Path(), policy=policy)
    result = mutate_pod(pod, Where(namespace, emulated), settings.read_policy())
    emit(result, as_json=as_json, text=_text)
    return 1 if isinstance(result, Refusal) else 0


def _text(result: Any) -> str:
    """Return what would happen to a pod as a person reads it."""
    if isinstance(result, Refusal):
        return f"refused: {result.message}"
    lines = [f"{each['path']}: {json.dumps(each['value'])}" for each in result.patch]
    return "\n".join([*lines, *(f"warning: {each}" for each in result.warnings)]) or "unchanged"
