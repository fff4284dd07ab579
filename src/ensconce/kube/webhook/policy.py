# SPDX-License-Identifier: Apache-2.0
"""What an admission webhook lets pods have: its settings file (TOML)."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ensconce.errors import ConfigError
from ensconce.kube.names import Resource

__all__ = ["EPC_UNITS", "Policy", "Where", "parse_policy"]

# bytes in one of what a name counts
EPC_UNITS = {
    Resource.EPC_ALIBABA: 1 << 20,
    Resource.EPC_INTEL: 1,
    Resource.EPC_AZURE: 1 << 20,
    Resource.EPC_OPENENCLAVE: 1 << 20,
}
_FLAGS = ("require_epc", "emulated_nodes")
_SUBJECT = re.compile(r"(\*|[a-z0-9-]{1,63})(/(\*|[a-z0-9.-]{1,253}))?")


@dataclass(frozen=True, slots=True)
class Where:
    """Where a pod is created. `emulated`: whether its namespace allows the emulated processor."""

    namespace: str
    emulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What pods may have; each field is a setting.

    `epc`: the names that the cluster's nodes offer EPC under; a container that asks under another
    one has it counted under the first. `provision_pods`: whose pods may read platform-wide keys, as
    `namespace` or `namespace/serviceaccount`, `*` for any. `require_epc`: whether a container that
    runs enclaves has to say how much EPC they take, without which nothing counts it.
    `emulated_nodes`: whether the cluster has nodes that emulate SGX, so that authors of pods which
    are kept off them are told.
    """

    epc: tuple[str, ...] = (Resource.EPC_ALIBABA,)
    provision_pods: tuple[str, ...] = ()
    require_epc: bool = True
    emulated_nodes: bool = False

    def __post_init__(self) -> None:
        """Check what types can't say; ConfigError."""
        unknown = [name for name in self.epc if name not in EPC_UNITS]
        if unknown or not self.epc:
            raise ConfigError(
                f"epc names {', '.join(unknown) or 'nothing'}; EPC's names are "
                f"{', '.join(EPC_UNITS)}"
            )
        for subject in self.provision_pods:
            if not _SUBJECT.fullmatch(subject):
                raise ConfigError(
                    f"provision_pods has {subject!r}, which is neither a namespace nor "
                    "namespace/serviceaccount; write `*` for any"
                )

    def may_provision(self, namespace: str, account: str) -> bool:
        """Return whether a service account's pods may read platform-wide keys."""
        for subject in self.provision_pods:
            first, _, second = subject.partition("/")
            if first in ("*", namespace) and second in ("", "*", account):
                return True
        return False


def parse_policy(text: str, source: str) -> Policy:
    """Return the policy that a settings file states; ConfigError."""
    try:
        given = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error
    return _checked(given, source)


def _checked(given: Mapping[str, Any], source: str) -> Policy:
    """Return a policy of settings once each is known and of its type."""
    known = {field.name for field in fields(Policy)}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"{source}: {name!r} is no setting; they are {', '.join(known)}")
        if name in _FLAGS:
            fits = isinstance(value, bool)
        else:
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not fits:
            kind = "true or false" if name in _FLAGS else "a list of texts"
            raise ConfigError(f"{source}: {name} is {value!r} and has to be {kind}")
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    return Policy(**values)
