# SPDX-License-Identifier: Apache-2.0
"""`ensconce enclave`: look at enclave files and check them; signing and running are beside it."""

from pathlib import Path

import click

from ensconce.cli import LazyGroup
from ensconce.cli.output import emit, json_option, plain
from ensconce.errors import ConfigError, VerificationError
from ensconce.image import check_image, open_image, verify_image

__all__ = ["enclave", "enclave_file"]

enclave_file = click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="ENCLAVE"
)


@click.group(
    cls=LazyGroup,
    lazy={
        "key": "ensconce.cli.sign:key",
        "sign": "ensconce.cli.sign:sign",
        "gendata": "ensconce.cli.sign:gendata",
        "catsig": "ensconce.cli.sign:catsig",
        "dump": "ensconce.cli.sign:dump",
        "run": "ensconce.cli.running:run",
        "call": "ensconce.cli.running:call",
    },
)
def enclave() -> None:
    """Inspect, measure, verify, sign, run and call enclaves.

    \b
    Example:
      ensconce enclave inspect hello.signed.so --json
    """


@enclave.command()
@enclave_file
@json_option
def inspect(file: Path, *, as_json: bool) -> None:
    """Show what an enclave file is, asks for, and whether its signature covers it.

    \b
    Example:
      ensconce enclave inspect hello.signed.so
    """
    report = plain(verify_image(open_image(file)))
    date = f"{report['date']:08x}"
    report |= {"date": f"{date[:4]}-{date[4:6]}-{date[6:]}", "vendor": f"{report['vendor']:#06x}"}
    emit(report, as_json=as_json)


@enclave.command()
@enclave_file
@json_option
def measure(file: Path, *, as_json: bool) -> None:
    """Print the MRENCLAVE that an enclave file measures to, signed or not.

    \b
    Example:
      ensconce enclave measure hello.so
    """
    emit(
        {"mr_enclave": open_image(file).measure()},
        as_json=as_json,
        text=lambda result: result["mr_enclave"].hex(),
    )


@enclave.command()
@enclave_file
@click.option("--mr-enclave", metavar="HEX", help="Refuse any other MRENCLAVE.")
@click.option("--mr-signer", metavar="HEX", help="Refuse any other MRSIGNER.")
@json_option
def verify(file: Path, mr_enclave: str | None, mr_signer: str | None, *, as_json: bool) -> None:
    """Check that an enclave is the one that was signed, and by whom; exit 1 or 16 if it is not.

    \b
    Example:
      ensconce enclave verify hello.signed.so --mr-signer 83d719e7…
    """
    report = check_image(open_image(file))
    for name, wanted in (("mr_enclave", mr_enclave), ("mr_signer", mr_signer)):
        found: bytes = getattr(report, name)
        if wanted is not None and found != _digest(name, wanted):
            raise VerificationError(f"{file} has the {name} {found.hex()}, not {wanted}")
    emit(
        {"verified": True, "mr_enclave": report.mr_enclave, "mr_signer": report.mr_signer},
        as_json=as_json,
    )


def _digest(name: str, text: str) -> bytes:
    """Return a 32-byte hash given in hex."""
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ConfigError(f"--{name.replace('_', '-')} {text!r} is not 64 hexadecimal digits")
    return digest
