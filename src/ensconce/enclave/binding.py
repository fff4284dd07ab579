# SPDX-License-Identifier: Apache-2.0
"""Which host function serves which OCALL."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ensconce.enclave.ocalls import Frame, Handler, compile_ocall
from ensconce.enclave.scalars import Types
from ensconce.errors import ConfigError

__all__ = ["bind_ocalls", "raw_ocalls", "refusing"]

Functions = Mapping[str | int, Callable[..., Any]] | object


def bind_ocalls(
    types: Types,
    functions: Functions,
    standard: Mapping[str, Callable[..., Any]],
) -> dict[int, Handler]:
    """Return handlers by OCALL number for the functions that the host has.

    `functions` maps names or numbers to functions, or is an object with methods of the OCALLs'
    names; `standard` is asked for what it lacks. An OCALL that nobody has is left out: it fails
    when it is made. Raises ConfigError for a name that the EDL does not have.
    """
    interface = types.interface
    names = [ocall.name for ocall in interface.ocalls]
    if isinstance(functions, Mapping):
        unknown = [key for key in functions if isinstance(key, str) and key not in names]
        if unknown:
            raise ConfigError(
                f"the EDL has no OCALL {unknown[0]}; it has {', '.join(names) or 'none'}"
            )
    handlers = raw_ocalls(functions)
    for number, ocall in enumerate(interface.ocalls):
        function = _find(functions, ocall.name) or standard.get(ocall.name)
        if function is not None and number not in handlers:
            try:
                handlers[number] = compile_ocall(ocall, function, types)
            except ConfigError as error:
                handlers[number] = refusing(error)
    return handlers


def refusing(error: ConfigError) -> Callable[..., Any]:
    """Return a function that raises what kept a function from being made."""

    def refuse(*_arguments: Any, **_named: Any) -> Any:
        raise ConfigError(str(error)) from error

    return refuse


def raw_ocalls(functions: Functions) -> dict[int, Handler]:
    """Return handlers for functions given by number, which take an address and do the rest."""
    if not isinstance(functions, Mapping):
        return {}
    return {
        number: partial(_raw, function)
        for number, function in functions.items()
        if isinstance(number, int)
    }


def _raw(function: Callable[[int], object], _frame: Frame, ms: int) -> None:
    """Call a function that wants the marshalling structure's address only."""
    function(ms)


def _find(functions: Functions, name: str) -> Callable[..., Any] | None:
    """Return the host's function of a name."""
    if isinstance(functions, Mapping):
        found = functions.get(name)
    else:
        found = getattr(functions, name, None)
    if found is not None and not callable(found):
        raise ConfigError(f"OCALL {name} takes a function, not {type(found).__name__}")
    return found
