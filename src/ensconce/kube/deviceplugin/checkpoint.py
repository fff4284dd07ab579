# SPDX-License-Identifier: Apache-2.0
"""Which resources the kubelet counts as devices, by the checkpoint that it keeps in its folder.

A kubelet forgets a resource five minutes after its plugin has gone. Until then it sets the figure
in the node's status itself, and grants none of it but as devices.
"""

import json
from pathlib import Path

__all__ = ["Checkpoint"]

_NAME = "kubelet_internal_checkpoint"
_LARGEST = 64 << 20


class Checkpoint:
    """The checkpoint in a kubelet's folder; read again when it has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._read: tuple[int, int] | None = None
        self._resources: frozenset[str] = frozenset()

    def resources(self) -> frozenset[str]:
        """Return the resources that are counted as devices; none where nothing can be read."""
        try:
            found = self._path.stat()
            version = found.st_ino, found.st_mtime_ns
            if version != self._read and found.st_size <= _LARGEST:
                self._resources = _registered(self._path.read_bytes())
                self._read = version
        except FileNotFoundError:
            self._resources, self._read = frozenset(), None
        except (OSError, ValueError):
            pass  # just being written, or another kubelet's form: what was known stands
        return self._resources


def _registered(text: bytes) -> frozenset[str]:
    """Return the resources in a checkpoint; ValueError where it is none."""
    document = json.loads(text)
    data = document.get("Data") if isinstance(document, dict) else None
    devices = data.get("RegisteredDevices") if isinstance(data, dict) else None
    if not isinstance(devices, dict | None):
        raise ValueError("RegisteredDevices is no table")
    return frozenset(devices or ())
