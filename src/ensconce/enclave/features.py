# SPDX-License-Identifier: Apache-2.0
"""What the vendor's trusted runtime is told about the processor when it initialises.

CPUID faults inside an enclave, so the untrusted runtime hands over the features it found. The
structure has grown at its end only: a runtime of any version reads the part that it knows.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from ensconce.image import Image, SdkImage
from ensconce.isa.attributes import AttributeFlags, Attributes
from ensconce.isa.cpuid import Registers, SgxCpuid

__all__ = ["Cpuid", "SystemFeatures", "emulated_cpuid", "interface_version"]

_KERNEL_MEMORY_INTERFACE = 5

_EAX, _EBX, _ECX, _EDX = range(4)
_AVX, _MPX, _AVX512 = 0x06, 0x18, 0xE6  # XFRM bits that must be on

# Legacy bit, extended bit (None: the set has none), leaf, register, mask, XFRM bits.
_FEATURES: tuple[tuple[int | None, int | None, int, int, int, int], ...] = (
    (1, 1, 1, _EDX, 1 << 0, 0),  # x87
    (2, 2, 1, _EDX, 1 << 15, 0),  # cmov
    (3, 3, 1, _EDX, 1 << 23, 0),  # mmx
    (4, 4, 1, _EDX, 1 << 24, 0),  # fxsave
    (5, 5, 1, _EDX, 1 << 25, 0),  # sse
    (6, 6, 1, _EDX, 1 << 26, 0),  # sse2
    (7, 7, 1, _ECX, 1 << 0, 0),  # sse3
    (8, 8, 1, _ECX, 1 << 9, 0),  # ssse3
    (9, 9, 1, _ECX, 1 << 19, 0),  # sse4.1
    (10, 10, 1, _ECX, 1 << 20, 0),  # sse4.2
    (12, 11, 1, _ECX, 1 << 22, 0),  # movbe
    (11, 12, 1, _ECX, 1 << 23, 0),  # popcnt
    (13, 13, 1, _ECX, 1 << 1, 0),  # pclmulqdq
    (14, 14, 1, _ECX, 1 << 25, 0),  # aes
    (15, 15, 1, _ECX, 1 << 29, _AVX),  # f16c
    (16, 16, 1, _ECX, 1 << 28, _AVX),  # avx
    (17, 17, 1, _ECX, 1 << 30, 0),  # rdrand
    (18, 18, 1, _ECX, 1 << 12, _AVX),  # fma
    (19, 19, 7, _EBX, 1 << 3 | 1 << 8, 0),  # bmi1 and bmi2
    (23, 23, 7, _EBX, 1 << 5, _AVX),  # avx2
    (None, 24, 7, _EBX, 1 << 17, _AVX512),  # avx512dq
    (25, None, 0x80000001, _ECX, 1 << 8, 0),  # prefetchw
    (None, 27, 7, _EBX, 1 << 16, _AVX512),  # avx512f
    (27, 28, 7, _EBX, 1 << 19, 0),  # adx
    (26, 29, 7, _EBX, 1 << 18, 0),  # rdseed
    (None, 30, 7, _EBX, 1 << 21, _AVX512),  # avx512ifma
    (None, 34, 7, _EBX, 1 << 28, _AVX512),  # avx512cd
    (None, 35, 7, _EBX, 1 << 29, 0),  # sha
    (None, 36, 7, _EBX, 1 << 14, _MPX),  # mpx
    (None, 37, 7, _EBX, 1 << 30, _AVX512),  # avx512bw
    (None, 38, 7, _EBX, 1 << 31, _AVX512),  # avx512vl
    (None, 39, 7, _ECX, 1 << 1, _AVX512),  # avx512vbmi
    (None, 40, 7, _EDX, 1 << 3, _AVX512),  # avx512_4fmaps
    (None, 41, 7, _EDX, 1 << 2, _AVX512),  # avx512_4vnniw
    (None, 42, 7, _ECX, 1 << 14, _AVX512),  # avx512_vpopcntdq
    (None, 43, 7, _ECX, 1 << 12, _AVX512),  # avx512_bitalg
    (None, 44, 7, _ECX, 1 << 6, _AVX512),  # avx512vbmi2
    (None, 45, 7, _ECX, 1 << 8, 0),  # gfni
    (None, 46, 7, _ECX, 1 << 9, _AVX),  # vaes
    (None, 47, 7, _ECX, 1 << 10, _AVX),  # vpclmulqdq
    (None, 48, 7, _ECX, 1 << 11, _AVX512),  # avx512vnni
    (None, 49, 7, _EBX, 1 << 24, 0),  # clwb
    (None, 50, 7, _ECX, 1 << 22, 0),  # rdpid
    (None, 54, 0x80000008, _EBX, 1 << 9, 0),  # wbnoinvd
)
# The vendor's runtime looks for these on its own processors only.
_OWN_FEATURES: tuple[tuple[int | None, int | None, int, int, int, int], ...] = (
    (20, 20, 0x80000001, _ECX, 1 << 5, 0),  # lzcnt
    (21, 21, 7, _EBX, 1 << 4, 0),  # hle
    (22, 22, 7, _EBX, 1 << 11, 0),  # rtm
    (None, 53, 7, _EBX, 1 << 2, 0),  # sgx
)
_OWN_NAME = b"GenuineIntel"
_EMULATED_SIGNATURE = 0x000606A6  # family 6, model 6AH: a server processor with SGX
_SGX = 1 << 2  # CPUID.07H:EBX
_SGX_LEAF = 0x12
_GENERIC = 1

_LAST = 1 << 63  # of the feature sets; only one is defined
_EXTENDED = 1 << 62  # fields from `size` on are there
_EDMM = 1 << 0
_AEX_NOTIFY = 1 << 1

_LAYOUT = struct.Struct("<QIQ128sQQQI")
_ROWS = (0, 1, None, None, 4, None, None, 7)  # leaves of the table; the others stay zero


Cpuid = Callable[[int, int], Registers]


def emulated_cpuid(host: Cpuid, sgx: SgxCpuid) -> Cpuid:
    """Return CPUID as an emulated SGX processor answers it: the host's, and SGX beside it.

    Trusted libraries refuse a processor without the vendor's name, so it is given one.
    """

    def cpuid(leaf: int, subleaf: int) -> Registers:
        eax, ebx, ecx, edx = host(leaf, subleaf)
        if leaf == 0:
            ebx, edx, ecx = struct.unpack("<3I", _OWN_NAME)
            eax = max(eax, _SGX_LEAF)
        elif leaf == 1 and not _is_own(host):
            eax = _EMULATED_SIGNATURE
        elif leaf == 7 and subleaf == 0:
            ebx |= _SGX
        elif leaf == _SGX_LEAF:
            return sgx.registers(subleaf)
        return eax, ebx, ecx, edx

    return cpuid


def _is_own(cpuid: Cpuid) -> bool:
    """Return whether the processor has the vendor's name."""
    _, ebx, ecx, edx = cpuid(0, 0)
    return struct.pack("<3I", ebx, edx, ecx) == _OWN_NAME


@dataclass(frozen=True, slots=True)
class SystemFeatures:
    """The argument of ECMD_INIT_ENCLAVE: 176 bytes, packed.

    `version` is the vendor's number of the interface: 0 up to SDK 2.17's metadata, 5 from
    metadata 3.0 on. `edmm` says that the processor and the driver can change pages at run time.
    """

    cpu_features: int
    cpu_features_ext: int
    cpuid_rows: bytes
    version: int
    edmm: bool
    aex_notify: bool
    cores: int

    @classmethod
    def read(
        cls,
        cpuid: Cpuid,
        attributes: Attributes,
        *,
        version: int,
        edmm: bool,
    ) -> "SystemFeatures":
        """Read the processor's features, without those whose state XFRM does not let it save."""
        xfrm = int(attributes.xfrm)
        rows = _FEATURES + _OWN_FEATURES if _is_own(cpuid) else _FEATURES
        leaves = {leaf: cpuid(leaf, 0) for leaf in {row[2] for row in rows}}
        legacy = extended = _GENERIC
        for old, new, leaf, register, mask, needed in rows:
            if leaves[leaf][register] & mask == mask and xfrm & needed == needed:
                legacy |= 1 << old if old is not None else 0
                extended |= 1 << new if new is not None else 0
        table = b"".join(
            struct.pack("<4I", *(cpuid(leaf, 0) if leaf is not None else (0, 0, 0, 0)))
            for leaf in _ROWS
        )
        return cls(
            legacy,
            extended,
            table,
            version,
            edmm,
            bool(attributes.flags & AttributeFlags.AEXNOTIFY),
            os.cpu_count() or 1,
        )

    def __bytes__(self) -> bytes:
        features = _LAST | _EXTENDED
        features |= _EDMM if self.edmm else 0
        features |= _AEX_NOTIFY if self.aex_notify else 0
        sealed_key = 0  # an encrypted enclave's; that loader is not offered
        return _LAYOUT.pack(
            self.cpu_features,
            self.version,
            features,
            self.cpuid_rows,
            sealed_key,
            _LAYOUT.size,
            self.cpu_features_ext,
            self.cores,
        )


def interface_version(image: Image) -> int:
    """Return the number of the interface that an image's trusted runtime expects.

    Metadata 3 is the first whose runtime manages memory through the kernel's interface.
    """
    if isinstance(image, SdkImage) and image.metadata.version[0] >= 3:
        return _KERNEL_MEMORY_INTERFACE
    return 0
