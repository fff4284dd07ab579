# SPDX-License-Identifier: Apache-2.0
"""`ensconce image`: container images of confidential apps, without Docker."""

import shlex
from pathlib import Path
from typing import Any

import click

from ensconce.cli.output import emit, json_option, plain, show_progress, table
from ensconce.errors import ConfigError
from ensconce.oci.application import App, build_app
from ensconce.oci.inspection import ImageContent, inspect_archive

__all__ = ["image"]

_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_place = click.Path(exists=True, path_type=Path)


@click.group()
def image() -> None:
    """Build container images of confidential apps, and look into images.

    \b
    Example:
      ensconce image build --app host --enclave enclave.signed.so --name registry.example/app:1 \\
          --output app.oci.tar
      podman load -i app.oci.tar
    """


@image.command()
@click.option("--app", "program", type=_file, required=True, help="The host program; goes to /app.")
@click.option("--enclave", type=_file, multiple=True, required=True, help="A signed enclave.")
@click.option("--name", required=True, metavar="NAME:TAG", help="What the image is called.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The archive.")
@click.option("--library", type=_file, multiple=True, help="A shared library of the host's.")
@click.option("--file", "files", multiple=True, metavar="SRC:DST", help="A file or folder more.")
@click.option("--entrypoint", metavar="COMMAND", help="Instead of the program alone.")
@click.option("--command", metavar="ARGUMENTS", help="Arguments that a pod may replace (CMD).")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable.")
@click.option("--label", multiple=True, metavar="NAME=VALUE", help="A label.")
@click.option("--package", multiple=True, help="A Debian package that the host program needs.")
@click.option("--base", type=_place, help="An OCI archive or layout to build on.")
@click.option("--user", default="65532:65532", show_default=True, help="Who the program runs as.")
@click.option("--production", is_flag=True, help="Refuse enclaves that may be debugged.")
@click.option(
    "--dangerous-file", multiple=True, metavar="DST", help="A path that may hold a secret."
)
@json_option
def build(output: Path, *, as_json: bool, **options: Any) -> None:
    """Build an image of a host program and its enclaves, as an archive that any runtime loads.

    Enclaves are checked first, and who they are is written in the image's annotations. The same
    inputs give the same bytes. A registry is reached by `skopeo copy oci-archive:FILE docker://…`.

    \b
    Example:
      ensconce image build --app host --enclave enclave.signed.so --name app:1 \\
          --output app.oci.tar --env LOG=info --file conf:/etc/app
    """
    show_progress("ensconce.oci")
    emit(build_app(_app(options), output), as_json=as_json)


@image.command()
@click.argument("file", type=_place)
@json_option
def inspect(file: Path, *, as_json: bool) -> None:
    """Show an image's configuration, its layers, and the enclaves in it; exit 1 for a false one.

    Enclaves are measured; what the annotations say is compared with it.

    \b
    Example:
      ensconce image inspect app.oci.tar --json
    """
    content = inspect_archive(file)
    emit(content, as_json=as_json, text=_text)
    if content.faults:
        raise click.exceptions.Exit(1)


def _app(options: dict[str, Any]) -> App:
    """Return what the options of `build` ask for."""
    return App(
        name=options["name"],
        program=options["program"],
        enclaves=options["enclave"],
        libraries=options["library"],
        files=[(Path(a), b) for a, b in (_pair(each, ":", "--file") for each in options["files"])],
        entrypoint=shlex.split(options["entrypoint"] or ""),
        command=shlex.split(options["command"] or ""),
        environment=dict(_pair(each, "=", "--env") for each in options["env"]),
        labels=dict(_pair(each, "=", "--label") for each in options["label"]),
        packages=options["package"],
        base=options["base"],
        user=options["user"],
        production=options["production"],
        dangerous_files=frozenset(each.strip("/") for each in options["dangerous_file"]),
    )


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    """Return both sides of an option's value."""
    left, found, right = text.partition(separator)
    if not left or not found:
        raise ConfigError(f"{option} {text!r} is not of the form LEFT{separator}RIGHT")
    return left, right


def _text(content: ImageContent) -> str:
    """Return what a person wants to see of an image."""
    shown = plain(content)
    shown["layers"] = {each.digest[7:19]: f"{each.size} bytes" for each in content.layers}
    shown["enclaves"] = {each.pop("path"): each for each in shown["enclaves"]}
    return table(shown)
