# SPDX-License-Identifier: Apache-2.0
"""The CA of an install's webhook: the one that is there, or a new one."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

from ensconce.errors import ClusterError
from ensconce.kube.install.cluster import Cluster, Ref
from ensconce.kube.names import NAMESPACE
from ensconce.kube.webhook import Authority

__all__ = ["SECRET", "with_authority"]

SECRET = Ref("Secret", NAMESPACE, "ensconce-webhook-ca")


def with_authority(cluster: Cluster | None, values: dict[str, Any]) -> dict[str, Any]:
    """Return values with the webhook's CA: the values' own, the cluster's, or one made now."""
    webhook = values.get("webhook") or {}
    if (webhook.get("authority") or {}).get("certificate"):
        return values
    found = cluster.get(SECRET) if cluster else None
    if found is None:
        made = Authority.make(datetime.now(UTC))
        certificate, key = made.pem.decode(), made.key_pem.decode()
    else:
        try:
            data = found.get("data") or {}
            certificate, key = (
                base64.b64decode(data[name], validate=True).decode()
                for name in ("tls.crt", "tls.key")
            )
        except (KeyError, binascii.Error, UnicodeDecodeError) as error:
            raise ClusterError(f"{SECRET} has no CA; remove it for a new one") from error
    return values | {"webhook": webhook | {"authority": {"certificate": certificate, "key": key}}}
