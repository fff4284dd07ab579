# SPDX-License-Identifier: Apache-2.0
"""Settings of a provider: a frozen dataclass from flags and a TOML file, whose keys are known."""

import ipaddress
import tomllib
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ensconce.errors import ConfigError

__all__ = ["check_networks", "make_settings", "read_toml"]

Settings = TypeVar("Settings")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML: {error}; correct it there") from error


def make_settings(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Return checked settings from plain values; ConfigError names the first that is wrong."""
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{where} has no setting {name!r}; it takes {', '.join(known)}")
        if not _fits(value, hints[name]):
            raise ConfigError(f"{name} of {where} is {value!r}, which is no {_words(hints[name])}")
    missing = [
        name
        for name, field in known.items()
        if name not in values and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise ConfigError(f"{where} needs {', '.join(missing)}")
    return kind(**{name: _plain(value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    """Return lists as tuples, so that settings stay as they are."""
    return tuple(value) if isinstance(value, list) else value


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a setting's type: str, int, bool, tuple of str, dict of str."""
    if get_origin(hint) is tuple:
        return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
    if isinstance(hint, types.UnionType):
        return any(
            value is None if each is type(None) else _fits(value, each) for each in get_args(hint)
        )
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    """Return a type in words."""
    names = {str: "text", int: "whole number", bool: "true or false"}
    if get_origin(hint) is tuple:
        return "list of texts"
    return names.get(hint, "table of texts" if get_origin(hint) is dict else str(hint))


def check_networks(**networks: str) -> None:
    """Refuse networks that are no private IPv4 networks, or that overlap."""
    seen: dict[str, ipaddress.IPv4Network] = {}
    for name, text in networks.items():
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError as error:
            raise ConfigError(f"{name} {text!r} is no IPv4 network ({error})") from None
        if not network.is_private:
            raise ConfigError(f"{name} {text} is not private; take one of 10.0.0.0/8 or the like")
        for other, taken in seen.items():
            if network.overlaps(taken):
                raise ConfigError(f"{name} {text} overlaps {other} {taken}; choose another")
        seen[name] = network
