# SPDX-License-Identifier: Apache-2.0
"""`ensconce platform target|quote|collateral|pcs`: the emulated platform's quoting role and PCS."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography.hazmat.primitives import hashes, serialization

from ensconce.cli import LazyGroup
from ensconce.cli.output import emit, json_option
from ensconce.cli.platform import load_identity, path_option
from ensconce.enclave.device import chosen_backend
from ensconce.isa.report import Report
from ensconce.machine import identity
from ensconce.platform.ledger import changing_ledger
from ensconce.platform.quoting import (
    QUOTE_VERSIONS,
    EmulatedPlatform,
    Quoter,
    QuotingRole,
    quoting_role,
)

__all__ = ["collateral", "pcs", "quote", "target"]

_MAX_TIME = 4102444799  # the end of 2099

_at = click.option(
    "--at",
    type=click.IntRange(min=0, max=_MAX_TIME),
    metavar="UNIXTIME",
    help="Issue as of this time; now otherwise.",
)
_backend = click.option(
    "--backend",
    type=click.Choice(["auto", "hardware", "emulated"]),
    default="auto",
    show_default=True,
    help="Who quotes: the vendor's library or the emulated platform.",
)
_out_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@path_option
@_backend
@click.option("--out", type=_out_file, help="Write the 512 bytes to a file.")
@json_option
def target(path: Path | None, backend: str, out: Path | None, *, as_json: bool) -> None:
    """Give the quoting enclave's TARGETINFO, for which an enclave makes its REPORT.

    \b
    Example:
      ensconce platform target --out target.bin
    """
    info = bytes(_role(backend, path).target_info)
    if out:
        out.write_bytes(info)
    emit({"target_info": info, "file": out}, as_json=as_json)


@click.command()
@path_option
@click.argument("report", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("out", type=_out_file)
@click.option(
    "--quote-version",
    type=click.Choice([str(version) for version in QUOTE_VERSIONS]),
    default="3",
    show_default=True,
    help="The quote's format.",
)
@_backend
@json_option
def quote(
    path: Path | None, report: Path, out: Path, quote_version: str, backend: str, *, as_json: bool
) -> None:
    """Turn a REPORT (432 bytes) that an enclave made for the quoting enclave into a quote.

    \b
    Example:
      ensconce platform quote report.bin quote.bin
    """
    with report.open("rb") as stream:
        made = Report.parse(stream.read(Report.SIZE + 1), source=str(report))
    role = _role(backend, path)
    data = role.quote(made, version=int(quote_version))
    out.write_bytes(data)
    facts = {"file": out, "size": len(data), "emulated": isinstance(role, Quoter)}
    body = made.body
    facts |= {"mr_enclave": body.mr_enclave, "mr_signer": body.mr_signer}
    emit(facts | {"report_data": body.report_data}, as_json=as_json)


@click.command()
@path_option
@click.argument("out", type=_out_file)
@click.option("--root-ca", type=_out_file, help="Write the test root's certificate too, in DER.")
@_at
@json_option
def collateral(
    path: Path | None, out: Path, root_ca: Path | None, at: int | None, *, as_json: bool
) -> None:
    """Write the collateral that verifies this platform's quotes, issued by its test PCS.

    \b
    Example:
      ensconce platform collateral collateral.json --root-ca root.der
    """
    found = _platform(path)
    now = _time(at)
    out.write_text(json.dumps(found.pcs.collateral(now), indent=1) + "\n")
    root = found.pcs.root.certificate()
    if root_ca:
        root_ca.write_bytes(root.public_bytes(serialization.Encoding.DER))
    facts = {"file": out, "issued": int(now.timestamp()), "root_ca": root_ca}
    facts |= {"expires": int((now + found.pcs.valid).timestamp())}
    emit(facts | _announced(found), as_json=as_json)


@click.group(cls=LazyGroup, lazy={"serve": "ensconce.cli.pcs:serve"})
def pcs() -> None:
    """Play the test PCS's part in a TCB recovery or a revocation.

    \b
    Example:
      ensconce platform pcs advance --advisory EXAMPLE-SA-00001
      ensconce platform recover
    """


@pcs.command()
@path_option
@json_option
def show(path: Path | None, *, as_json: bool) -> None:
    """Show the test root, the PCK certificate and what the test PCS has announced.

    \b
    Example:
      ensconce platform pcs show --json
    """
    emit(_announced(_platform(path)), as_json=as_json)


@pcs.command()
@path_option
@click.option("--advisory", "advisories", multiple=True, help="Why; may be given again.")
@_at
@json_option
def advance(
    path: Path | None, advisories: tuple[str, ...], at: int | None, *, as_json: bool
) -> None:
    """Announce a TCB recovery: the platform is out of date until `ensconce platform recover`.

    \b
    Example:
      ensconce platform pcs advance --advisory EXAMPLE-SA-00001
    """
    where = path or identity.default_path()
    found = load_identity(where)
    with changing_ledger(where, found) as ledger:
        ledger.advance(found, _time(at), advisories)
    emit(_announced(_platform(where)), as_json=as_json)


@pcs.command()
@path_option
@_at
@json_option
def revoke(path: Path | None, at: int | None, *, as_json: bool) -> None:
    """Revoke the platform's present PCK certificate; a TCB recovery brings a new one.

    \b
    Example:
      ensconce platform pcs revoke
    """
    where = path or identity.default_path()
    found = _platform(where)
    with changing_ledger(where, found.identity) as ledger:
        ledger.revoked.setdefault(found.pck.serial_number, _time(at))
    emit(_announced(_platform(where)), as_json=as_json)


def _role(backend: str, path: Path | None) -> QuotingRole:
    """Return who quotes, or say how to make the emulated platform."""
    chosen = chosen_backend("" if backend == "auto" else backend)
    if chosen == "emulated":
        load_identity(path or identity.default_path())
    return quoting_role(chosen, path)


def _platform(path: Path | None) -> EmulatedPlatform:
    """Return the platform, or say how to make one."""
    where = path or identity.default_path()
    load_identity(where)
    return EmulatedPlatform.load(where)


def _time(at: int | None) -> datetime:
    """Return the time asked for, in UTC."""
    return datetime.fromtimestamp(int(time.time()) if at is None else at, UTC)


def _announced(found: EmulatedPlatform) -> dict[str, object]:
    """Return what the test PCS says, as may be shown."""
    ledger, root = found.pcs.ledger, found.pcs.root.certificate()
    return {
        "root_ca_sha256": root.fingerprint(hashes.SHA256()),
        "root_ca_subject": root.subject.rfc4514_string(),
        "fmspc": found.pcs.fmspc,
        "pck_serial": f"{found.pck.serial_number:x}",
        "pck_revoked": found.pck.serial_number in ledger.revoked,
        "cpu_svn": found.identity.cpu_svn,
        "tcb_evaluation_data_number": ledger.evaluation,
        "tcb_up_to_date": ledger.levels[0].cpu_svn,
        "emulated": True,
    }
