# SPDX-License-Identifier: Apache-2.0
"""Host programs in C for the tests, made with the system's compiler as a vendor's Makefile does."""

import subprocess
from pathlib import Path

from ensconce.edl.files import load_file
from ensconce.sdk.bridges import untrusted_files
from ensconce.sdk.host_libraries import host_includes, host_libraries
from ensconce.sdk.toolchain import Toolchain


def build_host(toolchain: Toolchain, source: Path, edl: Path, folder: Path) -> Path:
    """Return the program of one C file and an interface's host side, built in `folder`."""
    files = untrusted_files(load_file(edl))
    for name, text in files.items():
        (folder / name).write_text(text)
    libraries = host_libraries(toolchain)
    command = ["gcc", "-Wall", "-O1", "-pthread", "-o", str(folder / "app"), str(source)]
    command += [str(folder / name) for name in files if name.endswith(".c")]
    command += [f"-I{place}" for place in (folder, *host_includes())]
    command += [f"-L{libraries}", "-lsgx_urts", f"-Wl,-rpath,{libraries}"]
    subprocess.run(command, check=True)
    return folder / "app"
