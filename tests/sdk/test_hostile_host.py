# SPDX-License-Identifier: Apache-2.0
"""Hosts that do not keep to the convention, at the level of EENTER."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensconce import _core, enclave
from ensconce.enclave import Enclave
from ensconce.image import SdkImage
from ensconce.image.config import EnclaveConfig
from ensconce.isa.leaves import Enclu
from ensconce.sdk.sign import SigningKey, sign

_ENTER = int(Enclu.EENTER)
_EDL = Path(__file__).parent / "runtime" / "runtime.edl"
_INIT, _ORET, _EXCEPT, _MKTCS, _UNINIT, _RUN_THREAD = -1, -2, -3, -4, -5, -6
_EXITED, _EXCEPTION = 0, 1
_ERET = (1 << 64) - 1
_UNEXPECTED, _INVALID_PARAMETER, _CRASHED, _UNSUPPORTED = 1, 2, 0x1006, 0x8
_NOT_ALLOWED = 0x1007
_CONSTRUCTED, _DIVIDE = 0, 4


@pytest.fixture(scope="module")
def signed(
    runtime_image: Path, signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("hostile") / "runtime.signed.so"
    config = EnclaveConfig(tcs_num=2, heap_max_size=0x100000, heap_min_size=0x100000)
    sign(runtime_image, out, signing_key, config=config)
    return out


class _Host:
    """A host that enters with whatever registers it likes."""

    def __init__(self, loaded: Enclave) -> None:
        assert isinstance(loaded.image, SdkImage)
        self.base = loaded.base
        self.tcs = loaded.base + next(iter(loaded.image.threads())).offset
        self.core = _core.Call(_core.emulated_enter_address())

    def enter(self, command: int, ms: int = 0) -> int:
        """Enter, and return the status that the enclave exits with."""
        below = self.core.rsp - 128 & -64 if command == _EXCEPT else 0
        assert self.core.enter(_ENTER, self.tcs, command, ms, below) == _EXITED
        assert self.core.rdi == _ERET
        return self.core.rsi & 0xFFFFFFFF


@pytest.fixture
def host(signed: Path) -> Iterator[_Host]:
    ocalls = {"host": lambda value: value, "ignore": lambda _bytes, _size: None}
    with enclave.load(signed, edl=_EDL, ocalls=ocalls) as loaded:
        yield _Host(loaded)


@pytest.mark.parametrize("command", [_INIT, _ORET, _EXCEPT, -77, -(1 << 31)])
def test_a_command_out_of_turn_ends_the_enclave(host: _Host, command: int) -> None:
    assert host.core.enter(_ENTER, host.tcs, command, 0) == _EXITED
    assert host.core.rsi == _UNEXPECTED
    assert host.enter(_CONSTRUCTED) == _CRASHED


def test_a_wish_for_more_threads_is_declined(host: _Host) -> None:
    assert host.enter(_MKTCS) == _UNSUPPORTED
    assert host.enter(_CONSTRUCTED, 0) == _INVALID_PARAMETER


def test_a_thread_for_an_enclave_that_makes_none_is_turned_away(host: _Host) -> None:
    assert host.enter(_RUN_THREAD) == _NOT_ALLOWED
    assert host.enter(_CONSTRUCTED, 0) == _INVALID_PARAMETER


def test_an_enclave_that_was_told_to_finish_stays_finished(host: _Host) -> None:
    assert host.enter(_UNINIT) == 0
    assert host.enter(_CONSTRUCTED) == _CRASHED


def test_a_marshalling_structure_inside_the_enclave_is_refused(host: _Host) -> None:
    for offset in (0, 0x11000, -3):  # of four bytes
        assert host.enter(_CONSTRUCTED, host.base + offset) == _INVALID_PARAMETER


def test_registers_that_carry_nothing_leave_as_zero(host: _Host) -> None:
    assert host.enter(_CONSTRUCTED) == _INVALID_PARAMETER
    assert host.core.rdx == 0


def test_an_exception_is_handed_to_the_enclave_once(host: _Host) -> None:
    arguments = enclave.Untrusted(16)
    struct.pack_into("<4i", arguments.data, 0, 0, 7, 0, 1)
    assert host.core.enter(_ENTER, host.tcs, _DIVIDE, arguments.address) == _EXCEPTION
    assert host.core.vector == 0
    assert host.enter(_EXCEPT) == 0
    assert host.enter(_EXCEPT) == _CRASHED
