# SPDX-License-Identifier: Apache-2.0
"""A processor, a signing key, and enclaves that are closed after the test."""

from collections.abc import Iterator
from typing import Protocol

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.machine.building import Loaded, Parts, build

from ensconce.crypto import generate_signing_key
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor


class Builder(Protocol):
    """Builds an enclave through the driver."""

    def __call__(
        self,
        cpu: Processor,
        parts: Parts | None = None,
        *,
        provision: bool = False,
        heap: int = 0,
        **fields: object,
    ) -> Loaded: ...


@pytest.fixture(scope="session")
def identity() -> Identity:
    return Identity.generate()


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return generate_signing_key()


@pytest.fixture
def cpu(identity: Identity) -> Processor:
    return Processor(identity, epc_size=4 << 20)


@pytest.fixture
def load(key: rsa.RSAPrivateKey) -> Iterator[Builder]:
    made: list[Loaded] = []

    def builder(
        cpu: Processor,
        parts: Parts | None = None,
        *,
        provision: bool = False,
        heap: int = 0,
        **fields: object,
    ) -> Loaded:
        made.append(build(cpu, key, parts, provision=provision, heap=heap, **fields))
        return made[-1]

    yield builder
    for loaded in made:
        loaded.close()
        loaded.device.close()
