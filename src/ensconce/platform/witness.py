# SPDX-License-Identifier: Apache-2.0
"""An enclave of one page, made and signed on the spot, that gets REPORTs: a quote's other half.

So a check asks for a quote as a real enclave does, on an SGX processor and on the emulated
one, with no compiler and no file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ensconce import _core
from ensconce.crypto import generate_signing_key
from ensconce.enclave import Device, Untrusted
from ensconce.enclave.loader import load_image
from ensconce.errors import ConfigError, EnclaveError
from ensconce.image import ALL_CHUNKS, Mode, PageRun, key_signer, measure_runs, sign_sigstruct
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.leaves import Enclu
from ensconce.isa.measurement import MrEnclave
from ensconce.isa.report import Report, TargetInfo
from ensconce.isa.secinfo import PAGE_SIZE, PageType, secinfo_flags
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.tcs import Tcs

__all__ = ["REPORT_DATA_BYTES", "Witness"]

REPORT_DATA_BYTES = 64

_TCS, _SSA, _DATA = 0x1000, 0x2000, 0x4000
_NO_MISC = MiscSelect(0)
_LIMIT = 0xFFFFFFFF
_RW = secinfo_flags(PageType.REG, 3)

# RDI is memory of the host: TARGETINFO and report data (576 bytes) in, then REPORT (432) out.
_CODE = bytes.fromhex(
    "fc"  # cld
    "4989ca"  # mov r10, rcx: where to leave to
    "4989fb"  # mov r11, rdi
    "4889fe"  # mov rsi, rdi
    "488d3dEF3F0000"  # lea rdi, [rip + data]
    "4889fb"  # mov rbx, rdi: TARGETINFO
    "b940020000"  # mov ecx, 576
    "f3a4"  # rep movsb
    "488d8b00020000"  # lea rcx, [rbx + 0x200]: report data
    "488d9300040000"  # lea rdx, [rbx + 0x400]: REPORT
    "31c0"  # xor eax, eax: EREPORT
    "0f01d7"  # enclu
    "4889d6"  # mov rsi, rdx
    "498dbb40020000"  # lea rdi, [r11 + 576]
    "b9b0010000"  # mov ecx, 432
    "f3a4"  # rep movsb
    "4c89d3"  # mov rbx, r10
    "b804000000"  # mov eax, 4: EEXIT
    "0f01d7"  # enclu
)


@dataclass
class _Image:
    """The enclave's pages and SIGSTRUCT; an `Image`."""

    source: str = "the witness's enclave"
    format: str = "made on the spot"
    base: int | None = None
    size: int = 0x8000
    ssa_frame_size: int = 1
    attributes: Attributes = field(
        default_factory=lambda: Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY)
    )
    misc_select: MiscSelect = _NO_MISC
    mode: Mode = Mode.HW
    symbols: Mapping[str, int] = field(default_factory=dict)
    sigstruct: SigStruct | None = None

    def operations(self) -> Iterator[PageRun]:
        """Yield the pages."""
        code = _CODE.ljust(PAGE_SIZE, b"\xcc")
        tcs = bytes(Tcs(ossa=_SSA, nssa=2, fs_limit=_LIMIT, gs_limit=_LIMIT))
        yield PageRun(0, 1, secinfo_flags(PageType.REG, 5), code, ALL_CHUNKS)
        yield PageRun(_TCS, 1, secinfo_flags(PageType.TCS), tcs, ALL_CHUNKS)
        yield PageRun(_SSA, 3, _RW, None, ALL_CHUNKS)

    def measure(self) -> MrEnclave:
        """Return MRENCLAVE."""
        return measure_runs(self.size, self.ssa_frame_size, self.operations())


class Witness:
    """The enclave, loaded on a device, which is closed with it."""

    def __init__(self, device: Device) -> None:
        image, key = _Image(), generate_signing_key()
        self.mr_enclave = image.measure()
        unsigned = SigStruct(attributes=image.attributes, enclave_hash=self.mr_enclave)
        image.sigstruct = sign_sigstruct(unsigned, key.public_key(), key_signer(key))
        self._loaded = load_image(image, device)
        self._call = _core.Call(device.enter_address)

    def report(self, target: TargetInfo, data: bytes) -> Report:
        """Return the enclave's REPORT for a target, with 64 bytes of report data."""
        if len(data) != REPORT_DATA_BYTES:
            raise ConfigError(f"report data has {REPORT_DATA_BYTES} bytes, not {len(data)}")
        given = bytes(target) + data
        memory = Untrusted(PAGE_SIZE)
        try:
            memory.data[: len(given)] = given
            tcs = self._loaded.base + _TCS
            if self._call.enter(int(Enclu.EENTER), tcs, memory.address):
                raise EnclaveError("the witness's enclave faulted; see the kernel's log")
            return Report.parse(bytes(memory.data[len(given) : len(given) + Report.SIZE]))
        finally:
            memory.close()

    def close(self) -> None:
        """Destroy the enclave."""
        self._loaded.device.close()
