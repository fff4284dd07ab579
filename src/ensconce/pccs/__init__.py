# SPDX-License-Identifier: Apache-2.0
"""A provisioning certificate caching service: collateral for DCAP, served and kept right.

`Service` is what it does, `Application` its HTTP face, `Settings` what it can be told. Nothing is
kept that does not lead to the one trusted root, and nothing older replaces what is kept. Needs
the extra `server`.
"""

from ensconce.pccs.bundle import Bundle, read_bundle, write_bundle
from ensconce.pccs.config import Settings, load_settings
from ensconce.pccs.items import Item, Key, Kind, PckCertificate, PckList, Platform, Release, TcbKey
from ensconce.pccs.presets import PRESETS, Preset, preset
from ensconce.pccs.qcnl import qcnl_config
from ensconce.pccs.selection import select_pck
from ensconce.pccs.service import Mode, Refreshed, Service
from ensconce.pccs.statuses import Status, StatusError
from ensconce.pccs.store import Known, Store
from ensconce.pccs.tokens import TokenHash, hash_token, new_token
from ensconce.pccs.upstream import Upstream
from ensconce.pccs.web import Application

__all__ = [
    "PRESETS",
    "Application",
    "Bundle",
    "Item",
    "Key",
    "Kind",
    "Known",
    "Mode",
    "PckCertificate",
    "PckList",
    "Platform",
    "Preset",
    "Refreshed",
    "Release",
    "Service",
    "Settings",
    "Status",
    "StatusError",
    "Store",
    "TcbKey",
    "TokenHash",
    "Upstream",
    "hash_token",
    "load_settings",
    "new_token",
    "preset",
    "qcnl_config",
    "read_bundle",
    "select_pck",
    "write_bundle",
]
