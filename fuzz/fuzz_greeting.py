# SPDX-License-Identifier: Apache-2.0
"""Fuzz the greeting by which host processes begin with the platform service."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import ProtocolError
    from ensconce.platform.wire import HELLO_SIZE, Hello


def one_input(data: bytes) -> None:
    for greeting in (data, b"ensc\1\0\0\0" + data[: HELLO_SIZE - 8].ljust(HELLO_SIZE - 8, b"\0")):
        with contextlib.suppress(ProtocolError):
            Hello.parse(greeting)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
