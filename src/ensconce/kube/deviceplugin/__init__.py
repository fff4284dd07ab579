# SPDX-License-Identifier: Apache-2.0
"""EPC for the kubelet: what a node has, offered under every name in use, and never twice."""

from ensconce.kube.deviceplugin.answers import Allocation, Injection, Injector, Mount
from ensconce.kube.deviceplugin.config import Config, load_config
from ensconce.kube.deviceplugin.discovery import (
    DeviceNode,
    Inventory,
    Section,
    discover,
    discover_here,
)
from ensconce.kube.deviceplugin.enforcement import MiscCgroup, Rung, rung
from ensconce.kube.deviceplugin.metrics import Metrics
from ensconce.kube.deviceplugin.offers import Kind
from ensconce.kube.deviceplugin.plugins import DevicePlugins
from ensconce.kube.deviceplugin.podresources import Held, list_held
from ensconce.kube.deviceplugin.state import ResourceState, State

__all__ = [
    "Allocation",
    "Config",
    "DeviceNode",
    "DevicePlugins",
    "Held",
    "Injection",
    "Injector",
    "Inventory",
    "Kind",
    "Metrics",
    "MiscCgroup",
    "Mount",
    "ResourceState",
    "Rung",
    "Section",
    "State",
    "discover",
    "discover_here",
    "list_held",
    "load_config",
    "rung",
]
