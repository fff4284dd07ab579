# SPDX-License-Identifier: Apache-2.0
"""`ensconce run`, `ps`, `logs`, `exec`, `stop`, `events`: one machine's workloads."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensconce.cli.node import check_extras
from ensconce.cli.output import emit, json_option

if TYPE_CHECKING:
    from ensconce.node.machine import Machine

__all__ = ["events", "exec_", "logs", "ps", "run", "stop"]

_container = click.option("--container", "-c", metavar="NAME", help="Which container of the pod.")


def _machine() -> "Machine":
    """Return this machine."""
    check_extras()
    from ensconce.node.machine import Machine
    from ensconce.node.places import Places

    return Machine(Places.find(os.environ))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--image-archive",
    "archives",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Where an image is that Podman does not have; dist/*.oci.tar is looked at anyway.",
)
@click.option(
    "--allow-host-path", "allowed", multiple=True, metavar="PATH", help="For hostPath volumes."
)
@click.option("--wait", is_flag=True, help="Wait for the end; exit with the container's code.")
@json_option
def run(
    file: Path, archives: tuple[Path, ...], allowed: tuple[str, ...], *, wait: bool, as_json: bool
) -> int:
    """Run the Pods, Jobs and Deployments of a Kubernetes manifest on this machine.

    \b
    Example:
      ensconce run examples/01-hello-world/pod.yaml
      ensconce run job.yaml --wait
    """
    machine = _machine()
    names = machine.run(file, archives=archives, allowed=allowed)
    code = machine.wait(names) if wait else 0
    result = {"running": names} if not wait else {"ended": names, "exit_code": code}
    emit(result, as_json=as_json)
    return code


@click.command()
@json_option
def ps(*, as_json: bool) -> None:
    """List the pods.

    \b
    Example:
      ensconce ps --json
    """
    emit(_machine().listing(), as_json=as_json, text=_rows)


@click.command()
@click.argument("pod")
@_container
@click.option("--follow", "-f", is_flag=True, help="Go on until the pod ends.")
@json_option
def logs(pod: str, container: str | None, *, follow: bool, as_json: bool) -> None:
    """Print what a pod's container wrote, restarts included.

    \b
    Example:
      ensconce logs -f hello
    """
    for line in _machine().logs(pod, container, follow=follow):
        click.echo(json.dumps({"line": line}) if as_json else line)


@click.command(name="exec", context_settings={"allow_interspersed_args": False})
@click.argument("pod")
@_container
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@json_option
def exec_(pod: str, container: str | None, command: tuple[str, ...], *, as_json: bool) -> int:
    """Run a command in a pod's container, and exit with its code.

    \b
    Example:
      ensconce exec hello-world /app/attested nonce
    """
    tty = not as_json and sys.stdin.isatty()
    made = _machine().exec_command(pod, container, command, tty=tty)
    done = subprocess.run(made, capture_output=as_json, text=True, errors="replace", check=False)  # noqa: S603  # what the user named
    if as_json:
        result = {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
        emit(result, as_json=True)
    return done.returncode


@click.command()
@click.argument("names", nargs=-1, required=True)
@json_option
def stop(names: tuple[str, ...], *, as_json: bool) -> None:
    """End workloads and remove what is left of them.

    \b
    Example:
      ensconce stop hello
    """
    emit({"stopped": _machine().stop(names)}, as_json=as_json)


@click.command()
@json_option
def events(*, as_json: bool) -> None:
    """Say what happened to the workloads.

    \b
    Example:
      ensconce events --json
    """
    emit(list(_machine().store.events()), as_json=as_json, text=_events)


def _events(found: list[dict[str, Any]]) -> str:
    """Return events as lines."""
    return "\n".join(
        f"{datetime.fromtimestamp(each['time'], UTC):%Y-%m-%dT%H:%M:%SZ}  "
        f"{each['object']}  {each['reason']}  {each['message']}"
        for each in found
    )


def _rows(found: list[dict[str, Any]]) -> str:
    """Return pods as a table."""
    head = ("NAME", "WORKLOAD", "PHASE", "RESTARTS", "EXIT", "EPC", "AGE", "WHY")
    rows = [
        (
            each["name"],
            each["workload"],
            each["phase"],
            str(each["restarts"]),
            ",".join(str(code) for code in each["exit_codes"].values()) or "-",
            f"{each['epc_mib']}Mi",
            f"{each['age_seconds']}s",
            each["message"],
        )
        for each in found
    ]
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )
