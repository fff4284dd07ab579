# SPDX-License-Identifier: Apache-2.0
"""A signing key for all tests of enclave files, and one enclave that it signed."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.image.building import signed

from ensconce.crypto import generate_signing_key


@pytest.fixture(scope="session")
def key() -> rsa.RSAPrivateKey:
    return generate_signing_key()


@pytest.fixture(scope="session")
def enclave(key: rsa.RSAPrivateKey) -> bytes:
    """A signed enclave of two threads, without anything that grows but heap and stack."""
    return signed(key)
