# SPDX-License-Identifier: Apache-2.0
"""Enclaves that several tests look at, built once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.sdk.hosts import kill_service

from ensconce.image.sigstruct import key_signer
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey
from ensconce.sdk.toolchain import Toolchain

_EXAMPLE = Path(__file__).parents[2] / "examples" / "01-hello-world"
_RUNTIME = Path(__file__).parent / "runtime"


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """Return the wheel's toolchain, with the cache that developers have anyway."""
    return Toolchain.find()


@pytest.fixture(scope="session")
def hello_world(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unsigned image of examples/01-hello-world."""
    output = tmp_path_factory.mktemp("hello") / "hello.so"
    return build([_EXAMPLE / "enclave.c"], _EXAMPLE / "enclave.edl", output, toolchain=toolchain)


@pytest.fixture(scope="session")
def runtime_image(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unsigned image of the enclave that tries the trusted runtime."""
    output = tmp_path_factory.mktemp("runtime") / "runtime.so"
    return build([_RUNTIME / "runtime.c"], _RUNTIME / "runtime.edl", output, toolchain=toolchain)


@pytest.fixture(scope="session")
def signing_key() -> SigningKey:
    """Return a key of nobody's; making one takes a second."""
    private = rsa.generate_private_key(public_exponent=3, key_size=3072)
    return SigningKey(private.public_key(), key_signer(private))


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A platform and a service of the test's own; the service is ended afterwards."""
    place = tmp_path / "run"
    chosen = {
        "ENSCONCE_SERVICE": str(place / "service.sock"),
        "ENSCONCE_PLATFORM": str(tmp_path / "platform"),
    }
    yield os.environ | chosen
    kill_service(chosen)
