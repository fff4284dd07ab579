# SPDX-License-Identifier: Apache-2.0
"""CPUID leaf 12H, read and written."""

from hypothesis import given
from hypothesis import strategies as st

from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.cpuid import CpuidFeatures, EpcSection, SgxCpuid

PAGES = st.integers(1, (1 << 40) - 1).map(lambda pages: pages << 12)
SECTIONS = st.lists(st.builds(EpcSection, PAGES, PAGES, st.integers(0, 3)), max_size=8)
LEAVES = st.builds(
    SgxCpuid,
    st.integers(0, 0xFFFFFFFF).map(CpuidFeatures),
    st.integers(0, 0xFFFFFFFF).map(MiscSelect),
    st.integers(0, 255),
    st.integers(0, 255),
    st.builds(
        Attributes,
        st.integers(0, (1 << 64) - 1).map(AttributeFlags),
        st.integers(0, (1 << 64) - 1).map(Xfrm),
    ),
    SECTIONS.map(tuple),
)


@given(leaf=LEAVES)
def test_leaf_12h_round_trips_with_all_its_sections(leaf: SgxCpuid) -> None:
    def cpuid(number: int, subleaf: int) -> tuple[int, int, int, int]:
        assert number == 0x12
        return leaf.registers(subleaf)

    assert SgxCpuid.read(cpuid) == leaf


def test_a_real_ice_lake_server_is_read() -> None:
    answers = {
        0: (0x463, 0x1, 0x0, 0x381F),
        1: (0x36, 0x0, 0x2E7, 0x0),
        2: (0x80C00001, 0x10, 0x7F400001, 0x0),
        3: (0x80C00001, 0x20, 0x7F400001, 0x0),
    }
    leaf = SgxCpuid.read(lambda _, subleaf: answers.get(subleaf, (0, 0, 0, 0)))
    assert leaf.features == CpuidFeatures.SGX1 | CpuidFeatures.SGX2 | CpuidFeatures.ENCLV | (
        CpuidFeatures.ENCLS_C | CpuidFeatures.EUPDATESVN
    )
    assert leaf.max_enclave_size_64 == 56
    assert [section.base for section in leaf.sections] == [0x1080C00000, 0x2080C00000]
    assert leaf.epc_size == 2 * 0x7F400000


def test_endless_sections_are_cut() -> None:
    leaf = SgxCpuid.read(lambda _, subleaf: (1, 0, 0x1001, 0) if subleaf >= 2 else (0, 0, 0, 0))
    assert len(leaf.sections) == 64
