# SPDX-License-Identifier: Apache-2.0
"""EENTER and EEXIT: what goes in, what comes out, and every reason to be refused."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.rig import (
    AEX_NOTIFY,
    DATA,
    EENTER,
    EEXIT,
    ERESUME,
    PAGE,
    SSA,
    STORAGE,
    THREAD,
    Rig,
)

from ensconce import _core
from ensconce.errors import EnclaveError
from ensconce.isa.ssa import Vector


def test_entry_gives_the_enclave_what_the_manual_says(rig: Rig) -> None:
    assert rig.run("registers", 0x77) == 0
    assert rig.word(0) == 0  # CSSA
    assert rig.word(8) == rig.tcs()
    assert rig.word(24) == rig.call.rsp + 64
    assert rig.word(32) == rig.base + THREAD + STORAGE
    assert rig.word(40) == rig.base + THREAD + STORAGE + 0x100
    assert (rig.word(48), rig.word(56)) == (rig.symbols["registers"], 0x77)


def test_exit_gives_the_host_the_enclaves_registers(rig: Rig) -> None:
    rig.run("registers")
    call = rig.call
    assert call.function == EEXIT
    assert [call.rdi, call.rsi, call.rdx] == [0x1111, 0x2222, 0x3333]
    assert [call.r8, call.r9] == [0x4444, 0x5555]
    assert call.stack[0] < call.rsp < call.stack[1]


def test_entry_saves_the_untrusted_stack_in_the_ssa(rig: Rig) -> None:
    rsp = rig.call.stack[1] - 0x1000
    rig.run("leave", rsp=rsp)
    assert rig.gpr().ursp == rsp


def test_an_exit_to_another_address_is_a_fault_of_the_exit(rig: Rig) -> None:
    assert rig.run("exit_to", 0x1234) == 1
    assert (rig.call.function, rig.call.vector) == (EEXIT, Vector.PF)
    assert rig.call.address == 0x1234


def test_an_exit_to_no_address_at_all_raises_gp_inside(rig: Rig) -> None:
    assert rig.run("exit_to", 1 << 63) == 1
    assert (rig.call.function, rig.call.vector) == (ERESUME, Vector.GP)


@pytest.mark.parametrize(
    ("change", "vector"),
    [
        ({"flags": 4}, Vector.GP),
        ({"flags": 2}, Vector.GP),  # AEX-Notify in the TCS alone
        ({"nssa": 0}, Vector.GP),
        ({"cssa": 3}, Vector.GP),
        ({"oentry": 1 << 62}, Vector.GP),
        ({"ofsbase": 1 << 62}, Vector.GP),
        ({"ogsbase": 1 << 62}, Vector.GP),
        ({"ossa": 0x7F000}, Vector.PF),
        ({"ossa": 1 << 40}, Vector.PF),
        ({"ossa": 2**64 - PAGE}, Vector.PF),
        ({"ossa": THREAD + SSA + 8}, Vector.PF),
        ({"ossa": 0}, Vector.PF),  # code, not writable
    ],
)
def test_a_bad_tcs_is_refused(rig: Rig, change: dict[str, int], vector: Vector) -> None:
    rig.add_thread(0, **change)
    assert rig.run("leave") == 1
    assert (rig.call.function, rig.call.vector) == (EENTER, vector)
    assert not rig.enclave.tcs(rig.tcs_offset())[1]


def test_an_entry_point_outside_the_enclave_faults_inside(rig: Rig) -> None:
    rig.add_thread(0, oentry=2**64 - rig.base)  # address 0
    assert rig.run("leave") == 1
    assert (rig.call.function, rig.call.vector) == (ERESUME, Vector.GP)


def test_aex_notify_is_both_or_neither(make_rig: Callable[..., Rig]) -> None:
    assert make_rig(attributes=4 | AEX_NOTIFY).run("leave") == 1
    assert make_rig(attributes=4 | AEX_NOTIFY, flags=2).run("leave") == 0
    assert make_rig(attributes=4 | AEX_NOTIFY, flags=1).run("leave") == 0  # opted in to debugging


def test_an_unaligned_tcs_raises_gp(rig: Rig) -> None:
    assert rig.call.enter(EENTER, rig.tcs() + 8) == 1
    assert rig.call.vector == Vector.GP


@pytest.mark.parametrize("offset", [0, DATA, THREAD + PAGE])
def test_a_page_that_is_no_tcs_raises_pf(rig: Rig, offset: int) -> None:
    assert rig.call.enter(EENTER, rig.base + offset) == 1
    assert (rig.call.function, rig.call.vector) == (EENTER, Vector.PF)
    assert rig.faults[-1][::2] == (offset, EENTER)


def test_an_address_outside_every_enclave_raises_pf(rig: Rig) -> None:
    assert rig.call.enter(EENTER, 0x1000) == 1
    assert (rig.call.vector, rig.call.address) == (Vector.PF, 0x1000)
    assert rig.faults == []


def test_an_enclave_that_is_not_enabled_raises_gp(rig: Rig) -> None:
    rig.enclave.enable(False)  # noqa: FBT003 # the interface is positional
    assert rig.run("leave") == 1
    assert rig.call.vector == Vector.GP


def test_a_blocked_tcs_raises_pf_until_it_is_not(rig: Rig) -> None:
    rig.enclave.block_tcs(rig.tcs_offset(), True)  # noqa: FBT003 # the interface is positional
    assert rig.run("leave") == 1
    assert rig.faults == [(rig.tcs_offset(), 7, EENTER)]
    rig.enclave.block_tcs(rig.tcs_offset(), False)  # noqa: FBT003 # the interface is positional
    assert rig.run("leave") == 0


def test_a_removed_tcs_can_come_back_in_the_fault_callback(make_rig: Callable[..., Rig]) -> None:
    def load(address: int, error_code: int, function: int) -> bool:
        assert (address, error_code, function) == (rig.tcs(), 6, EENTER)
        rig.add_thread(0)
        return True

    rig = make_rig(fault=load)
    rig.enclave.remove_tcs(rig.tcs_offset())
    assert rig.run("leave") == 0


def test_an_absent_ssa_page_is_asked_for_at_entry(make_rig: Callable[..., Rig]) -> None:
    asked: list[tuple[int, int]] = []

    def load(address: int, _error_code: int, function: int) -> bool:
        asked.append((address - rig.base, function))
        rig.memory.protect(address - rig.base, PAGE, 3)
        return True

    rig = make_rig(fault=load)
    rig.memory.protect(THREAD + SSA, PAGE, 0)
    assert rig.run("leave") == 0
    assert asked == [(THREAD + SSA, EENTER)]


def test_a_write_protected_ssa_page_is_refused_with_its_error_code(rig: Rig) -> None:
    rig.run("leave")
    rig.memory.protect(THREAD + SSA, PAGE, 1)
    assert rig.run("leave") == 1
    assert (rig.call.function, rig.call.vector) == (EENTER, Vector.PF)
    assert rig.call.error_code & 6 == 6
    assert rig.call.address == rig.base + THREAD + SSA


def test_a_tcs_serves_one_thread_at_a_time(rig: Rig) -> None:
    worker = threading.Thread(target=rig.run, args=("spin",))
    worker.start()
    while rig.word(8) == 0:
        pass
    other = rig.new_call()
    assert other.enter(EENTER, rig.tcs(), rig.symbols["leave"]) == 1
    assert (other.function, other.vector) == (EENTER, Vector.GP)
    assert rig.enclave.tcs(rig.tcs_offset())[:2] == (0, True)
    rig.set_word(0, 1)
    worker.join()


def test_an_enclave_is_not_closed_while_a_thread_is_inside(rig: Rig) -> None:
    worker = threading.Thread(target=rig.run, args=("spin",))
    worker.start()
    while rig.word(8) == 0:
        pass
    with pytest.raises(EnclaveError, match="inside"):
        rig.enclave.close()
    with pytest.raises(EnclaveError, match="in use"):
        rig.enclave.remove_tcs(rig.tcs_offset())
    with pytest.raises(EnclaveError, match="in use"):
        rig.add_thread(0)
    with pytest.raises(EnclaveError, match="in use"):
        rig.run("leave")
    rig.set_word(0, 1)
    worker.join()
    rig.enclave.close()


def test_a_closed_enclave_is_no_more(rig: Rig) -> None:
    rig.enclave.close()
    assert rig.run("leave") == 1
    assert rig.call.vector == Vector.PF
    with pytest.raises(ValueError, match="closed"):
        rig.enclave.epoch  # noqa: B018 # reading it is the test
    rig.enclave.close()


def test_an_ocall_may_call_back_into_the_enclave(rig: Rig) -> None:
    assert rig.run("registers") == 0
    outer = rig.call.rsp
    assert rig.run("registers", rsp=outer) == 0
    assert rig.call.rsp == outer - 64
    assert rig.run("leave", rsp=outer) == 0


@pytest.mark.parametrize("function", [0, 1, 4, 2**32 + 2, -1])
def test_only_eenter_and_eresume_enter(rig: Rig, function: int) -> None:
    with pytest.raises(ValueError, match="EENTER"):
        rig.call.enter(function, rig.tcs())


@pytest.mark.parametrize("place", [-1, 8, 2**63])
def test_a_stack_pointer_elsewhere_is_refused(rig: Rig, place: int) -> None:
    with pytest.raises(ValueError, match="stack"):
        rig.call.enter(EENTER, rig.tcs(), rsp=rig.call.stack[1] + place if place == 8 else place)


def test_a_stack_without_room_is_refused(rig: Rig) -> None:
    with pytest.raises(ValueError, match="spare"):
        rig.run("leave", rsp=rig.call.stack[0] + 100)


def test_arguments_are_registers(rig: Rig) -> None:
    rig.run("registers", -1)
    assert rig.word(56) == 2**64 - 1
    with pytest.raises(TypeError):
        rig.call.enter(EENTER, rig.tcs(), "1")  # type: ignore[arg-type] # on purpose
    with pytest.raises(TypeError, match="unknown"):
        rig.call.enter(EENTER, rig.tcs(), r12=1)  # type: ignore[call-arg] # on purpose
    with pytest.raises(TypeError, match="needs"):
        rig.call.enter(EENTER)  # type: ignore[call-arg] # on purpose


def test_a_call_needs_a_function_and_a_stack() -> None:
    with pytest.raises(ValueError, match="address 0"):
        _core.Call(0)
    with pytest.raises(ValueError, match="stack_size"):
        _core.Call(_core.emulated_enter_address(), 4096)
    with pytest.raises(ValueError, match="stack_size"):
        _core.Call(_core.emulated_enter_address(), 1 << 40)


def test_an_enclave_needs_room_in_its_ssa(rig: Rig) -> None:
    base = _core.reserve(1 << 16)
    memory = _core.Memory(base, 1 << 16)
    with pytest.raises(ValueError, match="SSA frame"):
        _core.Enclave(memory, 0, 0, 4, 3, lambda _frame: None, rig.refuse)
    with pytest.raises(TypeError, match="callable"):
        _core.Enclave(memory, 1, 0, 4, 3, None, rig.refuse)  # type: ignore[arg-type] # on purpose
    with pytest.raises(ValueError, match="another enclave"):
        _core.Enclave(rig.memory, 1, 0, 4, 3, lambda _frame: None, rig.refuse)
    memory.close()
    _core.release(base, 1 << 16)


def test_xfrm_beyond_the_processor_is_refused_at_entry(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(xfrm=3 | 1 << 62)
    assert rig.run("leave") == 1
    assert rig.call.vector == Vector.GP


def test_unknown_tcs_are_named(rig: Rig) -> None:
    for ask in (rig.enclave.tcs, rig.enclave.remove_tcs):
        with pytest.raises(ValueError, match="no TCS at offset 0x3000"):
            ask(0x3000)
    with pytest.raises(ValueError, match="no TCS"):
        rig.enclave.set_cssa(0x3000, 0)
    with pytest.raises(ValueError, match="outside"):
        rig.enclave.set_cssa(rig.tcs_offset(), 9)
    with pytest.raises(ValueError, match="not that of a page"):
        rig.enclave.set_tcs(17, flags=0, ossa=0, nssa=1, cssa=0, oentry=0, ofsbase=0, ogsbase=0)


def test_eight_threads_count_without_a_loss(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(threads=8)
    rounds, turns = 20000, 40
    wrong: list[int] = []

    def work(thread: int) -> None:
        call = rig.new_call()
        for _ in range(turns):
            outcome = call.enter(EENTER, rig.tcs(thread), rig.symbols["count"], rounds)
            if (outcome, call.rsi) != (0, rounds):
                wrong.append(outcome)

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    for thread in range(8):
        at = rig.tcs_offset(thread) + STORAGE + 0x100
        assert int.from_bytes(rig.memory.alias_view(at, 8), "little") == rounds * turns


def test_threads_come_and_go_and_leave_nothing(rig: Rig) -> None:
    def mappings() -> int:
        return len(Path("/proc/self/maps").read_bytes().splitlines())

    counts = []
    for _ in range(60):
        worker = threading.Thread(target=rig.run, args=("registers",))
        worker.start()
        worker.join()
        assert rig.call.rdi == 0x1111
        counts.append(mappings())
    assert counts[-1] < counts[10] + 25  # a leak would be three for each thread
