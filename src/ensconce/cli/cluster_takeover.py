# SPDX-License-Identifier: Apache-2.0
"""`ensconce cluster takeover`: from another vendor's device plugin to ensconce, and back."""

import sys
from pathlib import Path

import click
import yaml

from ensconce.cli.cluster_install import change_text, cluster_options, values_options
from ensconce.cli.output import emit, show_progress
from ensconce.errors import ConfigError
from ensconce.kube.install.chart import chart, load_values
from ensconce.kube.install.cluster import connect
from ensconce.kube.install.installer import Installer
from ensconce.kube.install.takeover import Takeover, TakeoverOutcome, TakeoverPlan

__all__ = ["takeover"]


@click.command()
@values_options
@click.option("--rollback", is_flag=True, help="Uninstall ensconce, bring the other plugin back.")
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--yes", is_flag=True, help="Act without asking.")
@cluster_options
def takeover(
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    kubeconfig: Path | None,
    context: str | None,
    timeout: float,
    *,
    rollback: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Move a cluster from Alibaba's or Intel's device plugin to ensconce, under running pods.

    Shows what goes and what comes, and asks. Run again after an interrupt, it goes on. Exit 1 if
    a pod with SGX resources did not go on as it was.

    \b
    Example:
      ensconce cluster takeover --dry-run
      ensconce cluster takeover --yes
      ensconce cluster takeover --rollback
    """
    if rollback and dry_run:
        raise ConfigError("--rollback has no --dry-run; it makes what `takeover` showed undone")
    show_progress("ensconce.kube.install")
    values, cluster = load_values(files, settings), connect(kubeconfig, context)
    mover = Takeover(cluster, Installer(cluster, chart(), timeout=timeout), timeout=timeout)
    if dry_run:
        emit(mover.plan(values), as_json=as_json, text=_plan)
        return 0
    if not rollback and not yes:
        plan = mover.plan(values)
        click.echo(_plan(plan), err=True)
        if plan.step:
            _confirm("do this?")
    elif not yes:
        _confirm("uninstall ensconce and bring the other plugin back?")
    try:
        done = mover.roll_back() if rollback else mover.take_over(values)
    except KeyboardInterrupt:
        click.echo(
            "interrupted; what was done is recorded: the same command goes on, or `ensconce "
            "cluster takeover --rollback` goes back",
            err=True,
        )
        return 130
    emit(done, as_json=as_json, text=_outcome)
    return int(bool(done.changed))


def _confirm(question: str) -> None:
    """Go on with a yes only."""
    if not sys.stdin.isatty():
        raise ConfigError(
            "nobody is there to ask; repeat with --yes, or with --dry-run to look only"
        )
    click.confirm(question, abort=True, err=True)


def _plan(plan: TakeoverPlan) -> str:
    """Return what would be done as a person reads it."""
    if plan.step is None:
        return "no other vendor's device plugin is there to take over from"
    values = yaml.safe_dump(plan.values, sort_keys=True)
    return (
        f"{change_text(plan.changes)}\n\nto remove: {', '.join(plan.removed)}\nwhat runs on: "
        f"{len(plan.pods)} pods with SGX resources: {', '.join(plan.pods) or 'none'}\n"
        f"step: {plan.step}\nvalues:\n{values}"
    )


def _outcome(outcome: TakeoverOutcome) -> str:
    """Return what was done as a person reads it."""
    if outcome.done == "nothing":
        return "there is no other vendor's device plugin to take over from, or to go back to"
    text = f"{outcome.done}: {', '.join(outcome.objects)}; "
    if outcome.changed:
        return f"{text}not as before: {', '.join(outcome.changed)}"
    return f"{text}all {len(outcome.pods)} pods with SGX resources run on"
