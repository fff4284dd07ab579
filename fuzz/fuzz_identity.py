# SPDX-License-Identifier: Apache-2.0
"""Fuzz the file of a platform's identity."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import FormatError
    from ensconce.machine.identity import Identity


def one_input(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        identity = Identity.parse(data)
        assert Identity.parse(bytes(identity)) == identity


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
