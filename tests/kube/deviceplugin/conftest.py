# SPDX-License-Identifier: Apache-2.0
"""Nodes to run plugins on."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kube.deviceplugin.node import Node


@pytest.fixture
def bare() -> Iterator[Node]:
    """A node with nothing of SGX; its folder's name is short, as sockets' have to be."""
    with tempfile.TemporaryDirectory(prefix="dp") as folder:
        (plugins := Path(folder, "plugins")).mkdir()
        yield Node(Path(folder, "root"), plugins)


@pytest.fixture
def node(bare: Node) -> Node:
    """A node with 100 MiB of EPC and the kernel's driver."""
    if os.geteuid():
        pytest.skip("device nodes are root's to make")
    bare.add_epc(100)
    bare.add_device("/dev/sgx_enclave")
    bare.add_device("/dev/sgx_provision")
    return bare
