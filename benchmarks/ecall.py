# SPDX-License-Identifier: Apache-2.0
"""How long an enclave's answer takes from Python, beside a plain C call in the same run."""

import ctypes
import platform
import statistics
import time
from collections.abc import Callable

from minimal import EDL, TCS_OFFSET, MinimalImage

from ensconce import _core
from ensconce.enclave import load
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

BATCH, BATCHES = 50, 2000
_EENTER = 2


def p50(call: Callable[[], object]) -> float:
    """Return the median over batches of the time of one call, in microseconds."""
    times = []
    each = range(BATCH)
    for _ in range(BATCHES):
        start = time.perf_counter_ns()
        for _ in each:
            call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / BATCH / 1000


def main() -> None:
    """Measure and print, one line for each kind of call."""
    processor = Processor(Identity.generate(), epc_size=16 << 20)
    labs = ctypes.CDLL(None).labs
    small, large = bytes(64), bytes(1 << 16)
    with load(MinimalImage().signed(), device=DriverModel(processor), edl=EDL) as enclave:
        enter = _core.Call(enclave.device.enter_address).enter
        tcs = enclave.base + TCS_OFFSET
        rows: list[tuple[str, Callable[[], object]]] = [
            ("a C function by ctypes", lambda: labs(-5)),
            ("bare EENTER and EEXIT", lambda: enter(_EENTER, tcs, 0, 0, 0)),
            ("whole ECALL, no parameters", enclave.nothing),
            ("whole ECALL, two numbers and a result", lambda: enclave.add(40, 2)),
            ("whole ECALL, 64 bytes in", lambda: enclave.take(small, 64)),
            ("whole ECALL, 64 KiB in", lambda: enclave.take(large, 1 << 16)),
        ]
        print(f"{platform.python_implementation()} {platform.python_version()}, p50 of {BATCHES}")
        peer = p50(rows[0][1])
        for name, call in rows:
            taken = p50(call)
            print(f"{name:40} {taken:8.2f} us {taken / peer:8.1f} x the C call")


if __name__ == "__main__":
    main()
