# SPDX-License-Identifier: Apache-2.0
"""Fuzz the EDL front end and the C that is made from what it accepts."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.edl import loads
    from ensconce.edl.printer import render
    from ensconce.edl.stubs import stub
    from ensconce.errors import FormatError
    from ensconce.sdk.bridges import trusted_files, untrusted_files


def one_input(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        interface = loads(data.decode("utf-8", "surrogateescape"))
        assert loads(render(interface)) == interface
        trusted_files(interface), untrusted_files(interface), stub(interface)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
