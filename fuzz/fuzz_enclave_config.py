# SPDX-License-Identifier: Apache-2.0
"""Fuzz the reader of Enclave.config.xml; what it accepts reads the same when written again."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import SourceError
    from ensconce.image.config import parse_config, render_config


def one_input(data: bytes) -> None:
    for text in (data, b"<EnclaveConfiguration>" + data + b"</EnclaveConfiguration>"):
        with contextlib.suppress(SourceError):
            config = parse_config(text)
            assert not config.fault()
            assert parse_config(render_config(config).encode()) == config


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
