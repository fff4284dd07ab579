# SPDX-License-Identifier: Apache-2.0
"""A fresh test enclave for each test that asks for one."""

from collections.abc import Callable, Iterator

import pytest
from tests.core.rig import Rig


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**settings: object) -> Rig:
        made.append(Rig(**settings))  # type: ignore[arg-type] # the parameters of Rig
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()
