# SPDX-License-Identifier: Apache-2.0
"""EADD, EEXTEND and EREMOVE (SDM vol. 3D, 40.3)."""

import hashlib
import struct

import pytest
from tests.machine.building import (
    DATA,
    PAGE,
    RW,
    SIZE,
    TCS,
    TCS_AT,
    bare,
    basic_parts,
    tcs,
)

from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.secinfo import PageType, SecInfo, SecInfoFlags, secinfo_flags
from ensconce.isa.ssa import Vector
from ensconce.isa.tcs import Tcs, TcsFlags
from ensconce.machine.encls_build import (
    check_limits,
    eadd,
    eadd_lazy,
    eadd_pages,
    eextend,
    eremove,
    eremove_pages,
)
from ensconce.machine.encls_paging import eldu_lazy
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

ONES = b"\1" * PAGE


def refused(code: object, cpu: Processor, page: int, secinfo: SecInfo, source: bytes) -> None:
    with bare(cpu, []) as secs, pytest.raises(Fault) as caught:
        eadd(cpu, secs, secs.base + page * PAGE, secinfo, source)
    assert caught.value.code is code


def test_an_added_page_holds_its_source(cpu: Processor) -> None:
    with bare(cpu, [(DATA, RW, ONES)]) as secs:
        assert secs.content(DATA) == ONES
        assert secs.mapping.effective.get(DATA) == 3


def test_the_measurement_is_the_manuals(cpu: Processor) -> None:
    with bare(cpu, [(DATA, RW, ONES)]) as secs:
        eextend(cpu, secs, secs.base + DATA * PAGE + 256)
        digest = hashlib.sha256(struct.pack("<8sIQ44x", b"ECREATE", 1, SIZE))
        digest.update(struct.pack("<8sQQ40x", b"EADD", DATA * PAGE, 0x203))
        digest.update(struct.pack("<8sQ48x", b"EEXTEND", DATA * PAGE + 256) + b"\1" * 256)
        assert secs.measurement.digest() == digest.digest()


def test_pages_at_once_measure_as_pages_one_by_one(cpu: Processor) -> None:
    with bare(cpu, []) as one, bare(cpu, []) as many:
        for page in range(3):
            eadd(cpu, one, one.base + page * PAGE, RW, ONES)
            for chunk in range(0, PAGE, 256):
                eextend(cpu, one, one.base + page * PAGE + chunk)
        many.alias[: 3 * PAGE] = ONES * 3
        eadd_pages(cpu, many, many.base, RW, 3, extend=True)
        assert one.measurement.digest() == many.measurement.digest()
        assert one.epcm.runs() == many.epcm.runs()


def test_lazy_pages_measure_as_pages_and_take_epc_when_loaded(cpu: Processor) -> None:
    with bare(cpu, []) as one, bare(cpu, []) as lazy:
        for page in range(3):
            eadd(cpu, one, one.base + page * PAGE, RW, bytes(PAGE))
        eadd_lazy(cpu, lazy, lazy.base, RW, 3)
        assert one.measurement.digest() == lazy.measurement.digest()
        assert (one.resident, lazy.resident) == (3, 0)
        eldu_lazy(cpu, lazy, 1, 2)
        assert lazy.resident == 1
        assert lazy.content(1) == bytes(PAGE)


def test_a_lazy_page_loads_once(cpu: Processor) -> None:
    with bare(cpu, []) as secs:
        eadd_lazy(cpu, secs, secs.base, RW, 3)
        eldu_lazy(cpu, secs, 0, 2)
        with pytest.raises(Fault) as caught:
            eldu_lazy(cpu, secs, 1, 3)
        assert caught.value.code is Vector.PF


def test_a_tcs_can_not_be_lazy(cpu: Processor) -> None:
    with bare(cpu, []) as secs, pytest.raises(Fault) as caught:
        eadd_lazy(cpu, secs, secs.base, TCS, 1)
    assert caught.value.code is Vector.GP


@pytest.mark.parametrize(
    "secinfo",
    [
        SecInfo(secinfo_flags(PageType.SECS)),
        SecInfo(secinfo_flags(PageType.VA)),
        SecInfo(secinfo_flags(PageType.TRIM)),
        SecInfo(SecInfoFlags(0x203 | SecInfoFlags.PENDING)),
        SecInfo(SecInfoFlags(0x203 | 1 << 16)),
        SecInfo(SecInfoFlags(0x203), b"\1" * 56),
        SecInfo(secinfo_flags(PageType.REG, SecInfoFlags.W)),
        SecInfo(secinfo_flags(PageType.REG, SecInfoFlags.W | SecInfoFlags.X)),
    ],
)
def test_a_secinfo_that_the_manual_refuses_is_a_protection_fault(
    cpu: Processor, secinfo: SecInfo
) -> None:
    refused(Vector.GP, cpu, DATA, secinfo, ONES)


@pytest.mark.parametrize("page", [-1, SIZE // PAGE, 1 << 20])
def test_a_page_outside_elrange_is_a_protection_fault(cpu: Processor, page: int) -> None:
    refused(Vector.GP, cpu, page, RW, ONES)


def test_an_unaligned_address_is_a_protection_fault(cpu: Processor) -> None:
    with bare(cpu, []) as secs, pytest.raises(Fault) as caught:
        eadd(cpu, secs, secs.base + 8, RW, ONES)
    assert caught.value.code is Vector.GP


def test_a_page_that_is_there_is_a_page_fault_with_its_address(cpu: Processor) -> None:
    with bare(cpu, [(DATA, RW, ONES)]) as secs, pytest.raises(Fault) as caught:
        eadd(cpu, secs, secs.base + DATA * PAGE, RW, ONES)
    assert caught.value.code is Vector.PF
    assert caught.value.address == secs.base + DATA * PAGE


def test_the_processor_owns_some_fields_of_an_added_tcs(cpu: Processor) -> None:
    given = tcs(stage=1, cssa=1, aep=0x1000, flags=TcsFlags.DBGOPTIN | TcsFlags.AEXNOTIFY)
    with bare(cpu, [(TCS_AT, TCS, bytes(given))]) as secs:
        held = Tcs.parse(secs.content(TCS_AT))
        assert (held.stage, held.cssa, held.aep) == (0, 0, 0)
        assert held.flags == TcsFlags.AEXNOTIFY


def test_a_tcs_has_no_permissions_whatever_secinfo_says(cpu: Processor) -> None:
    with bare(cpu, [(TCS_AT, SecInfo(secinfo_flags(PageType.TCS, 7)), bytes(tcs()))]) as secs:
        assert secs.epcm.get(TCS_AT) == 0x100
        assert secs.mapping.effective.get(TCS_AT) is None


@pytest.mark.parametrize("field", ["reserved", "prev_ssp"])
def test_a_tcs_with_a_reserved_field_set_is_a_protection_fault(cpu: Processor, field: str) -> None:
    value: object = b"\1" * 4008 if field == "reserved" else 8
    refused(Vector.GP, cpu, TCS_AT, TCS, bytes(tcs(**{field: value})))  # type: ignore[arg-type]


@pytest.mark.parametrize(("fs", "gs"), [(0, 0xFFF), (0xFFF, 0)])
def test_segment_limits_count_outside_64_bit_mode_only(cpu: Processor, fs: int, gs: int) -> None:
    limits = tcs(fs_limit=fs, gs_limit=gs)
    with bare(cpu, [(TCS_AT, TCS, bytes(limits))]) as secs:
        secs.attributes &= ~AttributeFlags.MODE64BIT  # no ELRANGE below 4 GiB can be had here
        with pytest.raises(Fault, match="FSLIMIT"):
            check_limits(secs, limits)


def test_nothing_is_added_after_einit(cpu: Processor) -> None:
    with bare(cpu, [(DATA, RW, ONES)]) as secs:
        secs.initialized = True
        with pytest.raises(Fault) as caught:
            eadd(cpu, secs, secs.base, RW, ONES)
        assert caught.value.code is Vector.GP
        with pytest.raises(Fault) as caught:
            eextend(cpu, secs, secs.base + DATA * PAGE)
        assert caught.value.code is Vector.GP


def test_two_leaves_that_measure_at_once_are_a_protection_fault(cpu: Processor) -> None:
    with bare(cpu, []) as secs, secs.building(), pytest.raises(Fault) as caught:
        eadd(cpu, secs, secs.base, RW, ONES)
    assert caught.value.code is Vector.GP


@pytest.mark.parametrize(("offset", "code"), [(1, Vector.GP), (0, Vector.PF), (1 << 30, Vector.PF)])
def test_eextend_measures_aligned_pieces_of_present_pages(
    cpu: Processor, offset: int, code: Vector
) -> None:
    with bare(cpu, []) as secs, pytest.raises(Fault) as caught:
        eextend(cpu, secs, secs.base + offset)
    assert caught.value.code is code


def test_a_full_epc_refuses_a_page(identity: Identity) -> None:
    cpu = Processor(identity, epc_size=3 * PAGE)
    with bare(cpu, [(0, RW, ONES), (1, RW, ONES)]) as secs, pytest.raises(Fault) as caught:
        eadd(cpu, secs, secs.base + 2 * PAGE, RW, ONES)
    assert caught.value.code is Vector.PF
    assert cpu.epc.used == 0


def test_a_removed_page_gives_its_epc_back(cpu: Processor) -> None:
    with bare(cpu, basic_parts()) as secs:
        used = cpu.epc.used
        eremove(cpu, secs, secs.base + DATA * PAGE)
        eremove(cpu, secs, secs.base + DATA * PAGE)
        assert cpu.epc.used == used - 1
        assert secs.mapping.effective.get(DATA) is None


def test_a_secs_with_pages_stays(cpu: Processor) -> None:
    with bare(cpu, basic_parts()) as secs:
        with pytest.raises(Fault) as caught:
            eremove(cpu, secs, None)
        assert caught.value.code is ErrorCode.CHILD_PRESENT
        eremove_pages(cpu, secs)
        eremove(cpu, secs, None)
        assert cpu.epc.used == 0


@pytest.mark.parametrize(("offset", "code"), [(1, Vector.GP), (SIZE, Vector.PF)])
def test_eremove_checks_its_operand(cpu: Processor, offset: int, code: Vector) -> None:
    with bare(cpu, []) as secs, pytest.raises(Fault) as caught:
        eremove(cpu, secs, secs.base + offset)
    assert caught.value.code is code
