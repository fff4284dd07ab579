# SPDX-License-Identifier: Apache-2.0
"""Build and sign what the other benchmarks load."""

from pathlib import Path

from ensconce.crypto import generate_signing_key
from ensconce.image.config import EnclaveConfig
from ensconce.image.sigstruct import key_signer
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, sign

HERE = Path(__file__).parent


def signed(name: str, folder: Path) -> Path:
    """Build the enclave NAME/NAME.c in `folder`; return the signed file."""
    source = HERE / name / f"{name}.c"
    image = build([source], source.with_suffix(".edl"), folder / f"{name}.so")
    key = generate_signing_key()
    output = folder / f"{name}.signed.so"
    sign(image, output, SigningKey(key.public_key(), key_signer(key)), config=EnclaveConfig())
    return output
