# SPDX-License-Identifier: Apache-2.0
"""`ensconce enclave run` and `call`: load an enclave and use it from the command line."""

import runpy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from ensconce.cli.enclave import enclave_file
from ensconce.cli.output import emit, json_option, plain
from ensconce.edl import Interface
from ensconce.edl.files import load_file
from ensconce.edl.model import Direction, Parameter
from ensconce.enclave import Enclave, default_device
from ensconce.enclave import load as load_enclave
from ensconce.enclave.system import SYSTEM_OCALLS
from ensconce.errors import ConfigError

__all__ = ["call", "run"]

_MAX_OUT = 1 << 30

_backend = click.option(
    "--backend",
    type=click.Choice(["auto", "hardware", "emulated"]),
    default="auto",
    show_default=True,
    help="The processor to use.",
)
_debug = click.option(
    "--debug/--no-debug", default=None, help="Load as a debug enclave or not; as signed otherwise."
)
_ocalls = click.option(
    "--ocalls",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Python file whose functions are the OCALLs; else they are printed and answer 0.",
)
_search_path = click.option("--search-path", multiple=True, help="A folder of EDL files to import.")


@click.command()
@enclave_file
@_backend
@_debug
@json_option
def run(file: Path, backend: str, *, debug: bool | None, as_json: bool) -> None:
    """Load and initialise an enclave, say how that went, and unload it.

    \b
    Example:
      ensconce enclave run hello.signed.so
    """
    began = time.monotonic()
    with _load(file, backend, debug=debug) as enclave:
        result = {
            "loaded": True,
            "backend": enclave.device.name,
            "mr_enclave": enclave.image.measure(),
            "base": f"{enclave.base:#x}",
            "size": enclave.secs.size,
            "attributes": enclave.secs.attributes,
            "seconds": round(time.monotonic() - began, 3),
        }
    emit(result, as_json=as_json)


@click.command(context_settings={"ignore_unknown_options": True})
@enclave_file
@click.argument("function")
@click.argument("arguments", nargs=-1)
@click.option(
    "--edl",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The enclave's interface.",
)
@_search_path
@_ocalls
@_backend
@_debug
@json_option
def call(
    file: Path,
    function: str,
    arguments: tuple[str, ...],
    edl: Path,
    search_path: tuple[str, ...],
    ocalls: Path | None,
    backend: str,
    *,
    debug: bool | None,
    as_json: bool,
) -> None:
    """Call one ECALL of an enclave.

    Numbers are written as in C. A pointer takes text, hex:…, @FILE, out:BYTES for a buffer that
    the enclave fills, or null.

    \b
    Example:
      ensconce enclave call hello.signed.so --edl enclave.edl add 2 40
      ensconce enclave call hello.signed.so --edl enclave.edl greet Ada out:64 64
    """
    interface = load_file(edl, search_path)
    values = _values(interface, function, arguments)
    handlers = _handlers(interface, ocalls)
    with _load(file, backend, debug=debug, edl=interface, ocalls=handlers) as enclave:
        returned = enclave.calls[function](*values.values())
    out = {name: bytes(value) for name, value in values.items() if isinstance(value, bytearray)}
    emit({"returned": returned} | out, as_json=as_json)


def _load(file: Path, backend: str, **options: Any) -> Enclave:
    """Load an enclave with a progress bar where that takes long."""
    device = default_device("" if backend == "auto" else backend)
    with click.progressbar(
        length=1, label="loading", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def progress(done: int, whole: int) -> None:
            bar.length = whole
            bar.update(done - bar.pos)

        return load_enclave(file, device=device, progress=progress, **options)


def _values(interface: Interface, function: str, texts: tuple[str, ...]) -> dict[str, Any]:
    """Return an ECALL's arguments by name, from text."""
    ecall = next((each for each in interface.ecalls if each.name == function), None)
    if ecall is None:
        known = ", ".join(each.name for each in interface.ecalls)
        raise ConfigError(f"there is no ECALL {function}; the interface has {known}")
    if len(texts) != len(ecall.parameters):
        names = " ".join(each.name for each in ecall.parameters) or "no arguments"
        raise ConfigError(f"{function} takes {names}; {len(texts)} arguments were given")
    pairs = zip(ecall.parameters, texts, strict=True)
    return {each.name: _value(each, text) for each, text in pairs}


def _value(parameter: Parameter, text: str) -> Any:
    """Return one argument from its text; see `call`."""
    try:
        if parameter.by_value and parameter.type.is_float:
            return float(text)
        if parameter.user_check or (parameter.by_value and not text.startswith("hex:")):
            return 0 if text == "null" else int(text, 0)
        return None if text == "null" else _memory(parameter, text)
    except ValueError as error:
        raise ConfigError(
            f"{parameter.name} is {parameter.type}, which {text!r} is not ({error})"
        ) from None


def _memory(parameter: Parameter, text: str) -> str | bytes | bytearray:
    """Return what a pointer argument points to."""
    if text.startswith("out:"):
        size = int(text[4:], 0)
        if not 0 <= size <= _MAX_OUT:
            raise ValueError(f"a buffer takes 0 to {_MAX_OUT} bytes")
        return bytearray(size)
    data: str | bytes = text
    if text.startswith("hex:"):
        data = bytes.fromhex(text[4:])
    elif text.startswith("@"):
        data = Path(text[1:]).read_bytes()
    if Direction.OUT in parameter.direction:
        return bytearray(data.encode() if isinstance(data, str) else data)
    return data.encode() if isinstance(data, str) and not parameter.is_text else data


def _handlers(interface: Interface, file: Path | None) -> Mapping[str | int, Callable[..., Any]]:
    """Return the OCALLs of a Python file, or ones that print what they are called with.

    Those of the C library are left to the enclave package, which answers them.
    """
    given = runpy.run_path(str(file)) if file is not None else {}
    names = [each.name for each in interface.ocalls]
    return {
        name: given.get(name, _printer(name))
        for name in names
        if name in given or name not in SYSTEM_OCALLS
    }


def _printer(name: str) -> Callable[..., int]:
    """Return an OCALL that prints its arguments and answers 0."""

    def ocall(*values: Any) -> int:
        shown = ", ".join(str(plain(value)) for value in values)
        click.echo(f"{name}({shown})", err=True)
        return 0

    return ocall
