# SPDX-License-Identifier: Apache-2.0
"""The providers by name, each imported when it is used: a cloud's SDK is large."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ensconce.errors import ConfigError
from ensconce.kube.create.plan import Provider
from ensconce.kube.create.record import Record

__all__ = ["PROVIDERS", "provider_for", "provider_of"]

PROVIDERS = {
    "alibabacloud": "ensconce.kube.create.alibabacloud:AlibabaCloud",
    "kubeadm": "ensconce.kube.create.kubeadm:Kubeadm",
    "existing": "ensconce.kube.create.existing:Existing",
}


def provider_for(kind: str, name: str, values: Mapping[str, Any]) -> Provider:
    """Return a provider for a cluster's name and settings; ConfigError says what is wrong."""
    if kind not in PROVIDERS:
        raise ConfigError(f"there is no provider {kind!r}; take one of {', '.join(PROVIDERS)}")
    module, _, attribute = PROVIDERS[kind].partition(":")
    provider: Provider = getattr(import_module(module), attribute).of(name, values)
    return provider


def provider_of(record: Record) -> Provider:
    """Return the provider that a record was made with."""
    return provider_for(record.provider, record.name, record.settings)
