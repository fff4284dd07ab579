# SPDX-License-Identifier: Apache-2.0
"""Print a result for a person or, with --json, for a program."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum, Flag
from pathlib import Path
from typing import Any

import click

__all__ = ["emit", "json_option", "plain", "show_progress", "table"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: bytes in hex, times in ISO 8601, enumerations by name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Flag):
        return value.value
    if isinstance(value, Enum):
        return value.name.lower() if isinstance(value.value, int) else value.value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def table(result: Any) -> str:
    """Return a mapping as aligned lines of name and value; nested ones are indented."""
    return "\n".join(_lines(plain(result), ""))


def _lines(mapping: dict[str, Any], indent: str) -> list[str]:
    """Return the lines of one level."""
    width = max((len(key) for key in mapping), default=0)
    lines = []
    for key, value in mapping.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key:<{width}}  {_word(value)}")
    return lines


def _word(value: Any) -> str:
    """Return one value as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def show_progress(part: str) -> None:
    """Let what a part of the library says of long work appear on standard error."""
    logger = logging.getLogger(part)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def emit(result: Any, *, as_json: bool, text: Callable[[Any], str] = table) -> None:
    """Print a result in the form asked for."""
    click.echo(json.dumps(plain(result), indent=2) if as_json else text(result))
