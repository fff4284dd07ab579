# SPDX-License-Identifier: Apache-2.0
"""Write an image as an archive: OCI's image layout, which Docker's own loader takes as well.

Formats: OCI Image Specification 1.1, "Image Layout", "Image Manifest" and "Image Configuration".
The same image gives the same bytes. The configuration's digest, by which containerd and Podman
name an image, covers the layers before compression, so it follows from the files alone.
"""

import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ensconce.errors import ConfigError
from ensconce.oci.tree import Tree, write_tar

__all__ = [
    "CONFIG_TYPE",
    "GZIP_LAYER",
    "INDEX_TYPE",
    "MANIFEST_TYPE",
    "Image",
    "Layer",
    "build_time",
    "make_layer",
    "write_archive",
]

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

_REFERENCE = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no name, no time, no operating system
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its bytes as they travel, their type, and the digest of what they unpack to."""

    blob: bytes
    diff_id: str
    media_type: str = GZIP_LAYER
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image: layers from the bottom up, and how a container is started from them.

    `environment` and `labels` are part of the configuration, `annotations` of the manifest.
    """

    name: str
    layers: Sequence[Layer]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    user: str = "65532:65532"
    folder: str = "/"


def build_time() -> int:
    """Return the time that everything in an image has: SOURCE_DATE_EPOCH in seconds, or 0."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isdecimal() or int(text) >= 1 << 33:
        raise ConfigError(
            f"SOURCE_DATE_EPOCH is {text!r}; set it to a number of seconds, or unset it"
        )
    return int(text)


def make_layer(tree: Tree, when: int, comment: str = "") -> Layer:
    """Return a tree as a compressed layer."""
    content = write_tar(tree, when)
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(content) + deflate.flush()
    tail = struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return Layer(_GZIP_HEADER + body + tail, _digest(content), comment=comment)


def write_archive(image: Image, output: Path, when: int) -> str:
    """Write an image to `output` and return its manifest's digest; half an archive is never left.

    containerd, Podman, Skopeo and Docker load it.
    """
    config = _json(_config(image, when))
    manifest = _json(_manifest(image, config))
    blobs = {
        _digest(each): each for each in (*(layer.blob for layer in image.layers), config, manifest)
    }
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"})}
    files |= {f"blobs/{digest.replace(':', '/')}": blob for digest, blob in blobs.items()}
    files["index.json"] = _json(_index(image, manifest))
    files["manifest.json"] = _json(_docker(image, config))
    tree = Tree()
    for path, content in files.items():
        tree.file(path, content)
    _replace(output, write_tar(tree, when))
    return _digest(manifest)


def _replace(output: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(output)
    except BaseException:
        Path(name).unlink()
        raise


def _config(image: Image, when: int) -> dict[str, Any]:
    """Return the image's configuration."""
    created = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config: dict[str, Any] = {
        "User": image.user,
        "Env": [f"{name}={value}" for name, value in sorted(image.environment.items())],
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.command),
        "WorkingDir": image.folder,
        "Labels": dict(image.labels),
    }
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "config": {key: value for key, value in config.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
        "history": [
            {"created": created, "created_by": "ensconce image build", "comment": layer.comment}
            for layer in image.layers
        ],
    }


def _manifest(image: Image, config: bytes) -> dict[str, Any]:
    """Return the image's manifest."""
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(config, CONFIG_TYPE),
        "layers": [_descriptor(layer.blob, layer.media_type) for layer in image.layers],
    }
    return manifest | ({"annotations": dict(image.annotations)} if image.annotations else {})


def _index(image: Image, manifest: bytes) -> dict[str, Any]:
    """Return the index, whose annotations name the image for the tools that load it."""
    descriptor = _descriptor(manifest, MANIFEST_TYPE) | {
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {_FULL_NAME: _full_name(image.name), _REFERENCE: image.name},
    }
    return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor]}


def _docker(image: Image, config: bytes) -> list[dict[str, Any]]:
    """Return what `docker load` reads; its paths are those of the layout."""

    def path(blob: bytes) -> str:
        return f"blobs/{_digest(blob).replace(':', '/')}"

    layers = [path(layer.blob) for layer in image.layers]
    return [{"Config": path(config), "RepoTags": [image.name], "Layers": layers}]


def _full_name(name: str) -> str:
    """Return an image's name with its registry, as a Kubernetes node completes it."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def _descriptor(blob: bytes, media_type: str) -> dict[str, Any]:
    """Return what points to a blob."""
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
