# SPDX-License-Identifier: Apache-2.0
"""The `sgx_edger8r` command without its printing: arguments in, generated files out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ensconce.edl import Reader, load, require_public_ecall
from ensconce.edl.files import read_source
from ensconce.edl.model import EdlWarning
from ensconce.errors import ConfigError
from ensconce.sdk.bridges import trusted_files, untrusted_files

__all__ = ["USAGE", "Generated", "generate", "write"]

USAGE = """\
Usage: sgx_edger8r [options] FILE.edl ...

  --search-path PATH    look for EDL files in PATH (several: repeat, or join with `:`)
  --use-prefix          begin the names of the host's ECALL functions with the enclave's
  --header-only         write headers only
  --untrusted           write the host's files only
  --trusted             write the enclave's files only
  --untrusted-dir DIR   where the host's files go (default: the working folder)
  --trusted-dir DIR     where the enclave's files go (default: the working folder)
  --help                show this text

Without --untrusted and --trusted both are written.
"""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a run gives: files to write by path, warnings; `help` asks for USAGE to be shown."""

    files: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[EdlWarning, ...] = ()
    help: bool = False


@dataclass(slots=True)
class _Options:
    """The command line as understood."""

    files: list[str] = field(default_factory=list)
    search_paths: list[str] = field(default_factory=lambda: ["."])
    flags: set[str] = field(default_factory=set)
    directories: dict[str, str] = field(
        default_factory=lambda: {"--untrusted-dir": ".", "--trusted-dir": "."}
    )


_FLAGS = ("--use-prefix", "--header-only", "--untrusted", "--trusted", "--help")


def generate(arguments: Sequence[str], read: Reader | None = None) -> Generated:
    """Do what the command does with these arguments, but for writing and printing.

    Raises ConfigError for wrong arguments and FormatError for a wrong EDL file.
    """
    options = _parse(arguments)
    if "--help" in options.flags:
        return Generated(help=True)
    if not options.files:
        raise ConfigError("no EDL file is named: add one to the command (see --help)")
    files: dict[str, str] = {}
    warnings: list[EdlWarning] = []
    for path in options.files:
        interface = load(path, read or read_source, options.search_paths)
        warnings += interface.warnings
        header_only = "--header-only" in options.flags
        if not header_only:
            require_public_ecall(interface)
        both = not options.flags & {"--untrusted", "--trusted"}
        if both or "--untrusted" in options.flags:
            prefix = "--use-prefix" in options.flags
            made = untrusted_files(interface, header_only=header_only, prefix=prefix)
            files |= _under(options.directories["--untrusted-dir"], made)
        if both or "--trusted" in options.flags:
            made = trusted_files(interface, header_only=header_only)
            files |= _under(options.directories["--trusted-dir"], made)
    return Generated(files, tuple(warnings))


def _parse(arguments: Sequence[str]) -> _Options:
    """Understand the arguments; option names may have any case, as with the vendor's tool."""
    options = _Options()
    rest = list(reversed(arguments))
    while rest:
        argument = rest.pop()
        name = argument.lower()
        if name in _FLAGS:
            options.flags.add(name)
        elif name == "--search-path" or name in options.directories:
            if not rest:
                raise ConfigError(f"{name} needs a value: add a folder")
            value = rest.pop()
            if name == "--search-path":
                # What is named last is searched first; the working folder stays the last.
                options.search_paths[:0] = [part for part in value.split(":") if part]
            else:
                options.directories[name] = value
        elif argument.startswith("--"):
            raise ConfigError(f"unknown option {argument}: remove it (see --help)")
        else:
            options.files.append(argument)
    return options


def _under(directory: str, files: Mapping[str, str]) -> dict[str, str]:
    return {str(Path(directory, name)): text for name, text in files.items()}


def write(files: Mapping[str, str]) -> None:
    """Write generated files, making their folders."""
    for path, text in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, "utf-8", "surrogateescape")
