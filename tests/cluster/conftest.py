# SPDX-License-Identifier: Apache-2.0
"""A real cluster for the tests in this folder, all of which carry the marker `cluster`."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.harness import lifecycle
from tests.cluster.harness.layout import Cluster, Options
from tests.cluster.harness.namespace import Namespace, fresh_namespace
from tests.cluster.installed import enclaves, installed  # noqa: F401  # fixtures


@pytest.hookimpl(tryfirst=True)  # before markers select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster NAME, or `main`: one that is up, else one that goes down after the tests."""
    if os.geteuid():
        pytest.skip("a cluster takes root")
    name = os.environ.get("NAME") or "main"
    found = Cluster.load(name)
    if found and all(lifecycle.status(found).values()):
        yield found
    else:
        yield lifecycle.up(name, Options())
        lifecycle.down(name)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """A Kubernetes namespace for one test."""
    with fresh_namespace(cluster, f"test-{uuid.uuid4().hex[:8]}") as made:
        yield made
