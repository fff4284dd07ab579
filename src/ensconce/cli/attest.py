# SPDX-License-Identifier: Apache-2.0
"""`ensconce attest`: look after what remote attestation rests on."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from ensconce.cli.doctor import check_line
from ensconce.cli.output import emit, json_option
from ensconce.cli.verify import policy_of, roots_of, time_of
from ensconce.dcap import Collateral, Outlook, Policy
from ensconce.dcap import forecast as forecast_quote
from ensconce.dcap.client import web
from ensconce.platform.attestation import Verifier, read_pckid, walk
from ensconce.platform.checks import State

__all__ = ["attest"]

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class _Row:
    """What becomes of one platform under one policy."""

    quote: Path
    policy: str
    outlooks: list[Outlook]


@click.group()
def attest() -> None:
    """Look after what remote attestation rests on.

    \b
    Example:
      ensconce attest doctor --pccs https://localhost:8081/sgx/certification/v4
      ensconce attest forecast quotes/*.bin --today now.json --tomorrow next.json --policy p.toml
    """


@attest.command()
@click.argument("quotes", nargs=-1, required=True, type=_file)
@click.option("--today", multiple=True, required=True, type=_file, help="Collateral in use.")
@click.option("--tomorrow", multiple=True, required=True, type=_file, help="That to come.")
@click.option("--policy", multiple=True, type=_file, metavar="TOML", help="What is wanted.")
@click.option("--at", type=int, metavar="UNIXTIME", help="Look ahead from a time, not from now.")
@click.option("--root-ca", type=_file, metavar="DER", help="Trust this root, not Intel's.")
@json_option
def forecast(
    quotes: tuple[Path, ...],
    today: tuple[Path, ...],
    tomorrow: tuple[Path, ...],
    policy: tuple[Path, ...],
    at: int | None,
    root_ca: Path | None,
    *,
    as_json: bool,
) -> int:
    """Say which platforms will fail which policy, and from when; exit 1 if any will.

    Give a quote of each platform, the collateral in use and that of the next TCB evaluation, for
    each FMSPC one. Exit 0 means that all stay accepted, 2 that an input can't be read.

    \b
    Example:
      ensconce attest forecast fleet/*.bin --today eval20.json --tomorrow eval21.json
    """
    now = time_of(at)
    roots = roots_of(root_ca)
    policies = {str(path): policy_of(path) for path in policy} or {"the default": Policy()}
    first, second = _collateral(today), _collateral(tomorrow)
    rows = [
        _Row(
            quote,
            name,
            forecast_quote(quote.read_bytes(), wanted, first, second, now, roots=roots),
        )
        for quote in quotes
        for name, wanted in policies.items()
    ]
    emit(rows, as_json=as_json, text=lambda rows: "\n".join(map(_words, rows)))
    return 0 if all(each.accepted for row in rows for each in row.outlooks) else 1


@attest.command()
@click.option("--quote", type=_file, help="A quote that was made; one of this machine's else.")
@click.option("--pccs", required=True, metavar="URL", help="https://…/sgx/certification/v4")
@click.option("--insecure-tls", is_flag=True, help="Let the PCCS have any certificate.")
@click.option("--root-ca", type=_file, metavar="DER", help="Trust this root, not Intel's.")
@click.option("--policy", type=_file, metavar="TOML", help="What is wanted of the quote.")
@click.option("--pckid", type=_file, metavar="CSV", help="What PCKIDRetrievalTool wrote.")
@json_option
def doctor(
    quote: Path | None,
    pccs: str,
    root_ca: Path | None,
    policy: Path | None,
    pckid: Path | None,
    *,
    insecure_tls: bool,
    as_json: bool,
) -> int:
    """Walk from an enclave to its verifier; name the first broken link and its mend.

    The links: a quote, its PCK certificate, the PCCS, the clock, whether the quote is genuine, and
    what the policy wants. Exit 0 if all hold, 1 if one is broken.

    \b
    Example:
      ensconce attest doctor --pccs https://localhost:8081/sgx/certification/v4
      ensconce attest doctor --quote quote.bin --pccs URL --policy policy.toml --json
    """
    verifier = Verifier(
        pccs,
        web(check_tls=not insecure_tls),
        lambda: datetime.now(UTC),
        roots_of(root_ca),
        Policy() if policy is None else policy_of(policy),
        None if pckid is None else read_pckid(pckid),
    )
    evidence = _own_quote if quote is None else quote.read_bytes
    checks = list(walk(evidence, verifier))
    broken = any(check.state is State.MISSING for check in checks)
    emit(
        {"checks": checks, "whole": not broken},
        as_json=as_json,
        text=lambda result: "\n".join(map(check_line, result["checks"])),
    )
    return int(broken)


def _own_quote() -> bytes:
    """Have an enclave made on the spot quoted by this machine's quoting role."""
    from ensconce.enclave import default_device
    from ensconce.platform.quoting import quoting_role
    from ensconce.platform.witness import REPORT_DATA_BYTES, Witness

    role = quoting_role()
    witness = Witness(default_device())
    try:
        return role.quote(witness.report(role.target_info, bytes(REPORT_DATA_BYTES)))
    finally:
        witness.close()


def _words(row: _Row) -> str:
    """Return one platform's future under one policy, in lines."""
    lines = [f"{row.quote} under {row.policy}"]
    for outlook in row.outlooks:
        status = "accepted" if outlook.accepted else "REFUSED"
        tcb = outlook.tcb_status.value if outlook.tcb_status else "not genuine"
        latest = f" (at the latest {_date(outlook.latest)})" if outlook.latest else ""
        lines.append(f"  from {_date(outlook.begins)}{latest}: {status}, {tcb}")
        lines += [f"    {reason}" for reason in outlook.why]
    return "\n".join(lines)


def _date(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _collateral(paths: Iterable[Path]) -> list[Collateral]:
    return [Collateral.parse(path.read_bytes()) for path in paths]
