# SPDX-License-Identifier: Apache-2.0
"""`ensconce cluster create|delete|list|show`: how a cluster comes to be, and its end."""

import sys
from pathlib import Path
from typing import Any

import click

from ensconce.cli.output import emit, json_option, show_progress
from ensconce.errors import ConfigError
from ensconce.kube import create as creation
from ensconce.kube.create.settings import read_toml

__all__ = ["create", "delete", "list_clusters", "show"]

_yes = click.option("--yes", is_flag=True, help="Act without asking.")
_dry_run = click.option("--dry-run", is_flag=True, help="Show the plan and do nothing.")


@click.command()
@click.argument("name")
@click.option(
    "--provider",
    required=True,
    type=click.Choice(list(creation.PROVIDERS)),
    help="How to come by it.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file with the provider's settings (kubeadm: its machines).",
)
@click.option("--kubeconfig", help="existing: which to use; others: where to write it.")
@click.option("--context", help="existing: a context of the kubeconfig.")
@click.option("--region", help="alibabacloud: a region with SGX attestation.")
@click.option("--vpc", help="alibabacloud: the VPC's id.")
@click.option("--vswitch", "vswitches", multiple=True, help="alibabacloud: a vSwitch's id.")
@click.option("--key-pair", help="alibabacloud: the SSH key pair of the nodes.")
@click.option(
    "--instance-type", "instance_types", multiple=True, help="alibabacloud: of ecs.c7t, g7t, r7t."
)
@click.option("--nodes", type=int, help="alibabacloud: how many.")
@click.option("--endpoint", help="alibabacloud: URL of the API, for one inside a VPC.")
@_dry_run
@_yes
@json_option
def create(
    name: str,
    provider: str,
    config: Path | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Create a confidential cluster, or go on with one whose creation was interrupted.

    Flags go before the file. The plan is shown first; nothing is done without a yes.

    \b
    Example:
      ensconce cluster create prod --provider kubeadm --config machines.toml --dry-run
      ensconce cluster create here --provider existing
    """
    given = {key: value for key, value in flags.items() if value not in (None, ())}
    chosen = creation.provider_for(provider, name, (read_toml(config) if config else {}) | given)
    plan = creation.Plan(name, provider, chosen.steps(), chosen.notes())
    if dry_run:
        emit(plan, as_json=as_json, text=plan_text)
        return 0
    show_progress("ensconce.kube.create")
    records = creation.default_records()
    with records.open(name) as found:
        record = found or records.begin(name, provider, chosen.settings)
        _confirm(plan, record.done, yes=yes)
        try:
            creation.create(chosen, record)
        except KeyboardInterrupt:
            return _interrupted("create", name)
    emit(_public(record), as_json=as_json)
    return 0


@click.command()
@click.argument("name")
@_dry_run
@_yes
@json_option
def delete(name: str, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Delete a cluster: what `cluster create` made and nothing else, in reverse.

    \b
    Example:
      ensconce cluster delete prod --dry-run
    """
    show_progress("ensconce.kube.create")
    with creation.default_records().open(name) as record:
        if record is None:
            raise ConfigError(
                f"no cluster {name} was created here; `ensconce cluster list` shows them"
            )
        provider = creation.provider_of(record)
        plan = creation.deletion_plan(provider, record)
        if dry_run:
            emit(plan, as_json=as_json, text=plan_text)
            return 0
        _confirm(plan, record.undone, yes=yes)
        try:
            creation.delete(provider, record)
        except KeyboardInterrupt:
            return _interrupted("delete", name)
    emit({"cluster": name, "deleted": True}, as_json=as_json)
    return 0


@click.command("list")
@json_option
def list_clusters(*, as_json: bool) -> None:
    """List the clusters that were created, or recorded, here.

    \b
    Example:
      ensconce cluster list --json
    """
    records = creation.default_records().all()
    emit(
        {"clusters": [_public(each) for each in records]},
        as_json=as_json,
        text=lambda _: "\n".join(
            f"{each.name:<24} {each.provider:<14} {each.phase}" for each in records
        ),
    )


@click.command()
@click.argument("name")
@json_option
def show(name: str, *, as_json: bool) -> None:
    """Show what is known of a cluster: settings, steps done, what was made.

    \b
    Example:
      ensconce cluster show prod
    """
    record = creation.default_records().find(name)
    if record is None:
        raise ConfigError(f"no cluster {name} was created here; `ensconce cluster list` shows them")
    emit(_public(record), as_json=as_json)


def _interrupted(verb: str, name: str) -> int:
    """Say how to go on; return an interrupt's exit code."""
    click.echo(
        f"interrupted; the same command goes on with {verb} from here, and `ensconce cluster show "
        f"{name}` tells what is done",
        err=True,
    )
    return 130


def plan_text(plan: creation.Plan) -> str:
    """Return a plan as a person reads it."""
    lines = [f"{plan.cluster} ({plan.provider})"]
    for number, step in enumerate(plan.steps, 1):
        lines += [f"  {number}. {step.what}", f"     {step.why}"]
    return "\n".join(lines + [f"  note: {each}" for each in plan.notes])


def _confirm(plan: creation.Plan, done: list[str], *, yes: bool) -> None:
    """Show what is left of a plan, and go on with a yes only."""
    left = creation.Plan(
        plan.cluster,
        plan.provider,
        tuple(step for step in plan.steps if step.name not in done),
        plan.notes,
    )
    click.echo(plan_text(left), err=True)
    if yes or not left.steps:
        return
    if not sys.stdin.isatty():
        raise ConfigError(
            "nobody is there to ask; repeat with --yes, or with --dry-run to look only"
        )
    click.confirm("do this?", abort=True, err=True)


def _public(record: creation.Record) -> dict[str, Any]:
    """Return a record as it is shown."""
    return {
        "cluster": record.name,
        "provider": record.provider,
        "phase": record.phase,
        "settings": record.settings,
        "done": record.done,
        "facts": record.facts,
        "record": record.path,
    }
