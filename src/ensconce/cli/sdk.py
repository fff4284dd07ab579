# SPDX-License-Identifier: Apache-2.0
"""`ensconce sdk`: build enclaves."""

import sys
from pathlib import Path

import click

from ensconce.cli import run
from ensconce.cli.output import emit, json_option, show_progress
from ensconce.edl import stubs
from ensconce.edl.files import load_file
from ensconce.image.source import map_file
from ensconce.sdk import edger8r as edger8r_tool
from ensconce.sdk.build import build as build_enclave
from ensconce.sdk.lint import Allow, Report, Severity, read_allow_file
from ensconce.sdk.lint import lint as lint_image
from ensconce.sdk.new import Host, Language, new_project
from ensconce.sdk.sdk_tree import sdk_tree
from ensconce.sdk.toolchain import Mitigation

__all__ = ["main_edger8r", "sdk"]

_FUNCTIONS_SHOWN = 20
_LEVELS = click.Choice([level.value for level in Mitigation])

_PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.group()
def sdk() -> None:
    """Build enclaves from C and EDL.

    \b
    Example:
      ensconce sdk build enclave.c --edl enclave.edl --out enclave.so
    """
    show_progress("ensconce.sdk")


@sdk.command()
@click.argument("name", type=click.Path(path_type=Path))
@click.option(
    "--language", type=click.Choice([*map(str, Language)]), default="c", show_default=True
)
@click.option("--host", type=click.Choice([*map(str, Host)]), default="python", show_default=True)
@json_option
def new(name: Path, language: str, host: str, *, as_json: bool) -> None:
    """Write a new project: an enclave, its host, tests, and a Makefile.

    \b
    Example:
      ensconce sdk new hello && make -C hello run
    """
    files = new_project(name, language=Language(language), host=Host(host))
    facts = {"project": name, "language": language, "host": host, "files": files}
    emit(
        facts,
        as_json=as_json,
        text=lambda _: f"{name} is ready: `make -C {name} run` builds and runs it",
    )


@sdk.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--edl", required=True, type=click.Path(path_type=Path), help="The interface.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The image to write.")
@click.option("-I", "--include", multiple=True, help="A folder of headers.")
@click.option("-D", "--define", multiple=True, metavar="NAME[=VALUE]", help="A macro.")
@click.option("--search-path", multiple=True, help="A folder of EDL files to import.")
@click.option(
    "--mitigation",
    type=_LEVELS,
    default=Mitigation.NONE.value,
    help="Against load value injection: control flow, or loads as well (several times slower).",
)
@json_option
def build(
    sources: tuple[Path, ...],
    edl: Path,
    out: Path,
    include: tuple[str, ...],
    define: tuple[str, ...],
    search_path: tuple[str, ...],
    mitigation: str,
    *,
    as_json: bool,
) -> None:
    """Compile, link and check an enclave; `ensconce enclave sign` signs it.

    \b
    Example:
      ensconce sdk build enclave.c --edl enclave.edl --out enclave.so
    """
    image = build_enclave(
        sources,
        edl,
        out,
        include=include,
        defines=define,
        search_paths=search_path,
        mitigation=Mitigation(mitigation),
    )
    emit({"image": image, "size": image.stat().st_size}, as_json=as_json)


@sdk.command()
@click.option(
    "--mitigation",
    type=click.Choice(["cf", "load"]),
    multiple=True,
    help="Libraries for MITIGATION-CVE-2020-0551 as well.",
)
@json_option
def path(mitigation: tuple[str, ...], *, as_json: bool) -> None:
    """Print the folder that Makefiles call SGX_SDK; the first time builds it.

    \b
    Example:
      SGX_SDK=$(ensconce sdk path) make
      . $(ensconce sdk path)/environment
    """
    tree = sdk_tree(mitigations=[Mitigation(each) for each in mitigation])
    if as_json:
        emit({"sgx_sdk": tree}, as_json=True)
    else:
        click.echo(tree)


@sdk.command()
@click.argument("image", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--allow", multiple=True, metavar="CHECK[@SYMBOL]", help="A check that may fail, and where."
)
@click.option(
    "--allow-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help='A TOML file: allow = ["CHECK@SYMBOL", …].',
)
@click.option("--strict", is_flag=True, help="Warnings fail as well.")
@click.option(
    "--mitigation", type=_LEVELS, default=Mitigation.NONE.value, help="The least to accept."
)
@json_option
def lint(
    image: Path,
    allow: tuple[str, ...],
    allow_file: Path | None,
    mitigation: str,
    *,
    strict: bool,
    as_json: bool,
) -> int:
    """Say what is wrong with an enclave's image, signed or not; exit 1 for errors.

    \b
    Example:
      ensconce sdk lint hello.so --mitigation cf --allow illegal-instruction@probe_cpu
    """
    allows = [*map(Allow.parse, allow), *(read_allow_file(allow_file) if allow_file else ())]
    report = lint_image(
        bytes(map_file(image)), str(image), allow=allows, mitigation=Mitigation(mitigation)
    )
    emit(_lint_facts(image, report), as_json=as_json, text=lambda _: _lint_text(report))
    worst = Severity.WARNING if strict else Severity.ERROR
    return int(any(finding.severity >= worst for finding in report.findings))


def _lint_facts(image: Path, report: Report) -> dict[str, object]:
    """Return a lint's report as JSON has it."""
    return {
        "image": image,
        "signed": report.signed,
        "errors": report.count(Severity.ERROR),
        "warnings": report.count(Severity.WARNING),
        "mitigation": report.fences.level,
        "fences": {
            kind.name.lower(): {
                "total": tally.total,
                "bare": tally.bare,
                "functions": dict(tally.functions.most_common(_FUNCTIONS_SHOWN)),
            }
            for kind, tally in report.fences.tallies.items()
        },
        "unjudged_instructions": report.fences.unjudged,
        "findings": report.findings,
        "allowed": report.allowed,
    }


def _lint_text(report: Report) -> str:
    """Return a lint's report as a person reads it."""
    counts = f"{report.count(Severity.ERROR)} errors, {report.count(Severity.WARNING)} warnings"
    allowed = f", {len(report.allowed)} allowed" if report.allowed else ""
    unjudged = report.fences.unjudged
    note = f"; {unjudged} instructions outside of functions were not judged" if unjudged else ""
    return "\n".join([*map(str, report.findings), counts + allowed + note])


@sdk.command()
@click.argument("edl", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def stub(edl: Path) -> None:
    """Print the Python type stub of an EDL file's ECALLs and OCALLs.

    \b
    Example:
      ensconce sdk stub enclave.edl > hello.pyi
    """
    click.echo(stubs.stub(load_file(edl)), nl=False)


@sdk.command(context_settings=_PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def edger8r(arguments: tuple[str, ...]) -> int:
    """Generate the edge routines of an EDL file, with the vendor tool's options."""
    made = edger8r_tool.generate(arguments)
    if made.help:
        click.echo(edger8r_tool.USAGE, nl=False)
    for warning in made.warnings:
        click.echo(f"{warning.position}: warning: {warning.message}", err=True)
    edger8r_tool.write(made.files)
    return 0


def main_edger8r() -> None:
    """Be the `sgx_edger8r` command."""
    sys.exit(run(edger8r))
