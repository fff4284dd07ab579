# SPDX-License-Identifier: Apache-2.0
"""Small images for the tests, and archives that say what honest ones never do."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from ensconce.oci.archive import CONFIG_TYPE, GZIP_LAYER, MANIFEST_TYPE, Image, make_layer
from ensconce.oci.archive import write_archive as write
from ensconce.oci.tree import Tree, write_tar


def small_image(files: Tree | None = None, **more: Any) -> Image:
    """Return an image of one layer."""
    if files is None:
        files = Tree()
        files.file("app/hello", b"#!/bin/true\n", program=True)
    return Image("hello:1", [make_layer(files, 0)], entrypoint=["/app/hello"], **more)


def small_archive(folder: Path, image: Image | None = None) -> Path:
    """Write an image below a folder."""
    write(image or small_image(), folder / "image.tar", 0)
    return folder / "image.tar"


class Layout:
    """An OCI layout that is put together document by document, so that each can be wrong."""

    def __init__(self) -> None:
        layer = make_layer(Tree(), 0)
        self.files: dict[str, bytes] = {}
        self.layer = self.add(layer.blob, GZIP_LAYER)
        self.config: Any = {"rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}}
        self.manifest: Any = {"schemaVersion": 2, "layers": [self.layer]}
        self.index: Any = {}

    def add(self, blob: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(blob).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = blob
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(blob)}

    def stream(self) -> io.BytesIO:
        """Return the archive; what was left as it is gets its usual value."""
        if isinstance(self.manifest, dict):
            config = self.add(json.dumps(self.config).encode(), CONFIG_TYPE)
            self.manifest = {"config": config, **self.manifest}
        manifest = self.add(json.dumps(self.manifest).encode(), MANIFEST_TYPE)
        index = {"manifests": [manifest], **self.index} if isinstance(self.index, dict) else []
        tree = Tree()
        for path, content in {**self.files, "index.json": json.dumps(index).encode()}.items():
            tree.file(path, content)
        return io.BytesIO(write_tar(tree, 0))


def tar_of(name: str, content: bytes = b"", form: int = tarfile.PAX_FORMAT, **fields: Any) -> bytes:
    """Return an archive of one member, as Python's own module writes it."""
    stream = io.BytesIO()
    member = tarfile.TarInfo(name)
    for key, value in {"size": len(content), **fields}.items():
        setattr(member, key, value)
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()
