# SPDX-License-Identifier: Apache-2.0
"""A device plugin's settings: flag over environment over file (TOML)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ensconce.errors import ConfigError
from ensconce.kube.deviceplugin.visible import MOST_DEVICES
from ensconce.kube.names import AESM_FOLDER, Platform, Resource
from ensconce.resources import EPC_UNITS, MIB

__all__ = ["ENVIRONMENT", "EPC_UNITS", "MIB", "Config", "load_config"]

ENVIRONMENT = "ENSCONCE_DEVICE_PLUGIN_"
_PLATFORMS = ("auto", *Platform)
_ALL = 100
_LARGEST_EMULATED = 16 << 20  # MiB
_MOST_ENCLAVES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; in the environment each has the prefix ENSCONCE_DEVICE_PLUGIN_ and upper case.

    `epc`: the names that EPC is offered under and the percentage of it that each offers, 100 in
    all at most. `platform`: auto, or sgx, emulated, none. `emulated_mib`: an emulated platform's
    EPC where there is no SGX, 0 for none. `enclave_limit`, `provision_limit`: how many containers
    may have the enclave and the provisioning device. `provision_pods`: who may have the latter, as
    `namespace` or `namespace/serviceaccount`, `*` for any. `provision_with_epc`: give it to every
    container with EPC, as Alibaba's plugin does. `aesm_socket`: mount AESM's folder into every
    container with EPC. `max_devices`: a name whose devices would be more is offered as a figure in
    the node's status.
    """

    epc: Mapping[str, int] = field(default_factory=lambda: {Resource.EPC_ALIBABA: _ALL})
    platform: str = "auto"
    emulated_mib: int = 0
    emulated_numa_nodes: int = 1
    enclave_limit: int = 110
    provision_limit: int = 110
    provision_pods: tuple[str, ...] = ()
    provision_with_epc: bool = False
    aesm_socket: bool = False
    max_devices: int = 65_536
    root: Path = Path("/")
    plugin_folder: Path = Path("/var/lib/kubelet/device-plugins")
    pod_resources: Path = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
    aesm_folder: str = AESM_FOLDER
    listen: str = ""

    def __post_init__(self) -> None:
        """Check what types can't say; ConfigError."""
        _check_epc(self.epc)
        if self.platform not in _PLATFORMS:
            raise ConfigError(
                f"platform is {self.platform!r} and has to be one of {', '.join(_PLATFORMS)}"
            )
        if self.platform == Platform.EMULATED and not self.emulated_mib:
            raise ConfigError("platform is emulated and emulated_mib is not set; say how much EPC")
        for name, least, most in (
            ("emulated_mib", 0, _LARGEST_EMULATED),
            ("emulated_numa_nodes", 1, 64),
            ("enclave_limit", 0, _MOST_ENCLAVES),
            ("provision_limit", 0, _MOST_ENCLAVES),
            ("max_devices", 1, MOST_DEVICES),
        ):
            if not least <= getattr(self, name) <= most:
                raise ConfigError(
                    f"{name} is {getattr(self, name)} and has to be from {least} to {most}"
                )
        for entry in self.provision_pods:
            parts = entry.split("/")
            if len(parts) > 2 or not all(parts):
                raise ConfigError(
                    f"provision_pods has {entry!r}, which is neither a namespace nor "
                    "namespace/serviceaccount"
                )

    def may_provision(self, namespace: str, account: str | None) -> bool:
        """Return whether a pod may have the provisioning device; an account not known counts."""
        for entry in self.provision_pods:
            first, _, second = entry.partition("/")
            if first in ("*", namespace) and (account is None or second in ("", "*", account)):
                return True
        return False


def _check_epc(shares: Mapping[str, int]) -> None:
    """Refuse unknown names, and shares that would count EPC twice."""
    for name, share in shares.items():
        if name not in EPC_UNITS:
            raise ConfigError(
                f"epc names {name!r}, which is no resource for EPC; they are {', '.join(EPC_UNITS)}"
            )
        if not 1 <= share <= _ALL:
            raise ConfigError(f"the share of {name} is {share} and has to be from 1 to {_ALL}")
    if sum(shares.values()) > _ALL:
        raise ConfigError(
            f"the shares of epc are {sum(shares.values())} % together, so EPC would be counted "
            f"twice; let them be {_ALL} % at most"
        )


def load_config(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> Config:
    """Return the settings from a file, the environment and flags (None: not given)."""
    chosen = _from_file(path) if path else {}
    names = [each.name for each in fields(Config)]
    chosen |= {
        name: environment[ENVIRONMENT + name.upper()]
        for name in names
        if ENVIRONMENT + name.upper() in environment
    }
    chosen |= {name: value for name, value in flags.items() if value is not None}
    for name in chosen:
        if name not in names:
            raise ConfigError(
                f"{name!r} is no setting of a device plugin; they are {', '.join(names)}"
            )
    defaults = Config()
    return Config(
        **{name: _value(name, value, getattr(defaults, name)) for name, value in chosen.items()}
    )


def _from_file(path: Path) -> dict[str, Any]:
    """Return the settings in a file."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _value(name: str, value: Any, default: Any) -> Any:
    """Return a setting in the type that its default has."""
    converted = _converted(value, default)
    if converted is None:
        raise ConfigError(f"{name} is {value!r} and has to be {_word(default)}")
    return converted


def _converted(value: Any, default: Any) -> Any:
    """Return a value, or a text of the environment, in a default's type; None if it has none."""
    if isinstance(default, bool):
        words = {"true": True, "1": True, "false": False, "0": False}
        return value if isinstance(value, bool) else words.get(str(value).lower())
    if isinstance(default, int):
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        return number if type(number) is int else None
    if isinstance(default, tuple):
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        good = isinstance(parts, list | tuple) and all(isinstance(part, str) for part in parts)
        return tuple(part for part in parts if part) if good else None
    if isinstance(default, Mapping):
        return _shares(value)
    if isinstance(value, str) or (isinstance(default, Path) and isinstance(value, Path)):
        return type(default)(value) if isinstance(default, str) else Path(value)
    return None


def _shares(value: Any) -> dict[str, int] | None:
    """Return names and percentages of a table, or of `name=60,name=40`; one name alone is all."""
    if isinstance(value, str):
        pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
        if len(pairs) == 1 and not pairs[0][1]:
            return {pairs[0][0]: _ALL}
        value = {name: int(share) if share.isdecimal() else None for name, _, share in pairs}
    good = isinstance(value, Mapping) and all(type(share) is int for share in value.values())
    return dict(value) if good else None


def _word(default: Any) -> str:
    """Return a kind of value in words."""
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        return "a whole number"
    if isinstance(default, tuple):
        return "a list of texts"
    if isinstance(default, Mapping):
        return "resource names with their percentages"
    return "a text"
