# SPDX-License-Identifier: Apache-2.0
"""Layers that were made already, by the hash of all that they are made of."""

import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ensconce.oci.archive import Layer, make_layer
from ensconce.oci.tree import Tree
from ensconce.sdk.toolchain import cache_folder

__all__ = ["images_cache", "kept_layer"]

_KEPT = (
    "archive.py",
    "base.py",
    "debian.py",
    "release.py",
    "tar.py",
    "tree.py",
)  # what decides on content


def images_cache() -> Path:
    """Return the folder for images' parts, which may be deleted at any time."""
    return cache_folder() / "images"


def kept_layer(
    comment: str, when: int, ingredients: Iterable[str], make: Callable[[Path], Tree]
) -> tuple[Layer, Path]:
    """Return a layer, and the folder of what `make` has put beside it; make both if need be."""
    here = Path(__file__).parent
    code = [(here / name).read_text() for name in _KEPT]
    parts = [comment, str(when), zlib.ZLIB_RUNTIME_VERSION, *code, *ingredients]
    target = images_cache() / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    if not target.is_dir():
        _make(target, comment, when, make)
    diff_id = (target / "diff_id").read_text()
    return Layer((target / "layer").read_bytes(), diff_id, comment=comment), target / "more"


def _make(target: Path, comment: str, when: int, make: Callable[[Path], Tree]) -> None:
    """Make a layer's folder, which is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=target.parent))
    try:
        (work / "more").mkdir()
        layer = make_layer(make(work / "more"), when, comment)
        (work / "layer").write_bytes(layer.blob)
        (work / "diff_id").write_text(layer.diff_id)
        try:
            work.rename(target)
        except OSError:
            if not target.is_dir():  # else somebody else was faster
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
