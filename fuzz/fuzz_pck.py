# SPDX-License-Identifier: Apache-2.0
"""Fuzz the SGX extension of PCK certificates; what it accepts is DER, so it is written the same."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.dcap.pck import PckExtension
    from ensconce.errors import FormatError


def one_input(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        extension = PckExtension.parse(data)
        assert PckExtension.parse(bytes(extension)) == extension


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
