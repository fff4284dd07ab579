# SPDX-License-Identifier: Apache-2.0
"""Enclaves made of one C file and one EDL file of this folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ensconce import enclave
from ensconce.image.config import EnclaveConfig
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_HERE = Path(__file__).parent
_SIZES: dict[str, int] = {
    "heap_max_size": 0x200000,
    "heap_min_size": 0x200000,
    "stack_max_size": 0x40000,
    "stack_min_size": 0x40000,
}

Load = Callable[..., Any]


@pytest.fixture(scope="session")
def signed(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a function that builds and signs an enclave of this folder, once each."""
    folder = tmp_path_factory.mktemp("libc")

    def make(name: str, **settings: int) -> Path:
        image, variant = folder / f"{name}.so", "-".join(map(str, settings.values()))
        output = folder / f"{name}{variant}.signed.so"
        if not image.exists():
            build([_HERE / f"{name}.c"], _HERE / f"{name}.edl", image, toolchain=toolchain)
        if not output.exists():
            config = EnclaveConfig(**(_SIZES | settings))
            sign(image, output, signing_key, config=config)
        return output

    return make


@pytest.fixture(scope="session")
def load(signed: Callable[..., Path]) -> Load:
    """Return a function that loads an enclave of this folder; `sign` has the signer's settings."""

    def loaded(name: str, sign: dict[str, int] | None = None, **options: Any) -> Any:
        file = signed(name, **(sign or {}))
        return enclave.load(file, edl=_HERE / f"{name}.edl", **options)

    return loaded
