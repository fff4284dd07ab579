# SPDX-License-Identifier: Apache-2.0
"""No file, however damaged, makes the checks of an image do anything but list faults."""

import contextlib
import sys

import atheris

with atheris.instrument_imports():
    from ensconce.errors import EnsconceError
    from ensconce.sdk.illegal import findings
    from ensconce.sdk.lint import lint


def one_input(data: bytes) -> None:
    with contextlib.suppress(EnsconceError):
        list(findings(data, "input"))
        lint(data, "input")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
