# SPDX-License-Identifier: Apache-2.0
"""Bare EENTER and EEXIT from C, beside the host's own cost of a fault that a handler takes."""

import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Compile entry.c with the core and run it."""
    core = [
        path
        for path in sorted((ROOT / "csrc").glob("*.c"))
        if path.name != "module.c" and not path.name.startswith("py_")
    ]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "entry"
        flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-fvisibility=hidden", f"-I{ROOT / 'csrc'}"]
        subprocess.run(  # noqa: S603 # the project's own sources
            ["gcc", *flags, ROOT / "benchmarks" / "entry.c", *core, "-o", program],  # noqa: S607
            check=True,
        )
        subprocess.run([program], check=True)  # noqa: S603 # just built


if __name__ == "__main__":
    main()
