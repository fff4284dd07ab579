# SPDX-License-Identifier: Apache-2.0
"""Find the enclave definition that a caller names: a file, a text, or a parsed one."""

import os
from collections.abc import Sequence
from pathlib import Path

from ensconce.edl import Interface
from ensconce.edl import load as load_edl
from ensconce.edl import loads as parse_edl

__all__ = ["find_interface"]


def find_interface(
    source: str | os.PathLike[str] | Interface, search_paths: Sequence[str | os.PathLike[str]]
) -> Interface:
    """Return the interface in an EDL file (imports are looked for beside it, then on the paths).

    A string with a brace in it is taken for EDL text. Raises FormatError.
    """
    if isinstance(source, Interface):
        return source
    if isinstance(source, str) and "{" in source:
        return parse_edl(source)
    path = Path(source)
    folders = [str(path.parent), *(os.fspath(each) for each in search_paths)]
    return load_edl(path.name, _read, folders)


def _read(path: str) -> str:
    """Return a text file's contents."""
    return Path(path).read_text(encoding="utf-8")
