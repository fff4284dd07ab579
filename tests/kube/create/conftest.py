# SPDX-License-Identifier: Apache-2.0
"""What tests of cluster creation share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kube.create.ack import Ack, served

from ensconce.kube.create import Records

# The SDK reads its environment when it is imported. Without this its chain of credentials would
# ask the metadata service of the machine that the tests run on: no test may leave loopback.
os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """Return the records of a user who has none."""
    return Records(tmp_path / "state")


@pytest.fixture
def ack() -> Iterator[Ack]:
    """Serve Alibaba Cloud's API on a local port."""
    with served(Ack()) as state:
        yield state
