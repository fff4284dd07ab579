# SPDX-License-Identifier: Apache-2.0
"""How long EREPORT and EGETKEY take, with entry and exit, beside the AES-CMAC that each needs."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from ecall import BATCHES, p50
from minimal import TCS_OFFSET, MinimalImage

from ensconce import _core
from ensconce.crypto import aes_cmac
from ensconce.enclave import load
from ensconce.image import PageRun
from ensconce.isa.keyrequest import KeyName, KeyPolicy, KeyRequest
from ensconce.isa.leaves import Enclu
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

_REPORT_BODY = 384

# mov r8, rcx; test edi, edi; jnz 2f
# lea rbx, TARGETINFO; lea rcx, REPORTDATA; lea rdx, REPORT; xor eax, eax; enclu; jmp 3f
# 2: lea rbx, KEYREQUEST; lea rcx, key; mov eax, 1; enclu
# 3: mov rbx, r8; mov rsi, rax; mov rdi, -1; mov eax, EEXIT; enclu
CODE = bytes.fromhex(
    "4989c8 85ff 751c 488d1df22f0000 488d0deb310000 488d15e4330000 31c0 0f01d7 eb16"
    "488d1dd6370000 488d0dcf350000 b801000000 0f01d7"
    "4c89c3 4889c6 48c7c7ffffffff b804000000 0f01d7"
)
OPERANDS, KEY_REQUEST = 0x3000, 0x800


class LeafImage(MinimalImage):
    """An enclave that executes the leaf whose number is in RDI, on operands in its fourth page."""

    def operations(self) -> Iterator[PageRun]:
        """Yield the pages."""
        request = KeyRequest(key_name=KeyName.SEAL, key_policy=KeyPolicy.MRSIGNER)
        for run in super().operations():
            if run.offset == 0:
                yield replace(run, content=CODE.ljust(PAGE_SIZE, b"\0"))
            elif run.offset == OPERANDS - PAGE_SIZE:
                operands = (bytes(KEY_REQUEST) + bytes(request)).ljust(PAGE_SIZE, b"\0")
                yield replace(run, count=1)
                yield replace(run, offset=OPERANDS, count=1, content=operands)
            else:
                yield run


def main() -> None:
    """Measure and print, one line for each leaf."""
    processor = Processor(Identity.generate(), epc_size=16 << 20)
    key, body = bytes(16), bytes(_REPORT_BODY)
    with load(LeafImage().signed(), device=DriverModel(processor)) as enclave:
        call = _core.Call(enclave.device.enter_address)
        tcs = enclave.base + TCS_OFFSET

        def leaf(number: Enclu) -> Callable[[], object]:
            assert call.enter(Enclu.EENTER, tcs, number, 0, 0) == 0
            assert call.rsi == 0, f"{number.name} answered {call.rsi}"
            return lambda: call.enter(Enclu.EENTER, tcs, number, 0, 0)

        peer = p50(lambda: aes_cmac(key, body))
        print(f"p50 of {BATCHES}")
        print(f"{'AES-CMAC of a REPORT body':40} {peer:8.2f} us      1.0 x the CMAC")
        for number in (Enclu.EREPORT, Enclu.EGETKEY):
            taken = p50(leaf(number))
            print(f"{number.name:40} {taken:8.2f} us {taken / peer:8.1f} x the CMAC")


if __name__ == "__main__":
    main()
