# SPDX-License-Identifier: Apache-2.0
"""How a pod's containers reach AESM: in the pod beside them, or the node's."""

from collections.abc import Mapping, Sequence
from typing import Any

from ensconce.kube.names import AESM_FOLDER
from ensconce.kube.webhook.container import Container, items, text

__all__ = ["AESMD", "aesm_fields", "aesm_volume"]

AESMD = "aesmd"  # the quote provider, and the container, that are AESM's
_VOLUME = "aesmd-socket"
_ADDRESS = "SGX_AESM_ADDR"


def aesm_fields(each: Container) -> dict[str, list[Mapping[str, Any]]]:
    """Return what to add to a container's lists.

    Only AESM itself writes to the folder: others could put a socket of their own in its place.
    """
    added: dict[str, list[Mapping[str, Any]]] = {}
    mounts = items(each.fields, "volumeMounts")
    if not any(text(mount, "mountPath").rstrip("/") == AESM_FOLDER for mount in mounts):
        mount = {"name": _VOLUME, "mountPath": AESM_FOLDER}
        added["volumeMounts"] = [mount if each.name == AESMD else mount | {"readOnly": True}]
    if not any(text(variable, "name") == _ADDRESS for variable in items(each.fields, "env")):
        added["env"] = [{"name": _ADDRESS, "value": "1"}]
    return added


def aesm_volume(
    users: Sequence[Container], volumes: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the volume to add for containers with EPC, if the pod has none yet.

    One of them may be AESM: then the folder is the pod's own, and else the node's.
    """
    if any(text(volume, "name") == _VOLUME for volume in volumes) or not users:
        return []
    beside = len(users) > 1 and any(each.name == AESMD and each.stays for each in users)
    if beside:
        return [{"name": _VOLUME, "emptyDir": {"medium": "Memory"}}]
    return [{"name": _VOLUME, "hostPath": {"path": AESM_FOLDER, "type": "DirectoryOrCreate"}}]
