# SPDX-License-Identifier: Apache-2.0
"""Say what an image is: its configuration, its layers, and the enclaves found in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ensconce.errors import EnsconceError
from ensconce.oci.application import (
    ENCLAVES_ANNOTATION,
    PackedEnclave,
    enclaves_annotation,
    packed_enclave,
)
from ensconce.oci.reading import Archive, StoredLayer, open_archive
from ensconce.oci.tar import MemberKind

__all__ = ["ImageContent", "inspect_archive"]

_MARK = b"sgx_metadata\0"  # the note in every enclave of the SDK's format
_LARGEST_ENCLAVE = 256 << 20
_MOST_ENCLAVES = 16
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class ImageContent:
    """An image's configuration and what was found in it; sizes in bytes.

    `enclaves` were measured here, whatever the annotations say; `faults` are files that look
    like enclaves and do not verify, by path, or an annotation that is not true. `unread` are layers
    in a form that can't be read here.
    """

    name: str
    digest: str
    config_digest: str
    user: str
    folder: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    layers: tuple[StoredLayer, ...]
    enclaves: tuple[PackedEnclave, ...]
    faults: Mapping[str, str]
    unread: tuple[str, ...]


def inspect_archive(path: Path | BinaryIO, source: str = "") -> ImageContent:
    """Read and check an OCI archive or layout; raise FormatError for anything else."""
    candidates: dict[str, bytes] = {}
    with open_archive(path, source) as archive:
        image = archive.image()
        for layer in image.layers:
            if layer.readable:
                _look_through(archive, layer, candidates)
            else:
                archive.blob(layer)
    enclaves, faults = [], {}
    for place, content in sorted(candidates.items()):
        try:
            enclaves.append(packed_enclave(f"/{place}", content))
        except EnsconceError as error:
            faults[f"/{place}"] = str(error)
    if fault := _claim_fault(image.annotations, enclaves):
        faults[ENCLAVES_ANNOTATION] = fault
    return ImageContent(
        image.name,
        image.digest,
        image.config_digest,
        image.user,
        image.folder,
        image.entrypoint,
        image.command,
        image.environment,
        image.labels,
        image.annotations,
        image.layers,
        tuple(enclaves),
        faults,
        tuple(layer.digest for layer in image.layers if not layer.readable),
    )


def _claim_fault(annotations: Mapping[str, str], enclaves: Sequence[PackedEnclave]) -> str:
    """Return what is wrong with the annotation that names an image's enclaves."""
    claim = annotations.get(ENCLAVES_ANNOTATION)
    if claim is None or claim == enclaves_annotation(enclaves):
        return ""
    return "names other enclaves than those that the image holds"


def _look_through(archive: Archive, layer: StoredLayer, below: dict[str, bytes]) -> None:
    """Add a layer's enclaves to those of the layers below, and take away what it replaces."""
    walk, found = archive.files(layer), dict[str, bytes]()
    for member in walk:
        folder, _, name = member.path.rpartition("/")
        if name == _OPAQUE:
            _remove(below, folder)
        elif name.startswith(_WHITEOUT):
            _remove(below, f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/"))
        elif member.kind is not MemberKind.FOLDER:
            _remove(below, member.path)
            _remove(found, member.path)
        if member.kind is MemberKind.FILE and len(_MARK) < member.size <= _LARGEST_ENCLAVE:
            start = walk.read(4)
            if start == b"\x7fELF" and _MARK in (content := start + walk.read()):
                found[member.path] = content
        if len(found) > _MOST_ENCLAVES:
            raise archive.fault(f"it has more than {_MOST_ENCLAVES} enclaves")
    below |= found


def _remove(candidates: dict[str, bytes], path: str) -> None:
    """Forget a path and what is below it; the empty path is the root."""
    for each in [key for key in candidates if not path or f"{key}/".startswith(f"{path}/")]:
        del candidates[each]
