# SPDX-License-Identifier: Apache-2.0
"""Fuzz the SGXS reader; what it accepts measures as its pages do, and is written back the same."""

import contextlib
import io
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import FormatError
    from ensconce.image import SgxsImage, measure_runs, write_sgxs


def one_input(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        image = SgxsImage.parse(memoryview(data), source="input")
        runs = list(image.operations())
        measured = image.measure()
        assert measured == measure_runs(image.size, image.ssa_frame_size, runs)
        out = io.BytesIO()
        write_sgxs(out, image.size, image.ssa_frame_size, runs)
        assert SgxsImage.parse(out.getbuffer(), source="output").measure() == measured
        assert image.mode


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
