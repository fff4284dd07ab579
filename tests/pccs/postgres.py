# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of Debian's packages, for one test: on a socket in a folder, no network."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["BIN", "needs_postgres", "postgres"]

_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
BIN = _FOUND[-1].parent if _FOUND else None

needs_postgres = pytest.mark.skipif(
    BIN is None, reason="PostgreSQL is not installed (apt install postgresql)"
)


@contextmanager
def postgres() -> Iterator[str]:
    """Give the URL of an empty database."""
    assert BIN is not None
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is short
    data = folder / "data"
    if os.geteuid() == 0:
        shutil.chown(folder, user)

    def run(*command: str | Path) -> None:
        subprocess.run(
            list(map(str, command)), check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL
        )

    try:
        run(BIN / "initdb", "-D", data, "-A", "trust", "-N", "-U", "pccs")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run(BIN / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql://pccs@/postgres?host={folder}"
        finally:
            run(BIN / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
