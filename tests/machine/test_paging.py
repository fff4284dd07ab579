# SPDX-License-Identifier: Apache-2.0
"""Pages that leave the EPC and come back: EPA, EBLOCK, ETRACK, EWB, ELDU (SDM vol. 3D, 38.5)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.machine.building import DATA, FREE, PAGE, RW, SIZE, TCS_AT, bare, basic_parts, running

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.paging import Pcmd
from ensconce.isa.secinfo import SecInfo, SecInfoFlags
from ensconce.isa.ssa import Vector
from ensconce.machine.encls_build import eadd_lazy, eremove, eremove_pages
from ensconce.machine.encls_dynamic import eaug
from ensconce.machine.encls_paging import (
    EvictedPage,
    eblock,
    eblock_pages,
    eldb,
    eldu,
    eldu_lazy,
    eldu_secs,
    eldu_va,
    epa,
    eremove_va,
    etrack,
    etrackc,
    ewb,
    ewb_pages,
    ewb_secs,
    ewb_va,
    ewb_zeros,
)
from ensconce.machine.epc import BLOCKED, VaPage
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor
from ensconce.machine.secs_page import SecsPage


@pytest.fixture
def secs(cpu: Processor, key: rsa.RSAPrivateKey) -> Iterator[SecsPage]:
    with running(cpu, key) as secs:
        secs.content(DATA)[:] = b"\x42" * PAGE
        yield secs


@pytest.fixture
def va(cpu: Processor) -> VaPage:
    return epa(cpu)


def at(secs: SecsPage, page: int) -> int:
    return secs.base + page * PAGE


def evict(cpu: Processor, secs: SecsPage, va: VaPage, slot: int, page: int = DATA) -> EvictedPage:
    eblock(cpu, secs, at(secs, page))
    etrack(cpu, secs)
    return ewb(cpu, secs, at(secs, page), va, slot)


def test_a_page_comes_back_as_it_left(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    used, entry = cpu.epc.used, secs.epcm.get(DATA)
    evicted = evict(cpu, secs, va, 3)
    assert cpu.epc.used == used - 1
    assert secs.content(DATA) == bytes(PAGE)
    eldu(cpu, secs, evicted, va, 3)
    assert secs.content(DATA) == b"\x42" * PAGE
    assert secs.epcm.get(DATA) == entry
    assert cpu.epc.used == used


def test_what_leaves_is_encrypted_and_says_whose_it_is(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    evicted = evict(cpu, secs, va, 0)
    assert b"\x42" * 16 not in evicted.content
    assert evicted.pcmd.enclave_id == secs.eid
    assert int(evicted.pcmd.secinfo.flags) == 0x203
    assert evicted.lin_addr == at(secs, DATA)
    assert Pcmd.parse(bytes(evicted.pcmd)) == evicted.pcmd


def test_the_same_page_never_leaves_as_the_same_bytes(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    first = evict(cpu, secs, va, 0)
    eldu(cpu, secs, first, va, 0)
    assert evict(cpu, secs, va, 0).content != first.content


def test_an_old_version_is_refused(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    old = evict(cpu, secs, va, 0)
    eldu(cpu, secs, old, va, 0)
    new = evict(cpu, secs, va, 0)
    refuse(cpu, secs, old, va, 0, ErrorCode.MAC_COMPARE_FAIL)
    eldu(cpu, secs, new, va, 0)


def test_a_page_loads_once_by_its_version(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    evicted = evict(cpu, secs, va, 0)
    eldu(cpu, secs, evicted, va, 0)
    eremove(cpu, secs, at(secs, DATA))
    refuse(cpu, secs, evicted, va, 0, ErrorCode.MAC_COMPARE_FAIL)


def refuse(
    cpu: Processor, secs: SecsPage, evicted: EvictedPage, va: VaPage, slot: int, code: object
) -> None:
    with pytest.raises(Fault) as caught:
        eldu(cpu, secs, evicted, va, slot)
    assert caught.value.code is code
    assert secs.epcm.get(DATA) is None


def altered(evicted: EvictedPage, what: str) -> EvictedPage:
    """Return an evicted page with one thing changed."""
    pcmd = evicted.pcmd
    return {
        "content": replace(evicted, content=b"\0" + evicted.content[1:]),
        "mac": replace(evicted, pcmd=replace(pcmd, mac=bytes(16))),
        "permissions": replace(evicted, pcmd=replace(pcmd, secinfo=SecInfo(SecInfoFlags(0x207)))),
        "type": replace(evicted, pcmd=replace(pcmd, secinfo=SecInfo(SecInfoFlags(0x103)))),
        "address": replace(evicted, lin_addr=evicted.lin_addr + 40 * PAGE),
    }[what]


@pytest.mark.parametrize("what", ["content", "mac", "permissions", "type", "address"])
def test_an_altered_page_is_refused(cpu: Processor, secs: SecsPage, va: VaPage, what: str) -> None:
    evicted = evict(cpu, secs, va, 0)
    refuse(cpu, secs, altered(evicted, what), va, 0, ErrorCode.MAC_COMPARE_FAIL)
    eldu(cpu, secs, evicted, va, 0)


def test_a_page_of_another_enclave_is_refused(
    cpu: Processor, secs: SecsPage, va: VaPage, key: rsa.RSAPrivateKey
) -> None:
    evicted = evict(cpu, secs, va, 0)
    with running(cpu, key) as other:
        moved = replace(evicted, lin_addr=at(other, FREE))
        with pytest.raises(Fault) as caught:
            eldu(cpu, other, moved, va, 0)
        assert caught.value.code is ErrorCode.MAC_COMPARE_FAIL


def test_another_slot_is_refused(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    evicted = evict(cpu, secs, va, 0)
    refuse(cpu, secs, evicted, va, 1, ErrorCode.MAC_COMPARE_FAIL)
    refuse(cpu, secs, evicted, va, 512, Vector.GP)
    refuse(cpu, secs, evicted, va, -1, Vector.GP)


def test_a_removed_version_array_loses_its_pages(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    evicted = evict(cpu, secs, va, 0)
    eremove_va(cpu, va)
    refuse(cpu, secs, evicted, va, 0, Vector.PF)


def test_a_processor_that_lost_power_loads_nothing(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    evicted = evict(cpu, secs, va, 0)
    cpu.lose()
    assert cpu.epc.used == 0
    refuse(cpu, secs, evicted, va, 0, Vector.PF)


def test_a_page_that_is_there_is_not_loaded_over(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    evicted = evict(cpu, secs, va, 0)
    eldu(cpu, secs, evicted, va, 0)
    with pytest.raises(Fault) as caught:
        eldu(cpu, secs, evicted, va, 0)
    assert caught.value.code is Vector.PF


def test_pcmd_must_be_well_formed(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    evicted = evict(cpu, secs, va, 0)
    for pcmd in (
        replace(evicted.pcmd, reserved=b"\1" * 40),
        replace(evicted.pcmd, secinfo=SecInfo(SecInfoFlags(0x300))),
    ):
        refuse(cpu, secs, replace(evicted, pcmd=pcmd), va, 0, Vector.GP)
    refuse(cpu, secs, replace(evicted, lin_addr=at(secs, DATA) + 1), va, 0, Vector.GP)
    refuse(cpu, secs, replace(evicted, lin_addr=secs.base + SIZE), va, 0, Vector.GP)


def test_eldb_loads_a_page_blocked(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    evicted = evict(cpu, secs, va, 0)
    eldb(cpu, secs, evicted, va, 0)
    assert (secs.epcm.get(DATA) or 0) & BLOCKED
    assert secs.mapping.effective.get(DATA) is None


def test_ewb_wants_a_page_blocked_and_tracked(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    codes = []
    for before in (None, eblock):
        if before is not None:
            before(cpu, secs, at(secs, DATA))
        with pytest.raises(Fault) as caught:
            ewb(cpu, secs, at(secs, DATA), va, 0)
        codes.append(caught.value.code)
    assert codes == [ErrorCode.PAGE_NOT_BLOCKED, ErrorCode.NOT_TRACKED]


def test_an_occupied_slot_is_overwritten_and_said(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    first = evict(cpu, secs, va, 0)
    second = evict(cpu, secs, va, 0, DATA + 1)
    assert (first.slot_was_occupied, second.slot_was_occupied) == (False, True)
    refuse(cpu, secs, first, va, 0, ErrorCode.MAC_COMPARE_FAIL)
    eldu(cpu, secs, second, va, 0)


@pytest.mark.parametrize(
    ("offset", "slot", "code"),
    [
        (1, 0, Vector.GP),
        (SIZE, 0, Vector.PF),
        (FREE * PAGE, 0, Vector.PF),
        (DATA * PAGE, 512, Vector.GP),
    ],
)
def test_ewb_checks_its_operands(
    cpu: Processor, secs: SecsPage, va: VaPage, offset: int, slot: int, code: Vector
) -> None:
    with pytest.raises(Fault) as caught:
        ewb(cpu, secs, secs.base + offset, va, slot)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (None, ErrorCode.PG_IS_SECS),
        (FREE * PAGE, ErrorCode.PG_INVLD),
        (DATA * PAGE, ErrorCode.BLKSTATE),
        (1, Vector.GP),
        (SIZE, Vector.PF),
    ],
)
def test_eblock_refuses(cpu: Processor, secs: SecsPage, offset: int | None, code: object) -> None:
    eblock(cpu, secs, at(secs, DATA))
    with pytest.raises(Fault) as caught:
        eblock(cpu, secs, None if offset is None else secs.base + offset)
    assert caught.value.code is code


def test_etrackc_takes_any_page_of_the_enclave(cpu: Processor, secs: SecsPage) -> None:
    epoch = secs.core.epoch
    etrackc(cpu, secs, at(secs, DATA))
    etrackc(cpu, secs, None)
    assert secs.core.epoch == epoch + 2
    with pytest.raises(Fault) as caught:
        etrackc(cpu, secs, at(secs, FREE))
    assert caught.value.code is ErrorCode.PG_INVLD


def test_a_tcs_keeps_its_state_outside(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    secs.core.set_cssa(TCS_AT * PAGE, 1)
    evicted = evict(cpu, secs, va, 0, TCS_AT)
    with pytest.raises(ValueError, match="no TCS"):
        secs.core.tcs(TCS_AT * PAGE)
    eldu(cpu, secs, evicted, va, 0)
    assert secs.core.tcs(TCS_AT * PAGE)[:2] == (1, False)


def test_a_secs_leaves_when_its_pages_have(cpu: Processor, va: VaPage) -> None:
    with bare(cpu, basic_parts()[-1:]) as secs:
        with pytest.raises(Fault) as caught:
            ewb_secs(cpu, secs, va, 1)
        assert caught.value.code is ErrorCode.CHILD_PRESENT
        page = evict(cpu, secs, va, 0, DATA + 3)
        evicted = ewb_secs(cpu, secs, va, 1)
        with pytest.raises(Fault) as caught:
            eldu(cpu, secs, page, va, 0)
        assert caught.value.code is Vector.PF
        assert eldu_secs(cpu, evicted, va, 1) is secs
        with pytest.raises(Fault) as caught:
            eldu_secs(cpu, evicted, va, 1)
        assert caught.value.code is ErrorCode.MAC_COMPARE_FAIL
        eldu(cpu, secs, page, va, 0)


def test_a_version_array_leaves_into_another(cpu: Processor, secs: SecsPage, va: VaPage) -> None:
    page = evict(cpu, secs, va, 7)
    upper = epa(cpu)
    evicted = ewb_va(cpu, va, upper, 0)
    refuse(cpu, secs, page, va, 7, Vector.PF)
    back = eldu_va(cpu, evicted, upper, 0)
    eldu(cpu, secs, page, back, 7)
    with pytest.raises(Fault) as caught:
        ewb_va(cpu, back, back, 0)
    assert caught.value.code is Vector.GP


def test_every_kind_of_page_counts(identity: Identity) -> None:
    cpu = Processor(identity, epc_size=3 * PAGE)
    va = epa(cpu)
    with bare(cpu, [(DATA, RW, bytes(PAGE))]) as secs:
        assert (cpu.epc.used, cpu.epc.free) == (3, 0)
        with pytest.raises(Fault) as caught:
            epa(cpu)
        assert caught.value.code is Vector.PF
        evicted = evict(cpu, secs, va, 0)
        epa(cpu)
        refuse(cpu, secs, evicted, va, 0, Vector.PF)
    assert cpu.epc.peak == 3


def test_removing_an_enclave_forgets_its_evicted_pages(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    evict(cpu, secs, va, 0)
    eremove_pages(cpu, secs)
    assert secs.evicted.pages == 0


def test_pages_that_were_evicted_are_not_added_again(cpu: Processor, va: VaPage) -> None:
    with bare(cpu, [(DATA, RW, bytes(PAGE))]) as secs:
        evict(cpu, secs, va, 0)
        with pytest.raises(Fault) as caught:
            eadd_lazy(cpu, secs, at(secs, DATA), RW, 1)
        assert caught.value.code is Vector.PF


def whole(secs: SecsPage) -> tuple[list[tuple[int, int, int]], bytes]:
    """Return the EPCM and the data pages of an enclave."""
    return secs.epcm.runs(), bytes(secs.alias[DATA * PAGE : (DATA + 4) * PAGE])


def test_pages_evicted_at_once_are_as_pages_evicted_one_by_one(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    before = whole(secs)
    eblock_pages(cpu, secs, DATA, DATA + 4)
    etrack(cpu, secs)
    evicted = ewb_pages(cpu, secs, DATA, DATA + 4, [(va, slot) for slot in range(4)])
    assert [page.lin_addr for page in evicted] == [at(secs, DATA + index) for index in range(4)]
    assert secs.evicted.pages == 4
    for slot, page in enumerate(evicted):
        eldu(cpu, secs, page, va, slot)
    assert whole(secs) == before


def test_zero_pages_are_remembered_as_such(cpu: Processor, secs: SecsPage) -> None:
    before = whole(secs)
    eblock_pages(cpu, secs, DATA, DATA + 4)
    etrack(cpu, secs)
    assert not ewb_zeros(cpu, secs, DATA, DATA + 4)
    assert ewb_zeros(cpu, secs, DATA + 1, DATA + 4)
    assert (secs.lazy.pages, secs.evicted.pages) == (3, 0)
    eldu_lazy(cpu, secs, DATA + 1, DATA + 4)
    secs.put(DATA, DATA + 1, 0x203)
    assert whole(secs) == before


def test_a_zero_page_that_awaits_eaccept_is_evicted_as_any_other(
    cpu: Processor, secs: SecsPage
) -> None:
    eaug(cpu, secs, at(secs, FREE))
    eblock(cpu, secs, at(secs, FREE))
    etrack(cpu, secs)
    assert not ewb_zeros(cpu, secs, FREE, FREE + 1)


def test_evicting_at_once_checks_what_evicting_one_by_one_does(
    cpu: Processor, secs: SecsPage, va: VaPage
) -> None:
    slots = [(va, 0), (va, 1)]
    codes: list[object] = []
    for step in (None, eblock_pages, etrack):
        if step is eblock_pages:
            eblock_pages(cpu, secs, DATA, DATA + 2)
        with pytest.raises(Fault) as caught:
            ewb_pages(cpu, secs, DATA, DATA + 2 + (step is etrack), slots)
        codes.append(caught.value.code)
    assert codes == [ErrorCode.PAGE_NOT_BLOCKED, ErrorCode.NOT_TRACKED, Vector.PF]
    for first, code in ((DATA, ErrorCode.BLKSTATE), (FREE, ErrorCode.PG_INVLD)):
        with pytest.raises(Fault) as caught:
            eblock_pages(cpu, secs, first, first + 1)
        assert caught.value.code is code
