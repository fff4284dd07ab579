# SPDX-License-Identifier: Apache-2.0
"""`ensconce enclave key`, `sign`, `gendata`, `catsig`, `dump`, and the drop-in `sgx_sign`."""

import datetime
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ensconce.cli import run
from ensconce.cli.output import emit, json_option
from ensconce.errors import ConfigError
from ensconce.image.signing import replace_file
from ensconce.image.source import map_file
from ensconce.isa.sigstruct import SigStruct
from ensconce.sdk import sign as signing

__all__ = ["catsig", "dump", "gendata", "key", "main_sgx_sign", "sgx_sign", "sign"]

_MAX_SMALL_FILE = 1 << 16


_Command = TypeVar("_Command", bound=Callable[..., Any])


def _file(
    name: str, text: str, *, required: bool = True, exists: bool = True
) -> Callable[[_Command], _Command]:
    """Return an option that names a file."""
    kind = click.Path(exists=exists, dir_okay=False, path_type=Path)
    return click.option(f"--{name}", required=required, type=kind, help=text)


_enclave = _file("enclave", "The enclave's ELF file, as linked or signed before.")
_config = _file("config", "Enclave.config.xml; the defaults without it.", required=False)
_out = _file("out", "The file to write.", exists=False)


def _checks(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what a signing command lets pass."""

    @click.option(
        "--ignore-rel-error",
        is_flag=True,
        help="Let text relocations pass; such pages are writable.",
    )
    @click.option("--ignore-init-sec-error", is_flag=True, help="Let an .init section pass.")
    @click.option(
        "--resign",
        is_flag=True,
        help="Sign a signed file again; without --config as it was signed before.",
    )
    @functools.wraps(function)
    def command(
        *, ignore_rel_error: bool, ignore_init_sec_error: bool, resign: bool, **options: Any
    ) -> None:
        checks = signing.Checks(ignore_rel_error, ignore_init_sec_error, resign)
        function(checks=checks, **options)

    return command


@click.command()
@_enclave
@_file("key", "The RSA-3072 private key with exponent 3, in PEM.")
@_config
@_out
@_checks
@json_option
def sign(
    enclave: Path,
    key: Path,
    config: Path | None,
    out: Path,
    *,
    checks: signing.Checks,
    as_json: bool,
) -> None:
    """Sign an enclave. SOURCE_DATE_EPOCH sets the date, for equal bytes from equal sources.

    \b
    Example:
      ensconce enclave sign --enclave hello.so --key key.pem --out hello.signed.so
    """
    signed = signing.sign(
        enclave,
        out,
        signing.load_signing_key(key),
        config=_read(config),
        checks=checks,
        date=_date(),
    )
    emit(_facts(out, signed), as_json=as_json)


@click.command()
@_enclave
@_config
@_out
@_checks
@json_option
def gendata(
    enclave: Path,
    config: Path | None,
    out: Path,
    *,
    checks: signing.Checks,
    as_json: bool,
) -> None:
    """Write the 256 bytes to sign where the private key lives elsewhere.

    \b
    Example:
      ensconce enclave gendata --enclave hello.so --out hello.tosign
      openssl dgst -sha256 -sign key.pem -out hello.sig hello.tosign
    """
    data = signing.gendata(
        enclave,
        config=_read(config),
        checks=checks,
        date=_date(),
    )
    replace_file(out, lambda put: put(data), mode=0o644)
    emit({"out": out, "bytes": len(data)}, as_json=as_json)


@click.command()
@_enclave
@_file("key", "The RSA-3072 public key, in PEM.")
@_file("sig", "The signature, 384 bytes, over what gendata wrote.")
@_file("unsigned", "What gendata wrote.")
@_config
@_out
@_checks
@json_option
def catsig(
    enclave: Path,
    key: Path,
    sig: Path,
    unsigned: Path,
    config: Path | None,
    out: Path,
    *,
    checks: signing.Checks,
    as_json: bool,
) -> None:
    """Put a signature that was made elsewhere into an enclave.

    \b
    Example:
      ensconce enclave catsig --enclave hello.so --key public.pem --sig hello.sig \\
        --unsigned hello.tosign --out hello.signed.so
    """
    signed = signing.catsig(
        enclave,
        out,
        signing.load_public_key(key),
        signature=bytes(map_file(sig)[:_MAX_SMALL_FILE]),
        unsigned=bytes(map_file(unsigned)[:_MAX_SMALL_FILE]),
        config=_read(config),
        checks=checks,
    )
    emit(_facts(out, signed), as_json=as_json)


@click.command()
@_enclave
@_file("cssfile", "Where to write the SIGSTRUCT.", required=False, exists=False)
@json_option
def dump(enclave: Path, cssfile: Path | None, *, as_json: bool) -> None:
    """Print a signed enclave's metadata, and write its SIGSTRUCT.

    \b
    Example:
      ensconce enclave dump --enclave hello.signed.so --cssfile hello.css
    """
    text, sigstruct = signing.dump(enclave)
    if cssfile is not None:
        css = bytes(sigstruct)
        replace_file(cssfile, lambda put: put(css), mode=0o644)
    emit({"metadata": text, "sigstruct": bytes(sigstruct)}, as_json=as_json, text=lambda _: text)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def key(file: Path, *, as_json: bool) -> None:
    """Make a signing key, RSA-3072 with exponent 3, in a file that only you can read.

    What it signs, it vouches for, and what is sealed to it only its enclaves open: keep it safe.

    \b
    Example:
      ensconce enclave key signing-key.pem
    """
    made = signing.make_signing_key(file)
    emit({"key": file, "mr_signer": made.mr_signer}, as_json=as_json)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sgx_sign(arguments: tuple[str, ...]) -> None:
    """Sign an enclave with the vendor tool's command line."""
    if not arguments or arguments[0].lstrip("-") in ("help", "h"):
        click.echo(_USAGE, nl=False)
    elif arguments[0] == "-version":
        click.echo("sgx_sign of ensconce")
    else:
        click.echo(signing.run(arguments, date=_date()), nl=False)


def main_sgx_sign() -> None:
    """Be the `sgx_sign` command."""
    sys.exit(run(sgx_sign))


_USAGE = """\
Usage: sgx_sign COMMAND -enclave FILE OPTIONS

  sign    -key FILE -out FILE [-config FILE] [-dumpfile FILE] [-cssfile FILE]
  gendata -out FILE [-config FILE]
  catsig  -key FILE -sig FILE -unsigned FILE -out FILE [-config FILE] [-dumpfile FILE]
          [-cssfile FILE]
  dump    -dumpfile FILE [-cssfile FILE]

  sign, gendata and catsig: -ignore-rel-error -ignore-init-sec-error -resign
"""


def _read(config: Path | None) -> Any:
    """Return the configuration in a file, where one is given."""
    return None if config is None else signing.read_config(config)


def _date() -> datetime.date | None:
    """Return the day that SOURCE_DATE_EPOCH names, None for today."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return None
    try:
        return datetime.datetime.fromtimestamp(int(text), datetime.UTC).date()
    except (ValueError, OverflowError, OSError):
        raise ConfigError(
            f"SOURCE_DATE_EPOCH is {text!r}, which is no number of seconds since 1970; unset it"
        ) from None


def _facts(out: Path, signed: signing.Signed) -> dict[str, object]:
    """Return what a signer wants to see."""
    css: SigStruct = signed.sigstruct
    return {
        "out": out,
        "mr_enclave": css.enclave_hash,
        "mr_signer": css.mr_signer,
        "isv_prod_id": css.isv_prod_id,
        "isv_svn": css.isv_svn,
        "debug": bool(css.attributes.flags & 2) or not css.attribute_mask.flags & 2,
        "memory": signed.memory,
    }
