# SPDX-License-Identifier: Apache-2.0
"""A node's files: a root folder with real character devices and the kernel's EPC figures."""

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensconce.kube.deviceplugin.config import MIB, Config
from ensconce.kube.deviceplugin.discovery import discover
from ensconce.kube.deviceplugin.plugins import DevicePlugins

ALIBABA = "alibabacloud.com/sgx_epc_MiB"
INTEL = "sgx.intel.com/epc"
ENCLAVE = "sgx.intel.com/enclave"
PROVISION = "sgx.intel.com/provision"
_NULL = os.makedev(1, 3)  # opens for whoever may; the plugin itself never reads it


@dataclass
class Node:
    """A node under a folder; `plugins` is the kubelet's folder for sockets."""

    root: Path
    plugins: Path

    def add_epc(self, *mib: int) -> None:
        for number, size in enumerate(mib):
            folder = self.root / f"sys/devices/system/node/node{number}/x86"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "sgx_total_bytes").write_text(f"{size * MIB}\n")

    def add_device(self, path: str, mode: int = 0o666) -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(place, mode | stat.S_IFCHR, _NULL)
        return place

    def config(self, **settings: Any) -> Config:
        settings = {"pod_resources": self.root / "pods.sock"} | settings
        return Config(root=self.root, plugin_folder=self.plugins, **settings)

    @contextlib.asynccontextmanager
    async def running(
        self, *, injector: Any = None, account: Any = None, **settings: Any
    ) -> AsyncIterator[DevicePlugins]:
        config = self.config(**settings)
        made = DevicePlugins(
            config,
            lambda: discover(config, None),
            injector=injector,
            account=account,
            interval=0.05,
        )
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
