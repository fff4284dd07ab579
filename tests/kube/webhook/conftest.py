# SPDX-License-Identifier: Apache-2.0
"""A webhook that tests share."""

from collections.abc import Iterator

import pytest
from tests.kube.webhook.serving import Running, running


@pytest.fixture(scope="package")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Give a webhook whose cluster offers EPC under Intel's name, and trusts one namespace."""
    with running(tmp_path_factory.mktemp("webhook")) as server:
        yield server
