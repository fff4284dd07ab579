# SPDX-License-Identifier: Apache-2.0
"""The cluster's own two images, of Debian's static busybox, as one OCI archive."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.cluster.harness.configuration import BUSYBOX, PAUSE
from tests.cluster.harness.failure import HarnessError

__all__ = ["archive"]


def archive() -> bytes:
    """Return an OCI archive of a pause image and one that has busybox's commands."""
    program = shutil.which("busybox", path="/bin:/usr/bin")
    if not program or b"statically" not in _describe(program):
        raise HarnessError(
            "the test images need Debian's static busybox: apt install busybox-static"
        )
    blobs: dict[str, bytes] = {}
    layer = _layer(Path(program))
    manifests = [
        _manifest(blobs, layer, PAUSE, ["/bin/busybox", "sleep", "infinity"]),
        _manifest(blobs, layer, BUSYBOX, ["/bin/sh"]),
    ]
    index = {"schemaVersion": 2, "manifests": manifests}
    files = {f"blobs/sha256/{name}": data for name, data in blobs.items()}
    files["index.json"] = json.dumps(index).encode()
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    return _tar(files)


def _describe(program: str) -> bytes:
    listed = subprocess.run(["ldd", program], capture_output=True)
    return listed.stdout + (b"statically" if listed.returncode else b"")


def _layer(program: Path) -> bytes:
    applets = subprocess.check_output([program, "--list"], text=True).split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "etc", "tmp"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n", 0o644)
        _add(tar, "bin/busybox", program.read_bytes(), 0o755)
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
    return out.getvalue()


def _manifest(
    blobs: dict[str, bytes], layer: bytes, name: str, command: list[str]
) -> dict[str, Any]:
    made = _blob(blobs, "layer.v1.tar", layer)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint" if name == PAUSE else "Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [made["digest"]]},
    }
    content = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _blob(blobs, "config.v1+json", json.dumps(config).encode()),
        "layers": [made],
    }
    annotation = {"io.containerd.image.name": name}
    made = _blob(blobs, "manifest.v1+json", json.dumps(content).encode())
    return {**made, "annotations": annotation}


def _blob(blobs: dict[str, bytes], kind: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    media = f"application/vnd.oci.image.{kind}"
    return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            _add(tar, name, data, 0o644)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))
