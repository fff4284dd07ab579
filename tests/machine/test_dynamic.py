# SPDX-License-Identifier: Apache-2.0
"""SGX2: EAUG, EMODPR, EMODT, EACCEPT, EACCEPTCOPY, EMODPE; and EDECCSSA (SDM vol. 3D, 40)."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.machine.building import (
    CODE,
    DATA,
    FREE,
    PAGE,
    SIZE,
    TCS_AT,
    Registers,
    bare,
    basic_parts,
    running,
    tcs,
)

from ensconce.errors import Fault
from ensconce.isa.leaves import Enclu, ErrorCode
from ensconce.isa.secinfo import PageType, SecInfo, SecInfoFlags, secinfo_flags
from ensconce.isa.ssa import Vector
from ensconce.isa.tcs import TcsFlags
from ensconce.machine.encls_build import eremove
from ensconce.machine.encls_dynamic import eaug, emodpr, emodt
from ensconce.machine.encls_paging import etrack
from ensconce.machine.processor import Processor
from ensconce.machine.secs_page import SecsPage

REG, TRIM, TCS = 0x200, 0x400, 0x100
P, M, PR = SecInfoFlags.PENDING, SecInfoFlags.MODIFIED, SecInfoFlags.PR
RW, RWX = 3, 7


@pytest.fixture
def secs(cpu: Processor, key: rsa.RSAPrivateKey) -> Iterator[SecsPage]:
    with running(cpu, key) as secs:
        yield secs


def info(flags: int) -> SecInfo:
    return SecInfo(SecInfoFlags(flags))


def at(secs: SecsPage, page: int) -> int:
    return secs.base + page * PAGE


def leaf(
    cpu: Processor, secs: SecsPage, number: Enclu, flags: int, page: int, source: int = 0
) -> ErrorCode | tuple[int, int, int]:
    """Run a leaf with a SECINFO in the first data page; return its code or its exception."""
    secs.alias[DATA * PAGE : DATA * PAGE + 64] = bytes(info(flags))
    registers = Registers(number, at(secs, DATA), at(secs, page), at(secs, source))
    taken = cpu.user_leaf(secs, registers)  # type: ignore[arg-type]  # stands in for Frame
    if taken is None:
        return ErrorCode(registers.rax) if number != Enclu.EMODPE else ErrorCode.SUCCESS
    vector, error_code, address = taken
    return vector, error_code, (address - secs.base) // PAGE if address else 0


GP = (13, 0, 0)


def test_an_augmented_page_is_usable_after_eaccept_only(cpu: Processor, secs: SecsPage) -> None:
    eaug(cpu, secs, at(secs, FREE))
    assert secs.epcm.get(FREE) == REG | RW | P
    assert secs.mapping.effective.get(FREE) is None
    assert leaf(cpu, secs, Enclu.EACCEPT, REG | RW | P, FREE) is ErrorCode.SUCCESS
    assert secs.mapping.effective.get(FREE) == RW
    assert secs.content(FREE) == bytes(PAGE)


def test_eaug_takes_epc_and_checks_its_place(cpu: Processor, secs: SecsPage) -> None:
    used = cpu.epc.used
    eaug(cpu, secs, at(secs, FREE), 3)
    assert cpu.epc.used == used + 3
    for page, code in [(FREE, Vector.PF), (DATA, Vector.PF), (SIZE // PAGE, Vector.GP)]:
        with pytest.raises(Fault) as caught:
            eaug(cpu, secs, at(secs, page))
        assert caught.value.code is code
    with pytest.raises(Fault) as caught:
        eaug(cpu, secs, at(secs, FREE) + 1)
    assert caught.value.code is Vector.GP


def test_eaug_needs_an_initialised_enclave(cpu: Processor) -> None:
    with bare(cpu, basic_parts()) as secs, pytest.raises(Fault) as caught:
        eaug(cpu, secs, at(secs, FREE))
    assert caught.value.code is Vector.GP


def test_an_augmented_page_hides_what_was_there_before(cpu: Processor, secs: SecsPage) -> None:
    secs.content(DATA + 3)[:] = b"\1" * PAGE
    emodt(cpu, secs, info(TRIM), at(secs, DATA + 3))
    etrack(cpu, secs)
    assert leaf(cpu, secs, Enclu.EACCEPT, TRIM | M, DATA + 3) is ErrorCode.SUCCESS
    eremove(cpu, secs, at(secs, DATA + 3))
    eaug(cpu, secs, at(secs, DATA + 3))
    assert secs.content(DATA + 3) == bytes(PAGE)


@pytest.mark.parametrize(
    ("flags", "page", "expected"),
    [
        (REG | RW, FREE, GP),
        (REG | RW | P | M, FREE, GP),
        (TCS | P, FREE, GP),
        (TRIM | M | P, FREE, GP),
        (0x300 | M, FREE, GP),
        (REG | RW | P | 1 << 6, FREE, GP),
        (REG | RW | P, SIZE // PAGE, GP),
        (REG | 1 | P, FREE, ErrorCode.PAGE_ATTRIBUTES_MISMATCH),
        (REG | RWX | P, FREE, ErrorCode.PAGE_ATTRIBUTES_MISMATCH),
        (TRIM | M, FREE, ErrorCode.PAGE_ATTRIBUTES_MISMATCH),
        (REG | RW | P, DATA, ErrorCode.PAGE_ATTRIBUTES_MISMATCH),
        (REG | RW | P, FREE + 1, (14, 0x8005, FREE + 1)),
    ],
)
def test_eaccept_takes_just_what_was_asked_for(
    cpu: Processor, secs: SecsPage, flags: int, page: int, expected: object
) -> None:
    eaug(cpu, secs, at(secs, FREE))
    assert leaf(cpu, secs, Enclu.EACCEPT, flags, page) == expected
    assert secs.epcm.get(FREE) == REG | RW | P


def test_eaccept_of_a_page_not_in_the_page_tables_faults_without_the_sgx_bit(
    cpu: Processor, secs: SecsPage
) -> None:
    secs.translate(FREE, FREE + 1, None)
    assert leaf(cpu, secs, Enclu.EACCEPT, REG | RW | P, FREE) == (14, 4, FREE)


def test_restricted_permissions_hold_at_once_and_are_accepted_after_tracking(
    cpu: Processor, secs: SecsPage
) -> None:
    emodpr(cpu, secs, info(1), at(secs, DATA + 1))
    assert secs.mapping.effective.get(DATA + 1) == 1
    flags = REG | 1 | PR
    assert leaf(cpu, secs, Enclu.EACCEPT, flags, DATA + 1) is ErrorCode.NOT_TRACKED
    etrack(cpu, secs)
    assert leaf(cpu, secs, Enclu.EACCEPT, flags, DATA + 1) is ErrorCode.SUCCESS
    assert secs.epcm.get(DATA + 1) == REG | 1


def test_emodpr_never_adds_permissions(cpu: Processor, secs: SecsPage) -> None:
    emodpr(cpu, secs, info(RWX), at(secs, DATA))
    assert (secs.epcm.get(DATA) or 0) & RWX == RW


@pytest.mark.parametrize(
    ("flags", "page", "code"),
    [
        (2, DATA, Vector.GP),
        (1 << 7, DATA, Vector.GP),
        (1, TCS_AT, Vector.PF),
        (1, FREE + 1, Vector.PF),
        (1, SIZE // PAGE, Vector.PF),
        (1, FREE, ErrorCode.PAGE_NOT_MODIFIABLE),
    ],
)
def test_emodpr_refuses(
    cpu: Processor, secs: SecsPage, flags: int, page: int, code: object
) -> None:
    eaug(cpu, secs, at(secs, FREE))
    with pytest.raises(Fault) as caught:
        emodpr(cpu, secs, info(flags), at(secs, page))
    assert caught.value.code is code


def test_emodpe_adds_permissions(cpu: Processor, secs: SecsPage) -> None:
    assert leaf(cpu, secs, Enclu.EMODPE, REG | 5, DATA + 1) is ErrorCode.SUCCESS
    assert secs.mapping.effective.get(DATA + 1) == RWX
    assert leaf(cpu, secs, Enclu.EMODPE, REG | 1, DATA + 1) is ErrorCode.SUCCESS
    assert secs.mapping.effective.get(DATA + 1) == RWX


@pytest.mark.parametrize(
    ("flags", "page", "expected"),
    [
        (REG | 2, DATA, GP),
        (REG | RW, FREE + 1, (14, 0x8005, FREE + 1)),
        (REG | RW, FREE, (14, 0x8005, FREE)),
        (REG | RW, TCS_AT, (14, 0x8005, TCS_AT)),
        (REG | RW | 1 << 16, DATA, GP),
    ],
)
def test_emodpe_refuses(
    cpu: Processor, secs: SecsPage, flags: int, page: int, expected: object
) -> None:
    eaug(cpu, secs, at(secs, FREE))
    assert leaf(cpu, secs, Enclu.EMODPE, flags, page) == expected


def test_eacceptcopy_fills_a_pending_page(cpu: Processor, secs: SecsPage) -> None:
    eaug(cpu, secs, at(secs, FREE))
    secs.content(DATA + 1)[:] = b"\x77" * PAGE
    result = leaf(cpu, secs, Enclu.EACCEPTCOPY, REG | 5, FREE, DATA + 1)
    assert result is ErrorCode.SUCCESS
    assert secs.content(FREE) == b"\x77" * PAGE
    assert secs.mapping.effective.get(FREE) == 5


@pytest.mark.parametrize(
    ("flags", "page", "source", "expected"),
    [
        (REG | 2, FREE, DATA, GP),
        (TCS, FREE, DATA, GP),
        (REG | RW | P, FREE, DATA, GP),
        (REG | RW, FREE, SIZE // PAGE, GP),
        (REG | RW, SIZE // PAGE, DATA, GP),
        (REG | RW, FREE, FREE + 1, (14, 0x8005, FREE + 1)),
        (REG | RW, FREE, TCS_AT, (14, 0x8005, TCS_AT)),
        (REG | RW, FREE, FREE, (14, 0x8005, FREE)),
        (REG | RW, DATA, DATA, ErrorCode.PAGE_ATTRIBUTES_MISMATCH),
    ],
)
def test_eacceptcopy_refuses(
    cpu: Processor, secs: SecsPage, flags: int, page: int, source: int, expected: object
) -> None:
    eaug(cpu, secs, at(secs, FREE))
    assert leaf(cpu, secs, Enclu.EACCEPTCOPY, flags, page, source) == expected


def test_a_page_becomes_a_tcs_and_is_trimmed_and_removed(cpu: Processor, secs: SecsPage) -> None:
    page = DATA + 1
    secs.content(page)[:] = bytes(tcs())
    emodt(cpu, secs, info(TCS), at(secs, page))
    assert secs.mapping.effective.get(page) is None
    assert leaf(cpu, secs, Enclu.EACCEPT, TCS | M, page) is ErrorCode.NOT_TRACKED
    etrack(cpu, secs)
    assert leaf(cpu, secs, Enclu.EACCEPT, TCS | M, page) is ErrorCode.SUCCESS
    assert page in secs.tcss
    emodt(cpu, secs, info(TRIM), at(secs, page))
    etrack(cpu, secs)
    assert leaf(cpu, secs, Enclu.EACCEPT, TRIM | M, page) is ErrorCode.SUCCESS
    eremove(cpu, secs, at(secs, page))
    assert secs.epcm.get(page) is None
    assert page not in secs.tcss


@pytest.mark.parametrize(
    "content",
    [
        bytes(tcs(cssa=2)),
        bytes(tcs(nssa=0)),
        bytes(tcs(stage=1)),
        bytes(tcs(aep=8)),
        bytes(tcs(flags=TcsFlags.DBGOPTIN)),
        bytes(tcs())[:-1] + b"\1",
    ],
)
def test_a_tcs_that_is_not_fresh_is_not_accepted(
    cpu: Processor, secs: SecsPage, content: bytes
) -> None:
    secs.content(DATA + 1)[:] = content
    emodt(cpu, secs, info(TCS), at(secs, DATA + 1))
    etrack(cpu, secs)
    assert leaf(cpu, secs, Enclu.EACCEPT, TCS | M, DATA + 1) == GP


@pytest.mark.parametrize(
    ("flags", "page", "code"),
    [
        (REG, DATA, Vector.GP),
        (0x300, DATA, Vector.GP),
        (TRIM | P, DATA, Vector.GP),
        (TCS, TCS_AT, Vector.PF),
        (TRIM, FREE + 1, Vector.PF),
        (TRIM, FREE, ErrorCode.PAGE_NOT_MODIFIABLE),
    ],
)
def test_emodt_refuses(cpu: Processor, secs: SecsPage, flags: int, page: int, code: object) -> None:
    eaug(cpu, secs, at(secs, FREE))
    with pytest.raises(Fault) as caught:
        emodt(cpu, secs, info(flags), at(secs, page))
    assert caught.value.code is code


@pytest.mark.parametrize("change", [emodpr, emodt])
def test_unaligned_targets_are_a_protection_fault(
    cpu: Processor, secs: SecsPage, change: object
) -> None:
    kind = info(1) if change is emodpr else info(TRIM)
    with pytest.raises(Fault) as caught:
        change(cpu, secs, kind, at(secs, DATA) + 8)  # type: ignore[operator]  # one of two leaves
    assert caught.value.code is Vector.GP


def test_edeccssa_gives_the_frame_below_up(cpu: Processor, secs: SecsPage) -> None:
    registers = Registers(Enclu.EDECCSSA, tcs=at(secs, TCS_AT))
    assert cpu.user_leaf(secs, registers) == GP  # type: ignore[arg-type]  # stands in for Frame
    secs.core.set_cssa(TCS_AT * PAGE, 1)
    assert cpu.user_leaf(secs, registers) is None  # type: ignore[arg-type]  # likewise
    assert secs.core.tcs(TCS_AT * PAGE)[0] == 0


def test_the_code_page_is_as_secinfo_said(secs: SecsPage) -> None:
    assert secs.epcm.get(CODE) == secinfo_flags(PageType.REG, 5)
