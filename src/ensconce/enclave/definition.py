# SPDX-License-Identifier: Apache-2.0
"""Find the enclave definition that a caller names: a file, a text, or a parsed one."""

import os
from collections.abc import Sequence

from ensconce.edl import Interface
from ensconce.edl import loads as parse_edl
from ensconce.edl.files import load_file

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
    return load_file(source, search_paths)
