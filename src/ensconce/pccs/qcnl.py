# SPDX-License-Identifier: Apache-2.0
"""The configuration of the vendor's quote provider (`/etc/sgx_default_qcnl.conf`) for a PCCS."""

import json
from ipaddress import ip_address
from urllib.parse import urlsplit

from ensconce.errors import ConfigError

__all__ = ["qcnl_config"]


def qcnl_config(url: str, *, own_certificate: bool) -> str:
    """Return the file's text for a PCCS at a URL.

    `own_certificate` says that its TLS certificate is from no public authority, so that clients
    must not check it; collateral is signed, so what they can lose is availability and tokens.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is no URL of a PCCS; give one like https://pccs.example:8081")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigError(f"{url!r} is plain HTTP to the network; serve with a certificate and key")
    base = f"{parts.scheme}://{parts.netloc}/sgx/certification/v4/"
    settings = {
        "pccs_url": base,
        "use_secure_cert": parts.scheme == "https" and not own_certificate,
        "tcb_update_type": "standard",
        "pccs_api_version": "3.1",
        "retry_times": 6,
        "retry_delay": 1,
        "pck_cache_expire_hours": 168,
        "verify_collateral_cache_expire_hours": 24,
    }
    return json.dumps(settings, indent=2) + "\n"


def _is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
