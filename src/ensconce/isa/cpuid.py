# SPDX-License-Identifier: Apache-2.0
"""CPUID leaf 12H: what SGX a processor has, and its EPC sections (SDM vol. 3D, 37.7.2)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import KEEP, IntEnum, IntFlag

from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm

__all__ = ["CpuidFeatures", "EpcProtection", "EpcSection", "Registers", "SgxCpuid"]

Registers = tuple[int, int, int, int]
_MAX_SECTIONS = 64


class CpuidFeatures(IntFlag, boundary=KEEP):
    """EAX of sub-leaf 0."""

    SGX1 = 1 << 0
    SGX2 = 1 << 1
    ENCLV = 1 << 5
    ENCLS_C = 1 << 6
    EVERIFYREPORT2 = 1 << 7
    EUPDATESVN = 1 << 10
    EDECCSSA = 1 << 11


class EpcProtection(IntEnum):
    """ECX bits 3:0 of an EPC sub-leaf."""

    NONE = 0
    CONFIDENTIALITY_INTEGRITY = 1
    CONFIDENTIALITY = 2


@dataclass(frozen=True, slots=True)
class EpcSection:
    """One EPC section: physical base and size in bytes, and how it is protected."""

    base: int
    size: int
    protection: int = EpcProtection.CONFIDENTIALITY_INTEGRITY

    def registers(self) -> Registers:
        """Return EAX, EBX, ECX, EDX of the sub-leaf that describes this section."""
        return (
            self.base & 0xFFFFF000 | 1,
            self.base >> 32 & 0xFFFFF,
            self.size & 0xFFFFF000 | self.protection & 0xF,
            self.size >> 32 & 0xFFFFF,
        )

    @classmethod
    def parse(cls, registers: Registers) -> "EpcSection | None":
        """Return the section in a sub-leaf's registers, None where the sub-leaf is invalid."""
        eax, ebx, ecx, edx = registers
        if eax & 0xF != 1:
            return None
        return cls(
            eax & 0xFFFFF000 | (ebx & 0xFFFFF) << 32,
            ecx & 0xFFFFF000 | (edx & 0xFFFFF) << 32,
            ecx & 0xF,
        )


@dataclass(frozen=True, slots=True)
class SgxCpuid:
    """Leaf 12H as a whole; enclave sizes are powers of two, given as their exponents."""

    features: CpuidFeatures
    misc_select: MiscSelect
    max_enclave_size_not64: int
    max_enclave_size_64: int
    attributes: Attributes
    sections: tuple[EpcSection, ...]

    @classmethod
    def read(cls, cpuid: Callable[[int, int], Registers]) -> "SgxCpuid":
        """Read every sub-leaf by `cpuid(leaf, subleaf)`; the caller knows that leaf 12H exists."""
        eax, ebx, _, edx = cpuid(0x12, 0)
        a, b, c, d = cpuid(0x12, 1)
        return cls(
            CpuidFeatures(eax),
            MiscSelect(ebx),
            edx & 0xFF,
            edx >> 8 & 0xFF,
            Attributes(AttributeFlags(b << 32 | a), Xfrm(d << 32 | c)),
            tuple(_sections(cpuid(0x12, 2 + index) for index in range(_MAX_SECTIONS))),
        )

    def registers(self, subleaf: int) -> Registers:
        """Return what CPUID answers for a sub-leaf of 12H."""
        if subleaf == 0:
            sizes = self.max_enclave_size_not64 | self.max_enclave_size_64 << 8
            return int(self.features), int(self.misc_select), 0, sizes
        if subleaf == 1:
            flags, xfrm = int(self.attributes.flags), int(self.attributes.xfrm)
            return flags & 0xFFFFFFFF, flags >> 32, xfrm & 0xFFFFFFFF, xfrm >> 32
        if subleaf - 2 < len(self.sections):
            return self.sections[subleaf - 2].registers()
        return 0, 0, 0, 0

    @property
    def epc_size(self) -> int:
        """The bytes of EPC in all sections together."""
        return sum(section.size for section in self.sections)


def _sections(subleaves: Iterable[Registers]) -> Iterable[EpcSection]:
    """Yield sections up to the first invalid sub-leaf."""
    for registers in subleaves:
        section = EpcSection.parse(registers)
        if section is None:
            return
        yield section
