# SPDX-License-Identifier: Apache-2.0
"""What the trusted runtime is told about the processor."""

import struct
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from ensconce import _core
from ensconce.enclave.features import SystemFeatures, emulated_cpuid
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.cpuid import Registers
from ensconce.machine.processor import Processor

Cpuid = Callable[[int, int], Registers]
AVX2, AVX512F_EXTENDED = 1 << 23, 1 << 27


def everything(leaf: int, _subleaf: int) -> Registers:
    """Answer as a processor with every feature there could be."""
    ones = 0xFFFFFFFF
    return (0x20, 0x756E6547, 0x6C65746E, 0x49656E69) if leaf == 0 else (ones, ones, ones, ones)


def features(cpuid: Cpuid, xfrm: int, flags: int = 0) -> SystemFeatures:
    attributes = Attributes(AttributeFlags(flags), Xfrm(xfrm))
    return SystemFeatures.read(cpuid, attributes, version=5, edmm=True)


def test_the_structure_is_packed_and_says_how_long_it_is() -> None:
    data = bytes(features(everything, 3))
    assert len(data) == 176
    assert struct.unpack_from("<I", data, 8)[0] == 5
    assert struct.unpack_from("<Q", data, 156)[0] == 176


def test_edmm_and_aex_notify_are_bits_of_the_feature_set() -> None:
    plain = struct.unpack_from("<Q", bytes(features(everything, 3)), 12)[0]
    notify = bytes(features(everything, 3, AttributeFlags.AEXNOTIFY))
    assert plain == 1 << 63 | 1 << 62 | 1
    assert struct.unpack_from("<Q", notify, 12)[0] == plain | 2


def test_features_whose_state_xfrm_leaves_out_are_not_offered() -> None:
    assert not features(everything, 3).cpu_features & AVX2
    assert features(everything, 7).cpu_features & AVX2
    assert not features(everything, 7).cpu_features_ext & AVX512F_EXTENDED
    assert features(everything, 0xE7).cpu_features_ext & AVX512F_EXTENDED


@given(st.integers(0, 0xFFFFFFFF), st.sampled_from([3, 7, 0xE7]))
def test_less_in_the_processor_or_xfrm_is_never_more_for_the_enclave(mask: int, xfrm: int) -> None:
    def some(leaf: int, subleaf: int) -> Registers:
        eax, ebx, ecx, edx = everything(leaf, subleaf)
        return (eax, ebx, ecx, edx) if leaf == 0 else (eax, ebx & mask, ecx & mask, edx & mask)

    fewer, whole = features(some, xfrm), features(everything, 0xFF)
    assert not fewer.cpu_features & ~whole.cpu_features
    assert not fewer.cpu_features_ext & ~whole.cpu_features_ext


def test_an_emulated_processor_has_sgx_and_its_makers_name(processor: Processor) -> None:
    cpuid = emulated_cpuid(_core.cpuid, processor.cpuid)
    eax, ebx, ecx, edx = cpuid(0, 0)
    assert struct.pack("<3I", ebx, edx, ecx) == b"GenuineIntel"
    assert eax >= 0x12
    assert cpuid(7, 0)[1] & 1 << 2
    assert cpuid(0x12, 2) == processor.cpuid.registers(2)
    assert cpuid(1, 0)[1:] == _core.cpuid(1, 0)[1:]
