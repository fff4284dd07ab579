# SPDX-License-Identifier: Apache-2.0
"""ECALLs of an enclave made by the SDK beside direct calls of the same C functions.

First from C, through libsgx_urts and generated proxies, then from Python, where the direct call
goes by ctypes; both on one core in one run.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ecall import p50
from enclaves import HERE, signed

from ensconce import edl, enclave
from ensconce.sdk.bridges import untrusted_files
from ensconce.sdk.edger8r import read_source
from ensconce.sdk.host_libraries import host_includes, host_libraries
from ensconce.sdk.toolchain import Toolchain

CALLS = HERE / "calls"


def gcc(*arguments: str | Path) -> None:
    """Compile for the host as a vendor's Makefile does."""
    command = ["gcc", "-O2", "-Wall", *map(str, arguments)]
    subprocess.run(command, check=True)  # noqa: S603 # the project's own sources


def from_c(folder: Path, file: Path) -> None:
    """Let host.c measure and print."""
    for name, text in untrusted_files(edl.load("calls.edl", read_source, [str(CALLS)])).items():
        (folder / name).write_text(text)
    libraries = host_libraries(Toolchain.find())
    includes = [f"-I{place}" for place in (folder, *host_includes())]
    sources = (CALLS / "host.c", CALLS / "direct.c", folder / "calls_u.c")
    link = (f"-L{libraries}", "-lsgx_urts", f"-Wl,-rpath,{libraries}")
    gcc(*sources, *includes, *link, "-o", folder / "host")
    place = folder / "service.sock"
    chosen = {"ENSCONCE_SERVICE": str(place), "ENSCONCE_PLATFORM": str(folder / "platform")}
    try:
        subprocess.run([folder / "host", file], env=os.environ | chosen, check=True)  # noqa: S603 # just built
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(Path(f"{place}.lock").read_text()), signal.SIGTERM)


def from_python(folder: Path, file: Path) -> None:
    """Measure and print, one line for each kind of call."""
    gcc("-shared", "-fPIC", CALLS / "direct.c", "-o", folder / "direct.so")
    direct = ctypes.CDLL(str(folder / "direct.so"))
    direct.add_.argtypes, direct.add_.restype = (ctypes.c_int64, ctypes.c_int64), ctypes.c_int64
    direct.take_.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
    small, large = bytes(64), bytes(1 << 16)
    ocalls = {"answer": lambda value: value + 1}
    with enclave.load(file, edl=CALLS / "calls.edl", ocalls=ocalls) as loaded:
        rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
            ("no parameters", direct.nothing_, loaded.nothing),
            (
                "two numbers and a result",
                lambda: direct.add_(40, 2),
                lambda: loaded.add(40, 2),
            ),
            ("64 bytes in", lambda: direct.take_(small, 64), lambda: loaded.take(small, 64)),
            (
                "64 KiB in",
                lambda: direct.take_(large, 1 << 16),
                lambda: loaded.take(large, 1 << 16),
            ),
        ]
        for name, outside, inside in rows:
            left, right = p50(outside), p50(inside)
            line = f"Python host, {name:23} {left:9.3f} us by ctypes {right:9.2f} us as an ECALL"
            print(f"{line}, {right / left:8.1f} x")
        more = p50(lambda: loaded.ask(1)) - p50(lambda: loaded.ask(0))
        print(f"Python host, an OCALL within an ECALL         {more:22.2f} us more")


def main() -> None:
    """Measure both hosts."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = signed("calls", folder)
        from_c(folder, file)
        from_python(folder, file)


if __name__ == "__main__":
    main()
