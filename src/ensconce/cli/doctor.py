# SPDX-License-Identifier: Apache-2.0
"""`ensconce doctor`: what this machine has, what is missing, how to mend it."""

import click

from ensconce.cli.output import emit, json_option
from ensconce.platform.checks import Check, Machine, State, check_machine

__all__ = ["check_line", "doctor"]

_MARKS = {State.OK: "ok     ", State.ABSENT: "absent ", State.MISSING: "MISSING"}


@click.command()
@json_option
def doctor(*, as_json: bool) -> int:
    """Check this machine for enclaves, emulated and on SGX; exit 1 if something must be mended.

    \b
    Example:
      ensconce doctor --json
    """
    checks = check_machine(Machine.this())
    missing = any(check.state is State.MISSING for check in checks)
    emit(
        {"checks": checks, "ready": not missing},
        as_json=as_json,
        text=lambda result: "\n".join(map(check_line, result["checks"])),
    )
    return int(missing)


def check_line(check: Check) -> str:
    """Return a check as a person reads it."""
    line = f"{_MARKS[check.state]}  {check.name:<22} {check.detail}"
    return f"{line}\n{'':33}mend: {check.mend}" if check.mend else line
