# SPDX-License-Identifier: Apache-2.0
"""ENCLU inside an enclave: the leaf callback sees the registers and decides how it goes on."""

from collections.abc import Callable

import pytest
from tests.core.rig import DATA, EENTER, PAGE, Rig

from ensconce import _core
from ensconce.isa.ssa import Vector


def test_a_leaf_sees_and_changes_registers(make_rig: Callable[..., Rig]) -> None:
    seen: dict[str, int] = {}

    def serve(frame: _core.Frame) -> None:
        seen.update(rax=frame.rax, rbx=frame.rbx, rcx=frame.rcx, rdx=frame.rdx, r8=frame.r8)
        assert frame.enclave is rig.enclave
        assert frame.tcs == rig.tcs()
        frame.rax, frame.rcx, frame.r11 = 7, 0x99, -1

    rig = make_rig(leaf=serve)
    assert rig.run("leaf", 5) == 0
    assert seen == {"rax": 5, "rbx": 0xB0, "rcx": 0xC0, "rdx": 0xD0, "r8": 0x88}
    assert (rig.call.rsi, rig.call.rdi, rig.call.r8) == (7, 0x99, 2**64 - 1)
    assert rig.call.r9 == 0  # a vector register lived through it


def test_every_leaf_but_eexit_is_served(make_rig: Callable[..., Rig]) -> None:
    served: list[int] = []
    rig = make_rig(leaf=lambda frame: served.append(frame.rax))
    for number in (0, 1, 2, 3, 5, 6, 7, 9, 0x1234, 0xFFFFFFFF):
        assert rig.run("leaf", number) == 0
    assert served == [0, 1, 2, 3, 5, 6, 7, 9, 0x1234, 0xFFFFFFFF]


def test_the_tcs_is_busy_while_a_leaf_is_served(make_rig: Callable[..., Rig]) -> None:
    busy: list[bool] = []

    def serve(_frame: _core.Frame) -> None:
        busy.append(rig.enclave.tcs(rig.tcs_offset())[1])

    rig = make_rig(leaf=serve)
    rig.run("leaf")
    assert busy == [True]


def test_a_leaf_may_raise_an_exception_in_the_enclave(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(leaf=lambda _frame: (13, 0, 0))
    assert rig.run("leaf", 5) == 1
    assert rig.call.vector == Vector.GP
    rip = rig.gpr().rip - rig.base
    assert bytes(rig.memory.alias_view(rip + 1, 2)) == b"\x01\xd7"
    assert rig.gpr().rax == 5


def test_a_page_fault_of_a_leaf_is_mended_and_the_leaf_runs_again(
    make_rig: Callable[..., Rig],
) -> None:
    present: list[int] = []

    def serve(_frame: _core.Frame) -> tuple[int, int, int] | None:
        return None if present else (14, 4, rig.base + DATA + 8)

    def mend(address: int, _error_code: int, _function: int) -> bool:
        present.append(address - rig.base)
        return True

    rig = make_rig(leaf=serve, fault=mend)
    assert rig.run("leaf") == 0
    assert present == [DATA]
    assert rig.call.r9 == 0


def test_an_exception_in_the_leaf_callback_reaches_the_caller(make_rig: Callable[..., Rig]) -> None:
    def serve(_frame: _core.Frame) -> None:
        raise ZeroDivisionError

    rig = make_rig(leaf=serve)
    with pytest.raises(ZeroDivisionError):
        rig.run("leaf", 1)
    assert rig.enclave.tcs(rig.tcs_offset())[:2] == (1, False)
    assert rig.gpr().exit_info == 0


@pytest.mark.parametrize("answer", [1, "done", (1, 2), (1, 2, 3, 4), ("a", 0, 0)])
def test_a_senseless_answer_is_an_error(make_rig: Callable[..., Rig], answer: object) -> None:
    rig = make_rig(leaf=lambda _frame: answer)
    with pytest.raises(TypeError):
        rig.run("leaf")


def test_an_executed_enclu_is_rewritten_only_where_that_helps(make_rig: Callable[..., Rig]) -> None:
    rips: list[int] = []
    rig = make_rig(leaf=lambda frame: rips.append(frame.rip))
    for _ in range(3):
        assert rig.run("leaf") == 0
    first = b"\xf4" if _core.rewrites_enclu() else b"\x0f"
    assert bytes(rig.memory.alias_view(rips[0] - rig.base, 3)) == first + b"\x01\xd7"
    assert len(set(rips)) == 1


def test_a_frame_is_only_good_while_its_leaf_is_served(make_rig: Callable[..., Rig]) -> None:
    kept: list[_core.Frame] = []
    rig = make_rig(leaf=kept.append)
    rig.run("leaf")
    with pytest.raises(ValueError, match="gone"):
        kept[0].rax  # noqa: B018 # reading it is the test
    with pytest.raises(ValueError, match="gone"):
        kept[0].rax = 1
    with pytest.raises(TypeError):
        type(kept[0])()


def test_an_entry_from_a_leaf_callback_does_not_disturb_the_outer_one(
    make_rig: Callable[..., Rig],
) -> None:
    depth = 0

    def serve(frame: _core.Frame) -> None:
        nonlocal depth
        depth += 1
        if depth < 4:
            call = rig.new_call()
            assert call.enter(EENTER, rig.tcs(depth), rig.symbols["leaf"], depth) == 0
            assert (call.rsi, call.r9) == (101 + depth, 0)
        frame.rax = 100 + depth
        depth -= 1

    rig = make_rig(leaf=serve, threads=4)
    assert rig.run("leaf") == 0
    assert rig.call.r9 == 0


def test_a_call_in_use_is_refused_to_its_own_callback(make_rig: Callable[..., Rig]) -> None:
    def serve(_frame: _core.Frame) -> None:
        rig.run("leave")

    rig = make_rig(leaf=serve)
    with pytest.raises(Exception, match="this Call is in use"):
        rig.run("leaf")


def test_enclu_at_the_end_of_a_page_is_recognised(make_rig: Callable[..., Rig]) -> None:
    served: list[int] = []

    def serve(frame: _core.Frame) -> tuple[int, int, int]:
        served.append(frame.rip - rig.base)
        return 13, 0, 0

    rig = make_rig(leaf=serve)
    rig.memory.alias_view(DATA - 3, 3)[:] = b"\x0f\x01\xd7"
    rig.memory.protect(DATA, PAGE, 0)
    assert rig.run("leaf_at_page_end") == 1
    assert served == [DATA - 3]


def test_leaves_of_execute_only_pages_are_recognised(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(leaf=lambda _frame: None)
    rig.memory.protect(0, PAGE, 4)
    assert rig.run("leaf") == 0


def test_a_leaf_with_live_control_words_keeps_them(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(leaf=lambda _frame: None)
    for _ in range(3):
        assert rig.run("leaf", 1) == 0
    assert rig.call.r9 == 0
