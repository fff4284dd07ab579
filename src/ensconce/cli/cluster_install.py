# SPDX-License-Identifier: Apache-2.0
"""`ensconce cluster manifests|install|…`: ensconce on a cluster, by the chart's objects."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import yaml

from ensconce.cli.doctor import check_line
from ensconce.cli.output import emit, json_option, show_progress, table
from ensconce.kube.install.authority import with_authority
from ensconce.kube.install.chart import chart, load_values
from ensconce.kube.install.cluster import connect
from ensconce.kube.install.difference import Change
from ensconce.kube.install.doctor import examine
from ensconce.kube.install.installer import Installer, Outcome, Status
from ensconce.platform.checks import State

__all__ = [
    "change_text",
    "cluster_options",
    "doctor",
    "install",
    "manifests",
    "rollback",
    "status",
    "uninstall",
    "upgrade",
    "values_options",
]

_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")


def values_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that values come from."""
    for option in (
        click.option(
            "--set", "settings", multiple=True, metavar="NAME=VALUE", help="One value (YAML)."
        ),
        click.option(
            "-f", "--values", "files", multiple=True, type=_file, help="A file of values."
        ),
    ):
        command = option(command)
    return command


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which cluster is meant."""
    for option in (
        json_option,
        click.option(
            "--timeout",
            type=click.FloatRange(min=1),
            default=300.0,
            show_default=True,
            help="Seconds to wait for anything.",
        ),
        click.option("--context", help="The kubeconfig's context; the current one otherwise."),
        click.option("--kubeconfig", type=_file, help="As kubectl has it otherwise."),
    ):
        command = option(command)
    return command


def _installer(kubeconfig: Path | None, context: str | None, timeout: float) -> Installer:
    """Return the installer of a cluster, which tells of its progress."""
    show_progress("ensconce.kube.install")
    return Installer(connect(kubeconfig, context), chart(), timeout=timeout)


def _done(action: Callable[[], Outcome], *, as_json: bool) -> int:
    """Do something to a cluster and print what it came to."""
    try:
        emit(action(), as_json=as_json, text=_outcome)
    except KeyboardInterrupt:
        click.echo(
            "interrupted; what was done is recorded: the same command goes on, or `ensconce "
            "cluster uninstall` removes it",
            err=True,
        )
        return 130
    return 0


@click.command()
@values_options
@json_option
def manifests(files: tuple[Path, ...], settings: tuple[str, ...], *, as_json: bool) -> None:
    """Print the objects that an install applies: the same that Helm makes of the chart.

    The webhook's CA is made anew each time, unless webhook.authority has one.

    \b
    Example:
      ensconce cluster manifests --set emulated.enabled=true | kubectl diff -f -
    """
    objects = chart().objects(with_authority(None, load_values(files, settings)))
    emit(objects, as_json=as_json, text=lambda found: yaml.safe_dump_all(found, sort_keys=False))


@click.command()
@values_options
@_dry_run
@cluster_options
def install(
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    kubeconfig: Path | None,
    context: str | None,
    timeout: float,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Install ensconce on a cluster, or go on with an install that was interrupted.

    \b
    Example:
      ensconce cluster install --set emulated.enabled=true --dry-run
      ensconce cluster install --values my.yaml
    """
    values = load_values(files, settings)
    installer = _installer(kubeconfig, context, timeout)
    return _done(lambda: installer.install(values, dry_run=dry_run), as_json=as_json)


@click.command()
@values_options
@click.option("--reset-values", is_flag=True, help="Forget the values that were given before.")
@_dry_run
@cluster_options
def upgrade(
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    kubeconfig: Path | None,
    context: str | None,
    timeout: float,
    *,
    reset_values: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Bring an install to this version and to new values, over those given before.

    \b
    Example:
      ensconce cluster upgrade --set webhook.replicas=3
    """
    values = load_values(files, settings)
    installer = _installer(kubeconfig, context, timeout)
    return _done(
        lambda: installer.upgrade(values, reset=reset_values, dry_run=dry_run), as_json=as_json
    )


@click.command()
@click.argument("revision", type=click.IntRange(min=1), required=False)
@_dry_run
@cluster_options
def rollback(
    revision: int | None,
    kubeconfig: Path | None,
    context: str | None,
    timeout: float,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Go back to the revision before, or to one by its number, as a new revision.

    \b
    Example:
      ensconce cluster rollback 3
    """
    installer = _installer(kubeconfig, context, timeout)
    return _done(lambda: installer.rollback(revision, dry_run=dry_run), as_json=as_json)


@click.command()
@cluster_options
def status(kubeconfig: Path | None, context: str | None, timeout: float, *, as_json: bool) -> int:
    """Show what is installed; exit 1 unless all of it is there and ready.

    \b
    Example:
      ensconce cluster status --json
    """
    found = _installer(kubeconfig, context, timeout).status()
    emit(found, as_json=as_json, text=_status)
    whole = found.installed and not found.missing and all(each.done for each in found.workloads)
    return int(not whole)


@click.command()
@cluster_options
def doctor(kubeconfig: Path | None, context: str | None, timeout: float, *, as_json: bool) -> int:  # noqa: ARG001
    """Check a cluster from its nodes to a quote; exit 1 if something must be mended.

    Works on any cluster, also with another vendor's plugin. Nothing is changed.

    \b
    Example:
      ensconce cluster doctor --json
    """
    checks = list(examine(connect(kubeconfig, context)))
    missing = any(check.state is State.MISSING for check in checks)
    emit(
        {"checks": checks, "ready": not missing},
        as_json=as_json,
        text=lambda result: "\n".join(map(check_line, result["checks"])),
    )
    return int(missing)


@click.command()
@_dry_run
@cluster_options
def uninstall(
    kubeconfig: Path | None, context: str | None, timeout: float, *, dry_run: bool, as_json: bool
) -> int:
    """Remove all that was installed, and what the agents wrote on nodes.

    \b
    Example:
      ensconce cluster uninstall --dry-run
    """
    installer = _installer(kubeconfig, context, timeout)
    return _done(lambda: installer.uninstall(dry_run=dry_run), as_json=as_json)


def change_text(changes: Iterable[Change]) -> str:
    """Return changes as a person reads them."""
    return "\n".join(f"{each.action} {each.what}\n{each.text}" for each in changes)


def _outcome(outcome: Outcome) -> str:
    """Return what was done as a person reads it."""
    if outcome.changes or not (outcome.applied or outcome.removed):
        return change_text(outcome.changes) or "nothing would change"
    text = f"revision {outcome.revision} {outcome.standing}: {outcome.applied} objects applied"
    return f"{text}, {len(outcome.removed)} removed"


def _status(found: Status) -> str:
    """Return what is installed as a person reads it."""
    if not found.installed:
        return "nothing is installed by `ensconce cluster install`"
    rows: dict[str, Any] = {"revision": found.revision, "standing": found.standing}
    rows |= {"version": found.version}
    rows |= {each.name: f"{each.ready}/{each.wanted}" for each in found.workloads}
    rows |= {"missing": found.missing or "nothing"}
    return table(rows)
