# SPDX-License-Identifier: Apache-2.0
"""What tests of the PCCS share."""

import socket

import pytest


@pytest.fixture
def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
