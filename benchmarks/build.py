# SPDX-License-Identifier: Apache-2.0
"""How long hello world takes to build, beside gcc compiling the same C for the host.

Cold is an empty cache but for the downloaded sources of the cryptography; it runs once.
"""

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ensconce import edl
from ensconce.sdk.bridges import trusted_files
from ensconce.sdk.build import build
from ensconce.sdk.edger8r import read_source
from ensconce.sdk.toolchain import Toolchain, cache_folder
from ensconce.sdk.toolchain_archives import INCLUDE

EXAMPLE = Path(__file__).parents[1] / "examples" / "01-hello-world"
ROUNDS = 5


def seconds(step: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median time of a step."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def by_gcc(folder: Path) -> None:
    """Compile the user's C and the bridges with the host's compiler, to objects."""
    places = [str(folder), str(INCLUDE)]
    interface = edl.load("enclave.edl", read_source, places)
    for name, text in trusted_files(interface).items():
        (folder / name).write_text(text)
    command = ["gcc", "-O2", "-fPIC", "-w", f"-I{folder}", f"-I{INCLUDE}", "-c"]
    command += [str(folder / "enclave.c"), str(folder / "enclave_t.c")]
    subprocess.run(command, check=True, cwd=folder)  # noqa: S603 # the project's own sources


def main() -> None:
    """Measure and print, one line for each kind of build."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("enclave.c", "enclave.edl"):
            shutil.copy(EXAMPLE / file, folder)
        source, changes = folder / "enclave.c", iter(range(1 << 30))
        cold, warm = Toolchain.find(folder / "cache"), Toolchain.find()

        def once(toolchain: Toolchain) -> None:
            build([source], folder / "enclave.edl", folder / "enclave.so", toolchain=toolchain)

        def changed() -> None:
            with source.open("a") as text:
                text.write(f"int changed_{next(changes)}(void) {{ return 1; }}\n")
            once(warm)

        once(warm)
        print(f"median of {ROUNDS}, the cold build once")
        peer = seconds(lambda: by_gcc(folder))
        print(f"{'gcc -O2 -c of the same files':40} {peer:7.2f} s")
        rows: list[tuple[str, Callable[[], object], int]] = [
            ("built again, nothing changed", lambda: once(warm), ROUNDS),
            ("built again, the user's code changed", changed, ROUNDS),
        ]
        sources = cache_folder() / "sources"
        if any(sources.glob("*.tar.gz")):
            shutil.copytree(sources, folder / "cache" / "sources")
            rows.append(("built with an empty cache", lambda: once(cold), 1))
        else:
            print(f"no cold build: there are no sources in {sources} yet")
        for title, step, rounds in rows:
            taken = seconds(step, rounds)
            print(f"{title:40} {taken:7.2f} s {taken / peer:7.1f} x gcc", flush=True)


if __name__ == "__main__":
    main()
