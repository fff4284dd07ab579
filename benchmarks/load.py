# SPDX-License-Identifier: Apache-2.0
"""Measuring and loading an enclave of 256 MiB, beside the plain SHA-256 of the same bytes.

Each step runs in a process of its own, so that its peak memory is its own too. That counts the
mapped file, which the operating system can take back, and for a loaded enclave its EPC.
"""

import hashlib
import mmap
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from minimal import MinimalImage

from ensconce.enclave import load
from ensconce.isa.sigstruct import SigStruct
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

MIB = 1 << 20
SIZE = 256 * MIB


def content(path: Path) -> memoryview:
    """Map the file that the enclave's data come from."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def plain_hash(data: memoryview, _sigstruct: SigStruct) -> None:
    """Hash the bytes and nothing else."""
    hashlib.sha256(data).digest()


def measuring(data: memoryview, _sigstruct: SigStruct) -> None:
    """Take MRENCLAVE from the file."""
    MinimalImage(data).measure()


def loading(data: memoryview, sigstruct: SigStruct) -> None:
    """Load, which measures too, and call once."""
    processor = Processor(Identity.generate(), epc_size=SIZE + 16 * MIB)
    image = MinimalImage(data, sigstruct=sigstruct)
    with load(image, device=DriverModel(processor)) as enclave:
        enclave.ecall(0)


Step = Callable[[memoryview, SigStruct], None]


def memory(field: str) -> int:
    """Return a field of this process's memory counters, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) // 1024
    return 0


def run(step: Step, path: Path, sigstruct: SigStruct, answer: Connection) -> None:
    """Run a step; send its seconds and its peak memory beyond what the process started with."""
    data = content(path)
    before = memory("VmRSS")
    start = time.perf_counter()
    step(data, sigstruct)
    taken = time.perf_counter() - start
    answer.send((taken, memory("VmHWM") - before))


def measure(step: Step, path: Path, sigstruct: SigStruct) -> tuple[float, int]:
    """Return the best of three runs, each in a new process, and its peak memory in MiB."""
    results = []
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run, args=(step, path, sigstruct, sender))
        process.start()
        results.append(receiver.recv())
        process.join()
    return min(results)


def main() -> None:
    """Measure and print, one line for each step."""
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(SIZE // MIB):
            file.write(os.urandom(MIB))
        file.flush()
        path = Path(file.name)
        sigstruct = MinimalImage(content(path)).signed().sigstruct
        assert sigstruct is not None
        print(f"{SIZE // MIB} MiB, Python {sys.version.split()[0]}, best of 3")
        peer = 0.0
        for name, step in (
            ("SHA-256 of the bytes", plain_hash),
            ("MRENCLAVE of the file", measuring),
            ("load, EINIT and one ECALL", loading),
        ):
            taken, peak = measure(step, path, sigstruct)
            peer = peer or taken
            print(
                f"{name:28} {taken:7.3f} s {taken / peer:6.2f} x the hash, {peak:5} MiB at its peak"
            )


if __name__ == "__main__":
    main()
