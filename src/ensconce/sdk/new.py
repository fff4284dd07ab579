# SPDX-License-Identifier: Apache-2.0
"""Write the start of a project: an enclave, a host for it, tests, and what builds them.

The files lie in `skeleton/` as they will be written, but for `@@name` and its like.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from string import Template

from ensconce.errors import ConfigError

__all__ = ["Host", "Language", "new_project"]

_SKELETON = Path(__file__).parent / "skeleton"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_RENAMED = {"gitignore": ".gitignore"}  # packaging leaves files with a dot out


class Language(StrEnum):
    """What the enclave is written in."""

    C = "c"
    CPP = "cpp"


class Host(StrEnum):
    """What the host program is written in."""

    C = "c"
    PYTHON = "python"


class _Skeleton(Template):
    """A file of the skeleton: make, C and Python have other uses for the usual `$`."""

    delimiter = "@@"


def new_project(
    path: Path, *, language: Language = Language.C, host: Host = Host.PYTHON
) -> list[Path]:
    """Write a project to a folder that is not there yet; return its files, relative to it.

    It is written whole or not at all. Raises ConfigError for a bad name, and where there is
    something of that name already.
    """
    name = path.name
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} can't name a project: use up to 64 letters, digits, - and _, a letter first"
        )
    if os.path.lexists(path):
        raise ConfigError(f"{path} is there already; choose another name, or move it away")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} to write {name} to; make it first")
    facts = {
        "name": name,
        "extension": language.value,
        "language": {Language.C: "C", Language.CPP: "C++"}[language],
    }
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=path.parent) as beside:
        folder = Path(beside, name)
        files = list(_write(folder, ("common", language.value, f"host-{host}"), facts))
        folder.rename(path)
    return sorted(files)


def _write(folder: Path, parts: tuple[str, ...], facts: dict[str, str]) -> Iterator[Path]:
    """Write the files of some parts of the skeleton; yield their names."""
    for part in parts:
        for source in sorted((_SKELETON / part).rglob("*")):
            if not source.is_file() or source.suffix == ".pyc":
                continue
            name = source.relative_to(_SKELETON / part)
            name = name.with_name(_RENAMED.get(name.name, name.name))
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_Skeleton(source.read_text()).substitute(facts))
            yield name
