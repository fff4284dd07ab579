# SPDX-License-Identifier: Apache-2.0
"""The commands of `ensconce pccs`; they need the extra `server`."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ensconce.cli.logs import log_json
from ensconce.cli.output import emit, json_option
from ensconce.errors import ConfigError

try:
    from ensconce.pccs import (
        Mode,
        Refreshed,
        Service,
        Settings,
        hash_token,
        load_settings,
        new_token,
        qcnl_config,
        read_bundle,
        write_bundle,
    )
    from ensconce.pccs.server import serve as run_server
except ModuleNotFoundError as error:
    raise ConfigError(
        f"`ensconce pccs` needs {error.name}, which is not installed; pip install ensconce[server]"
    ) from error

__all__ = ["certificate", "export", "import_", "qcnl", "refresh", "serve", "status", "token"]

_DAY = 86400
_file = click.Path(path_type=Path, dir_okay=False)


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which PCCS is meant."""
    for option in (
        click.option("--root-ca", metavar="DER", help="Trust this root, not Intel's."),
        click.option("--database", metavar="URL", help="sqlite:///FILE or postgresql://…"),
        click.option(
            "--config",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            envvar="ENSCONCE_PCCS_CONFIG",
            help="A file with settings, TOML.",
        ),
    ):
        command = option(command)
    return command


def _upstream_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where collateral comes from."""
    for option in (
        click.option("--url", metavar="URL", help="The upstream's URL, instead of its own."),
        click.option("--region", help="The region of a regional upstream."),
        click.option("--upstream", help="intel, alibaba, alibaba-vpc, azure, pcs or pccs."),
        click.option("--mode", help="lazy, request or offline."),
    ):
        command = option(command)
    return command


@click.command()
@_options
@_upstream_options
@click.option("--host", help="Where to listen; 127.0.0.1 otherwise.")
@click.option("--port", type=int, help="The port; 8081 otherwise, 0 for a free one.")
@click.option("--cert", metavar="PEM", help="The TLS certificate.")
@click.option("--key", metavar="PEM", help="Its private key.")
@click.option("--read-only", is_flag=True, default=None, help="Nothing that needs a token.")
@json_option
def serve(config: Path | None, *, as_json: bool, **flags: Any) -> None:
    """Serve collateral; the vendor's clients want HTTPS, so give a certificate and key.

    \b
    Example:
      ensconce pccs serve --config pccs.toml --cert server.pem --key server.key
    """
    settings = load_settings(config, os.environ, flags)
    log_json()
    for chatty in ("httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    def ready(facts: Mapping[str, str]) -> None:
        emit(dict(facts), as_json=as_json)
        sys.stdout.flush()
        if facts["url"].startswith("http:"):
            click.echo(
                "note: plain HTTP, for this machine only; the vendor's clients want HTTPS", err=True
            )

    asyncio.run(run_server(settings, ready))


@click.command()
@_options
@_upstream_options
@click.option("--certificates", is_flag=True, help="Platforms' PCK certificates, not collateral.")
@click.option("--fmspc", "fmspcs", multiple=True, help="Of this family only; may be given again.")
@json_option
def refresh(
    config: Path | None,
    *,
    certificates: bool,
    fmspcs: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> int:
    """Fetch all that is kept anew; exit 1 if something could not be.

    \b
    Example:
      ensconce pccs refresh --config pccs.toml
    """
    wanted = [word.upper() for word in fmspcs]

    async def run(service: Service) -> Refreshed:
        return await service.refresh(certificates=certificates, fmspcs=wanted)

    result = _run(load_settings(config, os.environ, flags), run)
    emit(result, as_json=as_json)
    return 1 if result.failed else 0


@click.command()
@_options
@click.argument("file", type=_file)
@json_option
def export(config: Path | None, file: Path, *, as_json: bool, **flags: Any) -> None:
    """Write all that is kept to one file, for a PCCS without a network.

    \b
    Example:
      ensconce pccs export bundle.json
    """
    service = _offline(config, flags)
    with service.store.reading() as rows:
        items, platforms, policies = rows.items(), rows.all_known(), rows.policies()
    data = write_bundle(items, platforms, policies)
    partial = file.with_name(file.name + ".part")
    partial.write_bytes(data)
    partial.replace(file)
    emit(
        {"file": file, "size": len(data), "items": len(items), "platforms": len(platforms)},
        as_json=as_json,
    )


@click.command(name="import")
@_options
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
def import_(config: Path | None, file: Path, *, as_json: bool, **flags: Any) -> None:
    """Check a bundle, then take over all of it or nothing.

    It may also be what the vendor's admin tool collected, or a verifier's collateral.

    \b
    Example:
      ensconce pccs import bundle.json
    """
    bundle = read_bundle(file.read_bytes())

    async def run(service: Service) -> int:
        return await service.keep(bundle.items, bundle.platforms, bundle.policies)

    settings = load_settings(config, os.environ, flags | {"mode": Mode.OFFLINE.value})
    news = _run(settings, run)
    counts = {"items": len(bundle.items), "platforms": len(bundle.platforms)}
    emit({"file": file} | counts | {"new": news}, as_json=as_json)


@click.command()
@click.option("--stdin", is_flag=True, help="Hash the token on standard input.")
@json_option
def token(*, stdin: bool, as_json: bool) -> None:
    """Make a token and its hash for the settings; weak tokens are refused.

    \b
    Example:
      ensconce pccs token
    """
    made = sys.stdin.readline().rstrip("\r\n") if stdin else new_token()
    facts = {"hash": hash_token(made)}
    emit(facts if stdin else {"token": made} | facts, as_json=as_json)


@click.command()
@_options
@json_option
def status(config: Path | None, *, as_json: bool, **flags: Any) -> int:
    """Show what is kept and how long it is good for; exit 1 if something has expired.

    \b
    Example:
      ensconce pccs status --json
    """
    service = _offline(config, flags)
    with service.store.reading() as rows:
        items, platforms = rows.items(), rows.all_known()
        waiting = len(rows.registrations("new"))
    now = service.now()
    listed = {
        str(item.key): {
            "number": item.number,
            "expires": datetime.fromtimestamp(item.expires, UTC).isoformat(),
            "days": round((item.expires - now) / _DAY, 1),
        }
        for item in items
    }
    families: dict[str, int] = {}
    for known in platforms:
        families[known.pcks.fmspc] = families.get(known.pcks.fmspc, 0) + 1
    expired = [str(item.key) for item in items if item.expires <= now]
    facts = {"items": listed, "platforms": families, "waiting": waiting, "expired": expired}
    emit(facts, as_json=as_json)
    return 1 if expired else 0


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where tls.crt and tls.key go, in place of those there.",
)
@json_option
def certificate(names: tuple[str, ...], folder: Path, *, as_json: bool) -> None:
    """Make a self-signed TLS certificate, for clients that check collateral's own signatures.

    \b
    Example:
      ensconce pccs certificate --folder tls pccs.example
    """
    from ensconce.pccs.own_certificate import write_certificate

    ends = write_certificate(folder, list(names))
    emit({"folder": folder, "names": names, "ends": ends}, as_json=as_json)


@click.command()
@click.argument("url", default="https://localhost:8081")
@click.option("--own-certificate", is_flag=True, help="Its TLS certificate is from no public CA.")
@json_option
def qcnl(url: str, *, own_certificate: bool, as_json: bool) -> None:
    """Print /etc/sgx_default_qcnl.conf for the machines that use a PCCS.

    \b
    Example:
      ensconce pccs qcnl https://pccs.example:8081 > /etc/sgx_default_qcnl.conf
    """
    text = qcnl_config(url, own_certificate=own_certificate)
    emit(json.loads(text), as_json=as_json, text=lambda _: text.rstrip())


def _offline(config: Path | None, flags: Mapping[str, Any]) -> Service:
    """Return a service that asks nobody."""
    offline = {**flags, "mode": Mode.OFFLINE.value}
    return load_settings(config, os.environ, offline).service()


def _run(settings: Settings, action: Callable[[Service], Any]) -> Any:
    """Do something with a service, and close it."""

    async def run() -> Any:
        service = settings.service()
        try:
            return await action(service)
        finally:
            service.store.close()

    return asyncio.run(run())
