# SPDX-License-Identifier: Apache-2.0
"""What this runtime can do, as the specification's features structure says it."""

from typing import Any

from ensconce.node.runv.options import (
    CAPABILITIES,
    MOUNT_CLEARED,
    MOUNT_FLAGS,
    NAMESPACES,
    PROPAGATION,
)

__all__ = ["features"]


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
    }
