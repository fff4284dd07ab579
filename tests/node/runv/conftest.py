# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.runv.bundles import Runtime, missing

from ensconce.errors import EnsconceError
from ensconce.node.runv.kernel import prepare


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    why = missing()
    if why:
        pytest.skip(why)
    try:
        prepare()
    except EnsconceError as error:
        pytest.skip(str(error))
    made = Runtime(tmp_path)
    yield made
    made.clean()
