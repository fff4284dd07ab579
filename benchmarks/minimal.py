# SPDX-License-Identifier: Apache-2.0
"""The smallest enclave that answers: it adds two numbers, if it is given any, and returns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ensconce.crypto import generate_signing_key
from ensconce.image import ALL_CHUNKS, Mode, PageRun, key_signer, measure_runs, sign_sigstruct
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.measurement import MrEnclave
from ensconce.isa.secinfo import PAGE_SIZE, PageType, secinfo_flags
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.tcs import Tcs

EDL = """enclave { trusted {
    public void nothing();
    public int64_t add(int64_t a, int64_t b);
    public int64_t take([in, size = n] const uint8_t* data, size_t n);
}; };"""

TCS_OFFSET = 0x1000

# test rsi, rsi; jz 1f; mov rax, [rsi+8]; add rax, [rsi+16]; mov [rsi], rax;
# 1: mov rbx, rcx; mov rdi, -1; xor esi, esi; mov eax, EEXIT; enclu
CODE = bytes.fromhex(
    "4885f6 740b 488b4608 48034610 488906 4889cb 48c7c7ffffffff 31f6 b804000000 0f01d7"
)


@dataclass
class MinimalImage:
    """An enclave of one page of code, one thread, and as much measured data as is given."""

    data: memoryview | bytes = b""
    source: str = "minimal"
    format: str = "made by hand"
    base: int | None = None
    ssa_frame_size: int = 1
    attributes: Attributes = field(
        default_factory=lambda: Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY)
    )
    misc_select: MiscSelect = MiscSelect.EXINFO
    mode: Mode = Mode.HW
    symbols: Mapping[str, int] = field(default_factory=dict)
    sigstruct: SigStruct | None = None

    @property
    def size(self) -> int:
        """SECS.SIZE in bytes."""
        return 1 << (0x10000 + len(self.data) - 1).bit_length()

    def operations(self) -> Iterator[PageRun]:
        """Yield the pages."""
        code = CODE.ljust(PAGE_SIZE, b"\0")
        limit = 0xFFFFFFFF
        tcs = bytes(Tcs(ossa=0x2000, nssa=2, fs_limit=limit, gs_limit=limit))
        yield PageRun(0, 1, secinfo_flags(PageType.REG, 5), code, ALL_CHUNKS)
        yield PageRun(TCS_OFFSET, 1, secinfo_flags(PageType.TCS), tcs, ALL_CHUNKS)
        yield PageRun(0x2000, 2, secinfo_flags(PageType.REG, 3), None, ALL_CHUNKS)
        if self.data:
            pages = len(self.data) // PAGE_SIZE
            yield PageRun(0x10000, pages, secinfo_flags(PageType.REG, 1), self.data, ALL_CHUNKS)

    def measure(self) -> MrEnclave:
        """Return MRENCLAVE."""
        return measure_runs(self.size, self.ssa_frame_size, self.operations())

    def signed(self) -> "MinimalImage":
        """Sign with a fresh key."""
        key = generate_signing_key()
        unsigned = SigStruct(
            attributes=self.attributes,
            misc_select=self.misc_select,
            enclave_hash=self.measure(),
        )
        self.sigstruct = sign_sigstruct(unsigned, key.public_key(), key_signer(key))
        return self
