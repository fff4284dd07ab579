# SPDX-License-Identifier: Apache-2.0
"""Every exception becomes an AEX with the EXITINFO and EXINFO that the manual gives it."""

from collections.abc import Callable

import pytest
from tests.core.rig import DATA, ERESUME, PAGE, Rig

from ensconce.isa.ssa import Vector, exit_info

RAISED = [
    ("undefined", Vector.UD),
    ("divide", Vector.DE),
    ("breakpoint", Vector.BP),
    ("not_canonical", Vector.GP),
    ("privileged", Vector.GP),
    ("misaligned", Vector.AC),
    ("simd", Vector.XM),
    ("x87", Vector.MF),
]
ILLEGAL = [
    "software_breakpoint",
    "software_overflow",
    "software_interrupt",
    "port_in",
    "port_out_string",
    "performance_counter",
]


@pytest.mark.parametrize(("routine", "vector"), RAISED)
def test_an_exception_ends_the_entry_and_is_in_the_ssa(
    rig: Rig, routine: str, vector: Vector
) -> None:
    assert rig.run(routine) == 1
    assert (rig.call.function, rig.call.vector) == (ERESUME, vector)
    assert rig.gpr().exit_info == exit_info(vector, with_exinfo=True)
    assert rig.cssa() == 1
    assert not rig.enclave.tcs(rig.tcs_offset())[1]


@pytest.mark.parametrize("routine", ["undefined", "divide", "breakpoint", "privileged"])
def test_the_saved_rip_is_that_of_the_instruction(rig: Rig, routine: str) -> None:
    rig.run(routine)
    start = rig.base + rig.symbols[routine]
    assert start <= rig.gpr().rip < start + 16
    code = rig.memory.alias_view(rig.gpr().rip - rig.base, 2)
    assert bytes(code)[:1] in (b"\x0f", b"\xf7", b"\xcc", b"\xfa")


@pytest.mark.parametrize("routine", ILLEGAL)
def test_an_instruction_that_is_illegal_in_an_enclave_raises_ud(rig: Rig, routine: str) -> None:
    assert rig.run(routine) == 1
    assert rig.call.vector == Vector.UD
    assert rig.base + rig.symbols[routine] <= rig.gpr().rip < rig.base + rig.symbols[routine] + 8


@pytest.mark.parametrize("routine", ["system_call", "old_system_call"])
def test_a_system_call_raises_ud(rig: Rig, routine: str) -> None:
    assert rig.run(routine) == 1
    assert rig.call.vector == Vector.UD
    assert rig.gpr().rip == rig.base + rig.symbols[routine] + 5


def test_a_production_enclave_cannot_single_step_itself(rig: Rig) -> None:
    assert rig.run("single_step") == 0


def test_an_enclave_that_is_debugged_can(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(flags=1)
    assert rig.run("single_step") == 1
    assert rig.call.vector == Vector.DB
    assert rig.gpr().exit_info == exit_info(Vector.DB, with_exinfo=True)


def test_a_page_fault_reports_address_and_code(rig: Rig) -> None:
    target = rig.base + DATA + 0x123
    rig.memory.protect(DATA, PAGE, 1)
    assert rig.run("load", target) == 0  # now it is present
    assert rig.run("store", target) == 1
    assert rig.call.vector == Vector.PF
    assert rig.call.error_code == 7
    assert rig.call.address == target & -PAGE
    assert rig.faults == [(DATA, 7, ERESUME)]
    assert (rig.exinfo().maddr, rig.exinfo().errcd) == (target, 7)
    assert rig.gpr().exit_info == exit_info(Vector.PF, with_exinfo=True)


def test_without_exinfo_a_page_fault_is_not_reported_inside(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(misc_select=0)
    assert rig.run("load", rig.base + 0x1000 * 0x60) == 1
    assert rig.call.vector == Vector.PF
    assert rig.gpr().exit_info == 0


def test_a_fault_outside_the_enclave_keeps_its_address(rig: Rig) -> None:
    assert rig.run("load", 0x123) == 1
    assert (rig.call.vector, rig.call.address) == (Vector.PF, 0x123)


@pytest.mark.parametrize("target", [0, 0x1000, 1 << 63])
def test_a_jump_out_of_the_enclave_raises_gp(rig: Rig, target: int) -> None:
    assert rig.run("fetch", target) == 1
    assert rig.call.vector == Vector.GP


def test_a_jump_to_host_code_that_faults_raises_gp(rig: Rig) -> None:
    assert rig.run("fetch", rig.call.stack[0]) == 1
    assert rig.call.vector == Vector.GP


def test_a_fetch_from_data_is_a_page_fault_with_the_instruction_bit(rig: Rig) -> None:
    assert rig.run("fetch", rig.base + DATA) == 1
    assert (rig.call.vector, rig.call.error_code & 0x10) == (Vector.PF, 0x10)


def test_the_fault_callback_can_mend_a_page(make_rig: Callable[..., Rig]) -> None:
    mended: list[int] = []

    def mend(address: int, _error_code: int, _function: int) -> bool:
        mended.append(address - rig.base)
        rig.memory.protect(address - rig.base, PAGE, 3)
        return True

    rig = make_rig(fault=mend)
    rig.memory.protect(DATA, PAGE, 0)
    assert rig.run("store", rig.base + DATA) == 0
    assert mended == [DATA]
    assert rig.word(0) == 1


def test_the_fault_callback_can_change_the_error_code(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(fault=lambda _address, error_code, _function: error_code | 0x8000)
    assert rig.run("load", rig.base + 0x60000) == 1
    assert rig.call.error_code == 0x8004
    assert rig.exinfo().errcd == 0x8004


def test_an_exception_in_the_fault_callback_reaches_the_caller(
    make_rig: Callable[..., Rig],
) -> None:
    def fail(address: int, _error_code: int, _function: int) -> bool:
        raise KeyError(address)

    rig = make_rig(fault=fail)
    with pytest.raises(KeyError):
        rig.run("load", rig.base + 0x60000)
    assert rig.enclave.tcs(rig.tcs_offset())[:2] == (1, False)


def test_flags_that_an_enclave_leaves_set_do_not_reach_the_host(rig: Rig) -> None:
    assert rig.run("align_flag") == 0
    assert rig.run("misaligned") == 1


def test_a_processor_identity_faults_where_the_processor_can_make_it(rig: Rig) -> None:
    from ensconce import _core

    outcome = rig.run("processor_identity")
    assert (outcome == 1) == _core.capabilities()["cpuid_faulting"]
    if outcome:
        assert rig.call.vector == Vector.UD
