# SPDX-License-Identifier: Apache-2.0
"""`ensconce cluster manifests|install|…`: ensconce on a cluster, by the chart's objects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml

from ensconce.cli.output import emit, json_option
from ensconce.kube.install.chart import chart, load_values

__all__ = ["manifests"]


def _values_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that values come from."""
    command = click.option(
        "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set one value (YAML)."
    )(command)
    return click.option(
        "-f",
        "--values",
        "files",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="A file of values; may be given again.",
    )(command)


@click.command()
@_values_options
@json_option
def manifests(files: tuple[Path, ...], settings: tuple[str, ...], *, as_json: bool) -> None:
    """Print the objects that an install applies: the same that Helm makes of the chart.

    \b
    Example:
      ensconce cluster manifests --set emulated.enabled=true | kubectl diff -f -
    """
    objects = chart().objects(load_values(files, settings))
    emit(objects, as_json=as_json, text=lambda found: yaml.safe_dump_all(found, sort_keys=False))
