# SPDX-License-Identifier: Apache-2.0
"""Fuzz the file of what a test PCS has announced."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import FormatError
    from ensconce.platform.ledger import Ledger


def one_input(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        ledger = Ledger.parse(data)
        assert Ledger.parse(bytes(ledger)) == ledger


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
