# SPDX-License-Identifier: Apache-2.0
"""Host programs in C for the tests, made with the system's compiler as a vendor's Makefile does.

They start a platform service for themselves, which tests have to end.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
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


def service_process(environment: Mapping[str, str]) -> int:
    """Return the service's process id, by the lock it holds; 0 where it holds none."""
    lock = Path(environment["ENSCONCE_SERVICE"] + ".lock")
    return int(lock.read_text()) if lock.exists() and lock.read_text() else 0


def kill_service(environment: Mapping[str, str]) -> None:
    """End the service the hard way and wait until it is gone."""
    process = service_process(environment)
    if not process:
        return
    try:
        os.kill(process, signal.SIGKILL)
        while Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
            time.sleep(0.01)
        while len(list(Path(f"/proc/{process}/task").iterdir())) > 1:
            time.sleep(0.01)
    except (ProcessLookupError, FileNotFoundError):
        return
