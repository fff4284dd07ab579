# SPDX-License-Identifier: Apache-2.0
"""The test enclave of enclave.S on the bare core: no driver, no EPCM, no measurement."""

import struct
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from ensconce import _core
from ensconce.isa.ssa import ExInfo, GprSgx

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
EENTER, ERESUME, EEXIT = 2, 3, 4
READ, WRITE, EXECUTE = 1, 2, 4
PAGE = 4096
DATA, DATA_SIZE = 0x4000, 0x4000
SIZE = 0x80000
THREAD, THREAD_SPAN = 0x10000, 0x8000
SSA, STORAGE = 0x1000, 0x6000  # within a thread's span
EXINFO = 1
AEX_NOTIFY = 1 << 10

Leaf = Callable[[_core.Frame], tuple[int, int, int] | None]
FaultHandler = Callable[[int, int, int], bool | int]


@cache
def program() -> tuple[bytes, dict[str, int]]:
    """Assemble enclave.S and return its bytes and the offsets of its routines."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        built = work / "enclave.o"
        linked = work / "enclave"
        subprocess.run(["gcc", "-c", HERE / "enclave.S", "-o", built], check=True)
        subprocess.run(["ld", "-Ttext=0", "-e", "entry", "-o", linked, built], check=True)
        raw = work / "enclave.bin"
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", linked, raw], check=True)
        names = subprocess.run(["nm", linked], check=True, capture_output=True, text=True).stdout
        symbols = {}
        for line in names.splitlines():
            address, kind, name = line.split()
            if kind == "T":
                symbols[name] = int(address, 16)
        return raw.read_bytes(), symbols


def no_leaf(frame: _core.Frame) -> tuple[int, int, int]:
    """Refuse every leaf as the processor does an unknown one."""
    del frame
    return 13, 0, 0


class Rig:
    """One enclave with `threads` TCSs, entered by `call`; page faults are in `faults`."""

    def __init__(
        self,
        *,
        threads: int = 1,
        nssa: int = 3,
        xfrm: int | None = None,
        misc_select: int = EXINFO,
        attributes: int = 4,
        flags: int = 0,
        leaf: Leaf = no_leaf,
        fault: FaultHandler | None = None,
    ) -> None:
        code, self.symbols = program()
        self.faults: list[tuple[int, int, int]] = []
        self.nssa = nssa
        self.flags = flags
        self.base = _core.reserve(SIZE)
        self.memory = _core.Memory(self.base, SIZE)
        self.memory.alias_view(0, len(code))[:] = code
        self.memory.protect(0, DATA, READ | EXECUTE)
        self.memory.protect(DATA, DATA_SIZE, READ | WRITE)
        handler = fault or self.refuse
        xfrm = _core.xcr0() & 0xE7 if xfrm is None else xfrm
        self.enclave = _core.Enclave(self.memory, 1, misc_select, attributes, xfrm, leaf, handler)
        for thread in range(threads):
            self.add_thread(thread)
        self.enclave.enable(True)  # noqa: FBT003 # the interface is positional
        self.call = self.new_call()

    def new_call(self) -> _core.Call:
        return _core.Call(_core.emulated_enter_address())

    def refuse(self, address: int, error_code: int, function: int) -> bool:
        self.faults.append((address - self.base, error_code, function))
        return False

    def tcs_offset(self, thread: int = 0) -> int:
        return THREAD + thread * THREAD_SPAN

    def tcs(self, thread: int = 0) -> int:
        return self.base + self.tcs_offset(thread)

    def add_thread(self, thread: int, cssa: int = 0, **changes: int) -> None:
        offset = self.tcs_offset(thread)
        self.memory.protect(offset + PAGE, THREAD_SPAN - PAGE, READ | WRITE)
        fields = {
            "flags": self.flags,
            "ossa": offset + SSA,
            "nssa": self.nssa,
            "cssa": cssa,
            "oentry": 0,
            "ofsbase": offset + STORAGE,
            "ogsbase": offset + STORAGE + 0x100,
        }
        self.enclave.set_tcs(offset, **{**fields, **changes})

    def run(self, routine: str, argument: int = 0, *, thread: int = 0, rsp: int = 0) -> int:
        """EENTER to a routine; 0 for EEXIT, 1 for an exception."""
        return self.call.enter(EENTER, self.tcs(thread), self.symbols[routine], argument, rsp)

    def resume(self, *, thread: int = 0) -> int:
        return self.call.enter(ERESUME, self.tcs(thread), rsp=self.call.rsp)

    def reset(self, thread: int = 0) -> None:
        """Forget what the thread was doing."""
        self.enclave.set_cssa(self.tcs_offset(thread), 0)

    def cssa(self, thread: int = 0) -> int:
        return self.enclave.tcs(self.tcs_offset(thread))[0]

    def frame(self, index: int = 0, thread: int = 0) -> memoryview:
        """The bytes of an SSA frame."""
        return self.memory.alias_view(self.tcs_offset(thread) + SSA + index * PAGE, PAGE)

    def gpr(self, index: int = 0, thread: int = 0) -> GprSgx:
        return GprSgx.parse(self.frame(index, thread)[PAGE - 184 :])

    def exinfo(self, index: int = 0, thread: int = 0) -> ExInfo:
        return ExInfo.parse(self.frame(index, thread)[PAGE - 200 : PAGE - 184])

    def word(self, offset: int) -> int:
        """A quadword of the data pages."""
        value: int = struct.unpack("<Q", self.memory.alias_view(DATA + offset, 8))[0]
        return value

    def set_word(self, offset: int, value: int) -> None:
        self.memory.alias_view(DATA + offset, 8)[:] = struct.pack("<Q", value)

    def close(self) -> None:
        self.enclave.close()
        self.memory.close()
        _core.release(self.base, SIZE)
