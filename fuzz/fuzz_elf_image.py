# SPDX-License-Identifier: Apache-2.0
"""Fuzz the reader of SDK enclaves: segments, metadata, mode, pages and the signer's checks."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import EnsconceError
    from ensconce.image import open_image, verify_image
    from ensconce.image.config import EnclaveConfig
    from ensconce.image.enclave_elf import EnclaveElf
    from ensconce.image.signing import prepare

MOST_PAGES = 1000


def one_input(data: bytes) -> None:
    with contextlib.suppress(EnsconceError):
        image = open_image(data)
        if sum(run.count for run in image.operations()) < MOST_PAGES:
            verify_image(image)
    with contextlib.suppress(EnsconceError):
        file = EnclaveElf(memoryview(data), "input")
        if file.image_size < MOST_PAGES << 12:
            prepare(file, EnclaveConfig(heap_max_size=0x1000), date=0, resign=True)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
