# SPDX-License-Identifier: Apache-2.0
"""EDBGRD, EDBGWR, ERDINFO (SDM vol. 3D, 40.3)."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.machine.building import DATA, FREE, PAGE, SIZE, TCS_AT, bare, running

from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.ssa import Vector
from ensconce.machine.encls_debug import RdInfoStatus, edbgrd, edbgrd_va, edbgwr, erdinfo
from ensconce.machine.encls_dynamic import eaug
from ensconce.machine.encls_paging import eblock, epa
from ensconce.machine.processor import Processor
from ensconce.machine.secs_page import SecsPage

PRODUCTION = Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY)
FLAGS = TCS_AT * PAGE + 8
CSSA = TCS_AT * PAGE + 24


@pytest.fixture
def secs(cpu: Processor, key: rsa.RSAPrivateKey) -> Iterator[SecsPage]:
    with running(cpu, key) as secs:
        yield secs


def test_a_debugger_reads_and_writes_a_debug_enclave(cpu: Processor, secs: SecsPage) -> None:
    edbgwr(cpu, secs, secs.base + DATA * PAGE + 8, 0x1122334455667788)
    assert edbgrd(cpu, secs, secs.base + DATA * PAGE + 8) == 0x1122334455667788
    assert bytes(secs.content(DATA)[8:16]).hex() == "8877665544332211"


def test_a_production_enclave_can_not_be_read_or_written(
    cpu: Processor, key: rsa.RSAPrivateKey
) -> None:
    with running(cpu, key, attributes=PRODUCTION) as secs:
        for attempt in (
            lambda: edbgrd(cpu, secs, secs.base + DATA * PAGE),
            lambda: edbgwr(cpu, secs, secs.base + DATA * PAGE, 0),
        ):
            with pytest.raises(Fault) as caught:
                attempt()
            assert caught.value.code is Vector.GP


def test_a_debugger_sees_a_tcs_as_it_is_now(cpu: Processor, secs: SecsPage) -> None:
    secs.core.set_cssa(TCS_AT * PAGE, 1)
    assert edbgrd(cpu, secs, secs.base + CSSA) & 0xFFFFFFFF == 1


def test_a_debugger_sets_the_flags_of_a_tcs_and_nothing_else(
    cpu: Processor, secs: SecsPage
) -> None:
    edbgwr(cpu, secs, secs.base + FLAGS, 1)
    assert edbgrd(cpu, secs, secs.base + FLAGS) == 1
    assert secs.tcss[TCS_AT].flags == 1
    for offset, value in ((CSSA, 0), (FLAGS, 4)):
        with pytest.raises(Fault) as caught:
            edbgwr(cpu, secs, secs.base + offset, value)
        assert caught.value.code is Vector.GP


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (DATA * PAGE + 4, Vector.GP),
        (TCS_AT * PAGE + 88, Vector.GP),
        (SIZE, Vector.PF),
        ((FREE + 1) * PAGE, Vector.PF),
        (FREE * PAGE, ErrorCode.PAGE_NOT_DEBUGGABLE),
    ],
)
def test_a_debugger_is_refused(cpu: Processor, secs: SecsPage, offset: int, code: object) -> None:
    eaug(cpu, secs, secs.base + FREE * PAGE)
    with pytest.raises(Fault) as caught:
        edbgrd(cpu, secs, secs.base + offset)
    assert caught.value.code is code


def test_a_debugger_sees_which_version_slots_are_used(cpu: Processor) -> None:
    va = epa(cpu)
    va.slots[1] = 8
    assert [edbgrd_va(cpu, va, slot) for slot in (0, 1)] == [0, (1 << 64) - 1]
    with pytest.raises(Fault):
        edbgrd_va(cpu, va, 512)


def test_erdinfo_tells_type_state_and_enclave(cpu: Processor, secs: SecsPage) -> None:
    assert erdinfo(cpu, secs, secs.base + DATA * PAGE).flags == 0x203
    assert erdinfo(cpu, secs, secs.base + TCS_AT * PAGE).flags == 0x100
    eblock(cpu, secs, secs.base + DATA * PAGE)
    assert erdinfo(cpu, secs, secs.base + DATA * PAGE).flags == 0x203 | 1 << 63
    assert erdinfo(cpu, secs, None).status == RdInfoStatus.CHLDPRESENT
    assert erdinfo(cpu, secs, None).enclave_context == secs.eid


def test_erdinfo_of_an_empty_secs_has_no_child(cpu: Processor) -> None:
    with bare(cpu, []) as secs:
        assert erdinfo(cpu, secs, None).status == 0


@pytest.mark.parametrize(
    ("offset", "code"),
    [(1, Vector.GP), (SIZE, Vector.PF), (FREE * PAGE, ErrorCode.PG_INVLD)],
)
def test_erdinfo_refuses(cpu: Processor, secs: SecsPage, offset: int, code: object) -> None:
    with pytest.raises(Fault) as caught:
        erdinfo(cpu, secs, secs.base + offset)
    assert caught.value.code is code
