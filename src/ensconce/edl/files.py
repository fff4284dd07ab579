# SPDX-License-Identifier: Apache-2.0
"""EDL files: reading those of users, and where those are that come along.

It is the one module of the language that touches a file system.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from ensconce.edl.imports import load
from ensconce.edl.lexer import MAX_SOURCE
from ensconce.edl.model import Interface
from ensconce.errors import FormatError

__all__ = ["LIBRARY", "load_file", "read_source"]

# The files that an enclave's own may import, such as sgx_tstdc.edl.
LIBRARY = Path(__file__).parent / "library"

_MAX_BYTES = 4 * MAX_SOURCE  # UTF-8 takes four for a character at most


def load_file(
    path: str | os.PathLike[str], search_paths: Iterable[str | os.PathLike[str]] = ()
) -> Interface:
    """Return the checked interface in an EDL file.

    Imports are looked up beside it, in `search_paths`, and in LIBRARY. Raises FormatError.
    """
    path = Path(path)
    places = [path.parent, *search_paths, LIBRARY]
    return load(path.name, read_source, [os.fspath(place) for place in places])


def read_source(path: str) -> str:
    """Return an EDL file's text; bytes that are no UTF-8 (in comments) are kept as surrogates."""
    with Path(path).open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise FormatError(f"{path} is too large for an EDL file: name another", source=path)
    return content.decode("utf-8", "surrogateescape")
