# SPDX-License-Identifier: Apache-2.0
"""The emulated platform, an enclave on it, and a service that quotes it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.aesm.serving import Serving, serving

from ensconce.aesm.emulated import EmulatedBackend
from ensconce.aesm.responder import BackendResponder
from ensconce.isa.report import Report
from ensconce.machine import identity
from ensconce.machine.driver import DriverModel
from ensconce.machine.processor import Processor
from ensconce.platform.roles import QE_TARGET
from ensconce.platform.witness import Witness


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a platform's identity."""
    path = tmp_path_factory.mktemp("platform") / "platform"
    identity.load_or_create(path)
    return path


@pytest.fixture(scope="session")
def witness(platform: Path) -> Iterator[Witness]:
    """An enclave on the platform that runs EREPORT."""
    processor = Processor(identity.load(platform), epc_size=1 << 20)
    enclave = Witness(DriverModel(processor))
    yield enclave
    enclave.close()


@pytest.fixture(scope="session")
def report(witness: Witness) -> Report:
    """A REPORT for the quoting role."""
    return witness.report(QE_TARGET, b"\x5a" * 64)


@pytest.fixture(scope="session")
def backend(platform: Path) -> EmulatedBackend:
    return EmulatedBackend(platform)


@pytest.fixture
def service(backend: EmulatedBackend, tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "aesm.socket", BackendResponder(backend)) as running:
        yield running
