# SPDX-License-Identifier: Apache-2.0
"""What this runtime can do, as the specification's features structure says it."""

from typing import Any

from ensconce.node.runv.accelerator import remembered
from ensconce.node.runv.options import (
    CAPABILITIES,
    MOUNT_CLEARED,
    MOUNT_FLAGS,
    NAMESPACES,
    PROPAGATION,
)
from ensconce.node.runv.state import default_root

__all__ = ["features"]


def _accelerator() -> dict[str, str]:
    """Return what machines run on, and a notice where that is slow."""
    found = remembered(default_root())
    if not found:
        return {"accelerator": "not tried since the host's start; the first sandbox does"}
    return {"accelerator": found.name} | ({"notice": found.notice} if found.notice else {})


def features() -> dict[str, Any]:
    """Return the structure."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.0.2",
        "hooks": ["prestart", "createRuntime", "poststart", "poststop"],
        "mountOptions": sorted({*MOUNT_FLAGS, *MOUNT_CLEARED, *PROPAGATION}),
        "linux": {
            "namespaces": sorted({*NAMESPACES, "network"}),
            "capabilities": list(CAPABILITIES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
            "seccomp": {"enabled": True},
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
        },
        "annotations": {f"dev.ensconce.runv.{key}": value for key, value in _accelerator().items()},
    }
