# SPDX-License-Identifier: Apache-2.0
"""`ensconce verify`: is a quote genuine, and is it what a policy wants?"""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ensconce.cli.output import emit, json_option, plain
from ensconce.dcap import (
    INTEL_ROOT,
    Claims,
    Collateral,
    Mismatch,
    Policy,
    Root,
    Verdict,
    Watermarks,
    parse_policy,
    validate,
)
from ensconce.dcap import verify as verify_quote
from ensconce.dcap.client import fetch_collateral, web
from ensconce.errors import ConfigError

__all__ = ["policy_of", "roots_of", "time_of", "verify"]

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("quote", type=_file)
@click.option("--collateral", type=_file, help="What PCS published, as JSON.")
@click.option("--pccs", metavar="URL", help="Fetch the collateral: https://…/sgx/certification/v4")
@click.option("--insecure-tls", is_flag=True, help="Let the PCCS have any certificate.")
@click.option("--at", type=int, metavar="UNIXTIME", help="Verify as of a time, not of now.")
@click.option("--root-ca", type=_file, metavar="DER", help="Trust this root, not Intel's.")
@click.option("--policy", type=_file, metavar="TOML", help="What is wanted of the quote.")
@click.option(
    "--watermarks",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the collateral's numbers there, and refuse lower ones.",
)
@json_option
def verify(
    quote: Path,
    collateral: Path | None,
    pccs: str | None,
    at: int | None,
    root_ca: Path | None,
    policy: Path | None,
    watermarks: Path | None,
    *,
    insecure_tls: bool,
    as_json: bool,
) -> int:
    """Verify a quote; exit 0 if it is accepted, 1 if refused, 2 if an input can't be read.

    Without a policy, debug enclaves, roots other than Intel's and platforms that are not UpToDate
    are refused, and any enclave is accepted.

    \b
    Example:
      ensconce verify quote.bin --collateral collateral.json --policy policy.toml --json
      ensconce verify quote.bin --pccs https://localhost:8081/sgx/certification/v4
    """
    marks = Watermarks.load(watermarks) if watermarks else None
    wanted = Policy() if policy is None else policy_of(policy)
    evidence = quote.read_bytes()
    if (collateral is None) == (pccs is None):
        raise ConfigError("give one of --collateral and --pccs: where the collateral comes from")
    found = (
        Collateral.parse(collateral.read_bytes())
        if collateral is not None
        else fetch_collateral(evidence, pccs or "", web(check_tls=not insecure_tls))
    )
    verdict = verify_quote(
        evidence,
        found,
        time_of(at),
        roots=roots_of(root_ca),
        watermarks=marks,
    )
    if marks is not None and watermarks is not None:
        marks.save(watermarks)
    mismatches = [] if verdict.claims is None else validate(verdict.claims, wanted)
    accepted = verdict.genuine and not mismatches
    emit(_answer(verdict, mismatches, accepted=accepted), as_json=as_json)
    return 0 if accepted else 1


def _answer(verdict: Verdict, mismatches: list[Mismatch], *, accepted: bool) -> dict[str, Any]:
    """Return what the command prints."""
    return {
        "accepted": accepted,
        "genuine": verdict.genuine,
        "reason": "policy_mismatch" if mismatches else verdict.reason,
        "step": verdict.step,
        "value": verdict.value,
        "advice": verdict.advice,
        "mismatches": list(map(str, mismatches)),
        "tcb_status": verdict.tcb_status,
        "platform_tcb_status": verdict.platform_tcb_status,
        "qe_status": verdict.qe_status,
        "advisory_ids": verdict.advisory_ids,
        "expires": verdict.expires.isoformat() if verdict.expires else None,
        "claims": None if verdict.claims is None else _claims(verdict.claims),
    }


def _claims(claims: Claims) -> dict[str, Any]:
    """Return claims as flat names and values; reserved bytes are left out."""
    body = _fields(claims.quote.body)
    body |= body.pop("td", {})
    return {
        "tee": claims.tee.name.lower(),
        "version": claims.quote.header.version,
        "root": claims.root.fingerprint,
        "production": claims.root.production,
        "fmspc": claims.pck.fmspc,
        "tcb_date": claims.tcb_date.isoformat(),
        "tcb_evaluation_data_number": claims.tcb_evaluation_data_number,
        "verified_at": claims.verified_at.isoformat(),
        **body,
    }


def _fields(record: Any) -> dict[str, Any]:
    """Return a record's fields that mean something, nested ones as mappings."""
    named = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {
        name: _fields(value) if dataclasses.is_dataclass(value) else plain(value)
        for name, value in named.items()
        if not name.startswith("reserved")
    }


def policy_of(path: Path) -> Policy:
    """Return the policy in a file."""
    try:
        return parse_policy(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text in UTF-8; a policy is TOML") from error


def roots_of(root_ca: Path | None) -> tuple[Root, ...]:
    """Return the root that --root-ca names, or Intel's."""
    return (Root.parse(root_ca.read_bytes()) if root_ca else INTEL_ROOT,)


def time_of(at: int | None) -> datetime:
    """Return the time that --at names, or now."""
    try:
        return datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise ConfigError(f"--at {at} is not a time that a calendar has") from error
