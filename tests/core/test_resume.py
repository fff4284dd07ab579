# SPDX-License-Identifier: Apache-2.0
"""ERESUME gives back every register that an AEX took, or refuses a state that no processor has."""

import struct
import threading
from collections.abc import Callable

import pytest
from tests.core.rig import AEX_NOTIFY, DATA, EENTER, ERESUME, PAGE, SSA, STORAGE, THREAD, Rig

from ensconce import _core
from ensconce.isa.ssa import Vector

HOT = DATA + 2 * PAGE  # the page that comes and goes
NEXT = HOT + PAGE  # the one after it
GENERAL = [0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x8888, 0x9999, 0xAAAA, 0xBBBB, 0xCCCC]
XSTATE_BV, MXCSR = 512, 24


def evicting(make_rig: Callable[..., Rig], **settings: object) -> tuple[Rig, list[int]]:
    """Make an enclave whose page HOT is present for one access at a time."""
    faults: list[int] = []

    def load(address: int, _error_code: int, _function: int) -> bool:
        faults.append(address - rig.base)
        rig.memory.protect(HOT, PAGE, 3)
        return True

    rig = make_rig(fault=load, **settings)
    rig.memory.protect(HOT, PAGE, 0)
    return rig, faults


def pattern(number: int, size: int) -> bytes:
    return bytes([number + 1]) * size


def check_general(rig: Rig) -> None:
    stored = struct.unpack("<10Q", rig.memory.alias_view(DATA + 0x100, 80))
    assert list(stored) == GENERAL
    assert rig.word(0x150) & 1 == 1  # CF


VECTORS = [("keep_xmm", 3, 16, 16), ("keep_ymm", 7, 32, 16), ("keep_zmm", 0xE7, 64, 32)]


@pytest.mark.parametrize(("routine", "xfrm", "size", "count"), VECTORS)
def test_registers_live_through_aex_and_eresume(
    make_rig: Callable[..., Rig], routine: str, xfrm: int, size: int, count: int
) -> None:
    if xfrm & ~_core.xcr0():
        pytest.skip(f"this processor has XCR0 {_core.xcr0():#x}, the test needs {xfrm:#x}")
    rig, faults = evicting(make_rig, xfrm=xfrm)
    rig.set_word(8, 1)
    assert rig.run(routine, rig.base + HOT) == 0
    assert faults == [HOT]
    check_general(rig)
    stored = rig.memory.alias_view(DATA + 0x1000, 0x900)
    for number in range(count):
        assert bytes(stored[64 * number : 64 * number + size]) == pattern(number, size)
    if routine == "keep_zmm":
        masks = struct.unpack("<7Q", stored[0x808 : 0x808 + 56])
        assert [value.to_bytes(8, "little") for value in masks] == [
            pattern(number, 8) for number in range(1, 8)
        ]


def test_x87_and_control_words_live_through_aex_and_eresume(make_rig: Callable[..., Rig]) -> None:
    rig, faults = evicting(make_rig)
    rig.set_word(8, 1)
    assert rig.run("keep_x87", rig.base + HOT) == 0
    assert faults == [HOT]
    assert bytes(rig.memory.alias_view(DATA + 0x1000, 10)).hex() == "35c26821a2da0fc90040"
    assert rig.word(0x1010) & 0xFFFFFFFF == 0x7F80


def test_the_ssa_holds_standard_format_state_under_xfrm(rig: Rig) -> None:
    rig.memory.protect(HOT, PAGE, 0)
    assert rig.run("keep_ymm", rig.base + HOT) == 1
    frame = rig.frame()
    present, compaction = struct.unpack_from("<QQ", frame, XSTATE_BV)
    assert present & 7 == 7
    assert present & ~_core.xcr0() == 0
    assert compaction == 0
    assert bytes(frame[464:512]) == bytes(48)
    assert bytes(frame[160 + 16 * 3 :][:16]) == pattern(3, 16)


def test_state_outside_xfrm_is_not_saved(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(xfrm=3)
    rig.memory.protect(HOT, PAGE, 0)
    assert rig.run("keep_ymm", rig.base + HOT) == 1
    frame = rig.frame()
    assert struct.unpack_from("<Q", frame, XSTATE_BV)[0] == 3
    assert bytes(frame[576 : 576 + 256]) == bytes(256)


def test_a_fault_that_the_host_mends_later_can_be_resumed(rig: Rig) -> None:
    rig.memory.protect(HOT, PAGE, 0)
    rig.set_word(8, 1)
    assert rig.run("keep_xmm", rig.base + HOT) == 1
    assert rig.resume() == 1  # still absent
    rig.memory.protect(HOT, PAGE, 3)
    assert rig.resume() == 0
    check_general(rig)
    assert rig.cssa() == 0


def test_resuming_does_not_use_up_the_stack(rig: Rig) -> None:
    rig.memory.protect(HOT, PAGE, 0)
    rig.run("load", rig.base + HOT)
    first = rig.call.rsp
    for _ in range(100):
        assert rig.resume() == 1
    assert rig.call.rsp == first


def test_an_exception_handler_may_be_entered_above_the_interrupted_frame(rig: Rig) -> None:
    assert rig.run("undefined") == 1
    rsp = rig.call.rsp
    assert rig.run("registers", rsp=rsp - 256) == 0
    assert rig.word(0) == 1  # CSSA
    gpr = rig.gpr()
    gpr_bytes = bytearray(bytes(gpr))
    struct.pack_into("<Q", gpr_bytes, 136, gpr.rip + 2)  # step over UD2
    rig.frame()[PAGE - 184 :] = gpr_bytes
    assert rig.call.enter(ERESUME, rig.tcs(), rsp=rsp) == 0


def test_eresume_without_a_saved_frame_raises_gp(rig: Rig) -> None:
    assert rig.call.enter(ERESUME, rig.tcs()) == 1
    assert (rig.call.function, rig.call.vector) == (ERESUME, Vector.GP)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (XSTATE_BV, 1 << 9),
        (XSTATE_BV, 1 << 63),
        (XSTATE_BV + 8, 1 << 63),
        (XSTATE_BV + 16, 1),
        (MXCSR, 0xFFFF0000),
        (PAGE - 184 + 136, 1 << 62),
        (PAGE - 184 + 168, 1 << 62),
        (PAGE - 184 + 176, 1 << 62),
    ],
)
def test_a_state_that_the_processor_refuses_raises_gp(rig: Rig, offset: int, value: int) -> None:
    assert rig.run("undefined") == 1
    frame = rig.frame()
    frame[offset : offset + 8] = struct.pack("<Q", value)
    assert rig.resume() == 1
    assert (rig.call.function, rig.call.vector) == (ERESUME, Vector.GP)
    assert rig.cssa() == 1


def test_saved_flags_cannot_hurt_the_host(rig: Rig) -> None:
    assert rig.run("undefined") == 1
    gpr = bytearray(bytes(rig.gpr()))
    struct.pack_into("<QQ", gpr, 128, 0xFFFFFFFFFFFFFEFF, rig.base + rig.symbols["leave"])
    rig.frame()[PAGE - 184 :] = gpr
    rig.resume()
    rig.reset()
    assert rig.run("leave") == 0


def test_an_absent_ssa_page_is_asked_for_at_resume(rig: Rig) -> None:
    assert rig.run("undefined") == 1
    rig.memory.protect(THREAD + SSA, PAGE, 0)
    rig.faults.clear()
    assert rig.resume() == 1
    assert (rig.call.function, rig.call.vector) == (ERESUME, Vector.PF)
    assert rig.faults[0][::2] == (THREAD + SSA, ERESUME)
    assert rig.cssa() == 1


def test_aex_notify_enters_the_handler_instead(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(attributes=4 | AEX_NOTIFY, flags=2)
    assert rig.run("undefined") == 1
    gpr = bytearray(bytes(rig.gpr()))
    gpr[167] = 1
    rig.frame()[PAGE - 184 :] = gpr
    call = rig.call
    assert call.enter(ERESUME, rig.tcs(), rig.symbols["registers"], 9, call.rsp) == 0
    assert (rig.word(0), rig.word(56)) == (1, 9)
    assert rig.cssa() == 1


def test_aex_notify_needs_a_free_frame(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(attributes=4 | AEX_NOTIFY, flags=2, nssa=1)
    assert rig.run("undefined") == 1
    gpr = bytearray(bytes(rig.gpr()))
    gpr[167] = 1
    rig.frame()[PAGE - 184 :] = gpr
    assert rig.resume() == 1
    assert (rig.call.function, rig.call.vector) == (ERESUME, Vector.GP)


def test_exceptions_nest_until_the_ssa_is_full(rig: Rig) -> None:
    for level in range(1, 4):
        assert rig.run("undefined", rsp=rig.call.stack[1] - 0x1000 * level) == 1
        assert rig.cssa() == level
    assert rig.run("undefined") == 1
    assert (rig.call.function, rig.call.vector) == (EENTER, Vector.GP)


def storm(make_rig: Callable[..., Rig], cycles: int) -> None:
    """Let one of two pages be absent at every access, with every kind of register live."""
    count = 0

    def load(address: int, _error_code: int, _function: int) -> bool:
        nonlocal count
        count += 1
        offset = address - rig.base
        rig.memory.protect(HOT + NEXT - offset, PAGE, 0)
        rig.memory.protect(offset, PAGE, 3)
        return True

    rig = make_rig(fault=load)
    rig.memory.protect(HOT, 2 * PAGE, 0)
    routine, _, size, registers = max(
        (entry for entry in VECTORS if not entry[1] & ~_core.xcr0()), key=lambda entry: entry[1]
    )
    while count < cycles:
        rig.set_word(8, 1000)
        assert rig.run(routine, rig.base + HOT) == 0
        check_general(rig)
        stored = rig.memory.alias_view(DATA + 0x1000, 64 * registers)
        for number in range(registers):
            assert bytes(stored[64 * number : 64 * number + size]) == pattern(number, size)


def test_a_storm_of_page_faults_changes_no_register(make_rig: Callable[..., Rig]) -> None:
    storm(make_rig, 10_000)


@pytest.mark.slow
def test_a_long_storm_changes_no_register(make_rig: Callable[..., Rig]) -> None:
    storm(make_rig, 1_000_000)


def test_a_storm_of_kicks_changes_no_count(rig: Rig) -> None:
    done = threading.Event()
    kicks = turns = 0

    def kick() -> None:
        nonlocal kicks
        while not done.is_set():
            rig.enclave.kick()
            kicks += 1

    kicker = threading.Thread(target=kick)
    kicker.start()
    while kicks < 1000:
        assert rig.run("count", 200_000) == 0
        assert rig.call.rsi == 200_000
        turns += 1
    done.set()
    kicker.join()
    at = rig.tcs_offset() + STORAGE + 0x100
    assert int.from_bytes(rig.memory.alias_view(at, 8), "little") == turns * 200_000
