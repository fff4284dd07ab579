# SPDX-License-Identifier: Apache-2.0
"""Fuzz the SDK's metadata, as it comes and behind a header that is right."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import FormatError
    from ensconce.image.generation import GENERATIONS
    from ensconce.image.metadata import DIRECTORY_OFFSET, MAGIC, MAX_ENCLAVE_SIZE, Metadata
    from ensconce.image.recovery import recover_config

ENCLAVE_SIZE = 1 << 30


def header(size: int) -> bytes:
    words = ((MAGIC, 8), (5, 4), (1, 4), (size, 4), (1, 4), (1, 4), (0, 4), (0, 8))
    start = b"".join(value.to_bytes(width, "little") for value, width in words)
    return (start + ENCLAVE_SIZE.to_bytes(8, "little")).ljust(DIRECTORY_OFFSET, b"\0")


def one_input(data: bytes) -> None:
    for content in (data, header(DIRECTORY_OFFSET + len(data)) + data):
        with contextlib.suppress(FormatError):
            for copy in Metadata.parse_all(memoryview(content), source="input", offset=0):
                assert all(at + entry.size <= MAX_ENCLAVE_SIZE for entry, at in copy.placed())
                assert copy.shared_object or copy.version
                recover_config(copy, GENERATIONS[-1])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
