# SPDX-License-Identifier: Apache-2.0
"""A PCCS's settings: flag over environment over file (TOML)."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx

from ensconce.dcap.roots import INTEL_ROOT, Root
from ensconce.errors import ConfigError
from ensconce.pccs.presets import preset
from ensconce.pccs.service import Mode, Service
from ensconce.pccs.store import Store
from ensconce.pccs.tokens import TokenHash
from ensconce.pccs.upstream import Upstream

__all__ = ["ENVIRONMENT", "Settings", "load_settings"]

ENVIRONMENT = "ENSCONCE_PCCS_"
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings; in the environment each has the prefix ENSCONCE_PCCS_ and upper case.

    `mode`: lazy, request (or req), offline. `upstream`: a preset's name; `region` and `url` fill it
    in. `root_ca`: a DER file with the root to trust instead of Intel's. `api_key_file`: a file with
    the PCS's API key. `refresh_hours`: how often everything is fetched anew, 0 for never.
    `read_only`: no tokens, and nothing that needs one.
    """

    database: str = ""
    mode: str = "lazy"
    upstream: str = "intel"
    region: str = ""
    url: str = ""
    root_ca: str = ""
    api_key_file: str = ""
    proxy: str = ""
    user_token_hash: str = ""
    admin_token_hash: str = ""
    read_only: bool = False
    refresh_hours: int = 24
    host: str = "127.0.0.1"
    port: int = 8081
    cert: str = ""
    key: str = ""
    max_body: int = 2 << 20

    @property
    def filling(self) -> Mode:
        """When the upstream is asked."""
        word = self.mode.lower()
        try:
            return Mode("request" if word == "req" else word)
        except ValueError:
            raise ConfigError(
                f"the mode {self.mode!r} is none of lazy, request and offline"
            ) from None

    def tokens(self) -> tuple[TokenHash | None, TokenHash | None]:
        """Return the user's and the admin's token; ConfigError if one is missing or weak."""
        hashes = {"user": self.user_token_hash, "admin": self.admin_token_hash}
        if self.read_only:
            if any(hashes.values()):
                raise ConfigError("a read-only PCCS takes no tokens; leave their hashes out")
            return None, None
        for what, text in hashes.items():
            if not text:
                raise ConfigError(
                    f"{what}_token_hash is not set, and requests that need the token could not be "
                    "told from others; `ensconce pccs token` makes one, or set read_only"
                )
        user, admin = (TokenHash(text, what) for what, text in hashes.items())
        if hashes["user"].lower() == hashes["admin"].lower():
            raise ConfigError("user and admin have the same token; make two")
        return user, admin

    def root(self) -> Root:
        """Return the trusted root."""
        return Root.parse(Path(self.root_ca).read_bytes()) if self.root_ca else INTEL_ROOT

    def store(self) -> Store:
        """Open the database; the user's state folder has it unless a URL says otherwise."""
        if self.database:
            return Store.open(self.database)
        place = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
        folder = place / "ensconce"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Store.open(f"sqlite:///{folder / 'pccs.db'}")

    def service(self, client: httpx.AsyncClient | None = None) -> Service:
        """Return the service over an open database; `client` is what asks upstream."""
        upstream = None
        if self.filling is not Mode.OFFLINE:
            chosen = preset(self.upstream, region=self.region, url=self.url)
            key = Path(self.api_key_file).read_text().strip() if self.api_key_file else ""
            if key and not chosen.url.startswith("https:"):
                raise ConfigError("an API key is for HTTPS only; give the upstream's HTTPS URL")
            asking = client or httpx.AsyncClient(proxy=self.proxy or None)
            upstream = Upstream(chosen, asking, api_key=key)
        service = Service(self.store(), self.root(), self.filling, upstream)
        service.check_root()
        return service

    def check_exposure(self) -> bool:
        """Return whether TLS is on; refuse plain HTTP to the network."""
        if bool(self.cert) != bool(self.key):
            raise ConfigError("cert and key go together; give both, in PEM")
        if not self.cert and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ConfigError(
                f"plain HTTP on {self.host} would show tokens to the network; give cert and key, "
                "or listen on 127.0.0.1"
            )
        return bool(self.cert)


def load_settings(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> Settings:
    """Return the settings from a file, the environment and flags (None: not given)."""
    kinds = {field.name: field.type for field in fields(Settings)}
    chosen = _from_file(path) if path else {}
    for name in kinds:
        if (text := environment.get(ENVIRONMENT + name.upper())) is not None:
            chosen[name] = text if kinds[name] is str else _value(name, text, kinds[name])
    chosen |= {name: value for name, value in flags.items() if value is not None}
    for name, value in chosen.items():
        if name not in kinds:
            raise ConfigError(f"{name!r} is no setting of a PCCS; they are {', '.join(kinds)}")
        if type(value) is not kinds[name] or (kinds[name] is int and value < 0):
            raise ConfigError(f"{name} is {value!r} and has to be {_word(kinds[name])}")
    return Settings(**chosen)


def _from_file(path: Path) -> dict[str, Any]:
    """Return the settings in a file."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _value(name: str, text: str, kind: Any) -> bool | int:
    """Return a setting that the environment gives as text."""
    if kind is bool and text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    if kind is int and text.isascii() and text.isdigit():
        return int(text)
    raise ConfigError(f"{ENVIRONMENT}{name.upper()} is {text!r} and has to be {_word(kind)}")


def _word(kind: Any) -> str:
    """Return a kind of value in words."""
    return {str: "a text", bool: "true or false", int: "a whole number"}[kind]
