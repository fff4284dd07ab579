# SPDX-License-Identifier: Apache-2.0
"""Fuzz OCALLs: any untrusted stack that a hostile enclave may leave."""

import contextlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from ensconce import edl, errors
    from ensconce.enclave.ocalls import Frame, compile_ocall
    from ensconce.enclave.scalars import Types

SAMPLE = Path(__file__).parents[1] / "tests" / "enclave" / "sample" / "sample.edl"
BASE = 0x100
TYPES = Types(edl.loads(SAMPLE.read_text()), {"handle_t": 4})
HANDLERS = [compile_ocall(each, lambda *_: 0, TYPES) for each in TYPES.interface.ocalls]


def one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    frame = Frame(BASE, memoryview(bytearray(data[3:])))
    with contextlib.suppress(errors.EnsconceError):
        HANDLERS[data[0] % len(HANDLERS)](frame, BASE + data[1] + (data[2] << 8))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
