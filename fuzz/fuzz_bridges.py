# SPDX-License-Identifier: Apache-2.0
"""Fuzz generated trusted bridges: any call of a host that changes its memory at every read."""

import ctypes
import importlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tests.sdk.bridges.hostile"]):
    from tests.sdk.bridges.hostile.cases import run
    from tests.sdk.bridges.hostile.machine import HERE, Machine

from ensconce.edl import loads

EDGES = 1 << 16  # as many as runtime.c counts
PLACES = (ctypes.c_uint64 * (2 * EDGES))(*range(1, 2 * EDGES + 1))


def show_edges(library: ctypes.CDLL) -> None:
    """Let the fuzzer see which parts of the bridges, which are C, an input reached."""
    fuzzer = ctypes.CDLL(importlib.import_module("atheris.core_with_libfuzzer").__file__)
    counters = (ctypes.c_uint8 * EDGES).in_dll(library, "counters")
    for name, table in (("8bit_counters", counters), ("pcs", PLACES)):
        start = ctypes.addressof(table)
        end = start + ctypes.sizeof(table)
        fuzzer[f"__sanitizer_cov_{name}_init"](ctypes.c_void_p(start), ctypes.c_void_p(end))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(loads((HERE / "everything.edl").read_text()), Path(folder))
        atheris.Setup(sys.argv, lambda content: run(machine, content) and None)
        show_edges(machine.library)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
