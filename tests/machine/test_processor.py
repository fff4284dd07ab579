# SPDX-License-Identifier: Apache-2.0
"""The processor as software sees it: CPUID, EPC sections, power."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.machine.building import PAGE, bare, basic_parts, running

from ensconce.errors import ConfigError
from ensconce.isa.attributes import AttributeFlags, Xfrm
from ensconce.isa.cpuid import CpuidFeatures, EpcSection, SgxCpuid
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor, default_epc_size


def test_cpuid_reads_back_as_the_processor_is(identity: Identity) -> None:
    sections = (EpcSection(1 << 32, 64 << 20), EpcSection(1 << 36, 128 << 20))
    cpu = Processor(identity, sections=sections, xfrm=7)
    assert SgxCpuid.read(lambda _, subleaf: cpu.cpuid.registers(subleaf)) == cpu.cpuid
    assert cpu.cpuid.sections == sections
    assert cpu.cpuid.attributes.xfrm == Xfrm(7)
    assert cpu.cpuid.features & CpuidFeatures.SGX2
    assert cpu.cpuid.attributes.flags & AttributeFlags.KSS


def test_the_epc_is_all_sections_together(identity: Identity) -> None:
    sections = (EpcSection(0, 2 * PAGE), EpcSection(1 << 30, 3 * PAGE))
    assert Processor(identity, sections=sections).epc.pages == 5


@pytest.mark.parametrize("size", [0, 100, PAGE + 1, -PAGE])
def test_an_epc_is_whole_pages(identity: Identity, size: int) -> None:
    with pytest.raises(ConfigError, match="multiple of 4096"):
        Processor(identity, epc_size=size)


def test_the_default_epc_leaves_half_of_the_memory(identity: Identity) -> None:
    size = default_epc_size()
    assert PAGE < size <= 4 << 30
    assert Processor(identity).epc.pages == size // PAGE


def test_a_processor_does_not_keep_the_fuses(identity: Identity) -> None:
    cpu = Processor(identity)
    held = repr(vars(cpu)) + repr(vars(cpu.keys))
    assert repr(identity.provisioning_fuses) not in held


def test_a_power_transition_makes_new_volatile_keys(cpu: Processor, key: rsa.RSAPrivateKey) -> None:
    before = (cpu.paging_key, cpu.report_key_id)
    with running(cpu, key) as secs:
        cpu.lose()
        assert not secs.valid
        assert (cpu.epc.used, len(cpu.enclaves)) == (0, 0)
    assert cpu.paging_key != before[0]
    assert cpu.report_key_id != before[1]
    with bare(cpu, basic_parts()) as secs:
        assert secs.valid
