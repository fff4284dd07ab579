# SPDX-License-Identifier: Apache-2.0
"""ECREATE: what it takes and what it refuses (SDM vol. 3D, 40.3)."""

from dataclasses import replace

import pytest
from tests.machine.building import BASIC, CREATE_INFO, SIZE, bare, secs_for

from ensconce import _core
from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags, Attributes, CetAttributes, MiscSelect, Xfrm
from ensconce.isa.secinfo import PageType, SecInfo, SecInfoFlags, secinfo_flags
from ensconce.isa.ssa import Vector
from ensconce.machine.encls_build import ecreate
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor


def test_a_new_enclave_takes_one_epc_page(cpu: Processor) -> None:
    with bare(cpu, []) as secs:
        assert (cpu.epc.used, secs.resident, secs.initialized) == (1, 0, False)
    assert cpu.epc.used == 0


def test_every_enclave_has_an_identifier_of_its_own(cpu: Processor) -> None:
    with bare(cpu, []) as one, bare(cpu, []) as other:
        assert one.eid != other.eid


def test_identity_fields_of_the_secs_are_cleared(cpu: Processor) -> None:
    with bare(cpu, [], isv_svn=7, isv_prod_id=8, mr_signer=b"\1" * 32) as secs:
        assert (secs.secs.isv_svn, secs.secs.isv_prod_id) == (0, 0)
        assert secs.secs.mr_signer == bytes(32)


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": Attributes(BASIC, Xfrm(0))},
        {"attributes": Attributes(BASIC, Xfrm(1))},
        {"attributes": Attributes(BASIC, Xfrm(0x23))},
        {"attributes": Attributes(BASIC, Xfrm(1 << 62 | 3))},
        {"attributes": Attributes(BASIC | AttributeFlags.INIT, Xfrm.LEGACY)},
        {"attributes": Attributes(BASIC | AttributeFlags.CET, Xfrm.LEGACY)},
        {"attributes": Attributes(BASIC | AttributeFlags(1 << 63), Xfrm.LEGACY)},
        {"misc_select": MiscSelect.CPINFO},
        {"misc_select": MiscSelect(1 << 31)},
        {"ssa_frame_size": 0},
        {"size": 0},
        {"size": 4096},
        {"size": SIZE + 4096},
        {"size": 1 << 47},
        {"base_addr": 1 << 47},
        {"base_addr": 1 << 63},
        {"base_addr": 4096},
        {"cet_attributes": CetAttributes.ENDBR_EN},
        {"cet_leg_bitmap_offset": 4096},
        {"config_svn": 1},
        {"config_id": b"\1" * 64},
        {"reserved1": b"\1" * 15},
        {"reserved4": b"\1" * 3834},
    ],
    ids=lambda fields: "-".join(f"{name}={value}"[:60] for name, value in fields.items()),
)
def test_a_secs_that_the_manual_refuses_is_a_protection_fault(
    cpu: Processor, fields: dict[str, object]
) -> None:
    secs = replace(secs_for(1 << 40), **fields)  # type: ignore[arg-type]  # by name
    with pytest.raises(Fault) as caught:
        ecreate(cpu, secs, CREATE_INFO)
    assert caught.value.code is Vector.GP
    assert cpu.epc.used == 0


def test_a_secs_outside_64_bit_mode_lies_below_4_gib(cpu: Processor) -> None:
    secs = secs_for(1 << 40, attributes=Attributes(AttributeFlags.DEBUG, Xfrm.LEGACY))
    with pytest.raises(Fault, match="canonical"):
        ecreate(cpu, secs, CREATE_INFO)


def test_kss_fields_come_with_kss(cpu: Processor) -> None:
    attributes = Attributes(BASIC | AttributeFlags.KSS, Xfrm.LEGACY)
    with bare(cpu, [], attributes=attributes, config_svn=3, config_id=b"\2" * 64) as secs:
        assert secs.secs.config_svn == 3


@pytest.mark.parametrize(
    "secinfo",
    [
        SecInfo(secinfo_flags(PageType.REG)),
        SecInfo(SecInfoFlags(1)),
        SecInfo(CREATE_INFO.flags, b"\1" * 56),
    ],
)
def test_secinfo_must_be_that_of_a_secs(cpu: Processor, secinfo: SecInfo) -> None:
    with pytest.raises(Fault) as caught:
        ecreate(cpu, secs_for(1 << 40), secinfo)
    assert caught.value.code is Vector.GP


def test_an_epc_without_room_for_a_secs_is_a_page_fault(identity: Identity) -> None:
    cpu = Processor(identity, epc_size=4096)
    with bare(cpu, []), pytest.raises(Fault) as caught:
        ecreate(cpu, secs_for(_core.reserve(SIZE)), CREATE_INFO)
    assert caught.value.code is Vector.PF


def test_a_frame_must_hold_what_xfrm_selects(cpu: Processor) -> None:
    wide = Processor(Identity.generate(), xfrm=int(Xfrm.LEGACY | Xfrm.AVX | 0x60000))
    amx = secs_for(1 << 40, attributes=Attributes(BASIC, Xfrm(0x60007)), ssa_frame_size=2)
    with pytest.raises(Fault, match="SSAFRAMESIZE"):
        ecreate(wide, amx, CREATE_INFO)
    del cpu
