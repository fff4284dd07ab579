# SPDX-License-Identifier: Apache-2.0
"""One TCS in use: the conversation between host and trusted runtime over EENTER and EEXIT.

The vendor's convention: the host enters with a number in RDI (an ECALL's, or a negative command)
and a pointer in RSI. The enclave exits with RDI -1 and a status in RSI when the ECALL has ended,
or with an OCALL's number and a pointer; the host then enters again with the command ORET and the
OCALL's status. After an exception the host enters with the command EXCEPT on the next SSA frame,
and on status 0 resumes.
"""

from enum import IntEnum
from typing import Protocol, TypeVar

from ensconce import _core
from ensconce.enclave.memory import Space
from ensconce.enclave.ocalls import Frame
from ensconce.enclave.status import Status
from ensconce.errors import EnclaveCrashed, EnclaveError, EnclaveLost
from ensconce.isa.leaves import Enclu

__all__ = ["Command", "Host", "TrustedThread"]

_ENTER, _RESUME = int(Enclu.EENTER), int(Enclu.ERESUME)
_EEXIT = 0
_MASK = (1 << 64) - 1
_RED_ZONE = 128
_SIGNED = 1 << 31


_Error = TypeVar("_Error", bound=BaseException)


class Command(IntEnum):
    """What the host asks the trusted runtime for besides ECALLs."""

    INIT_ENCLAVE = -1
    ORET = -2
    EXCEPT = -3
    MKTCS = -4
    UNINIT_ENCLAVE = -5
    ECALL_PTHREAD = -6


_ERET = -1 & _MASK
_ORET = Command.ORET & _MASK
_EXCEPT = Command.EXCEPT & _MASK


class Host(Protocol):
    """What a thread needs of its enclave."""

    @property
    def source(self) -> str:
        """What messages call the enclave."""

    @property
    def gone(self) -> EnclaveError | None:
        """Why the enclave can't be entered any more, None while it can."""

    @property
    def aex_notify(self) -> bool:
        """Whether exceptions are the enclave's own affair (AEX-Notify)."""

    def ocall(self, number: int, frame: Frame, ms: int) -> None:
        """Run an OCALL; what it raises fails the ECALL."""

    def failed(self, number: int, status: int) -> EnclaveError:
        """Return the error for an ECALL that ended with a status."""

    def crashed(self, vector: int, error_code: int, address: int, tcs: int) -> EnclaveCrashed:
        """Return the error for an exception that the enclave could not handle, and remember it."""

    def vanished(self) -> EnclaveLost:
        """Return the error for an enclave whose memory is gone, and remember it."""


class TrustedThread:
    """One TCS (its linear address) with the stack and memory it needs outside the enclave."""

    __slots__ = (
        "_call",
        "_depth",
        "_enter",
        "_frame",
        "_host",
        "given_up",
        "inside",
        "space",
        "tcs",
    )

    def __init__(self, host: Host, enter_address: int, tcs: int) -> None:
        self._host = host
        self._call = _core.Call(enter_address)
        self._enter = self._call.enter
        low, high = self._call.stack
        self._frame = Frame(low, _core.view(low, high - low))
        self._depth = 0
        self.space = Space()
        self.tcs = tcs
        self.inside = False
        self.given_up: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether an ECALL is under way on this thread."""
        return self._depth > 0

    def ecall(self, number: int, ms: int) -> None:
        """Make an ECALL (or a command) and run its OCALLs until it has ended well; else raise."""
        status = self.call(number & _MASK, ms)
        if status:
            raise self._host.failed(number, status)

    def call(self, number: int, ms: int) -> int:
        """Make an ECALL and return the trusted runtime's status.

        What an OCALL raises is raised here, after the enclave has been told that the OCALL failed
        and has returned. After something other than an Exception (an interrupt), every further
        OCALL fails at once.
        """
        host, call = self._host, self._call
        rsp = (call.rsp - _RED_ZONE) & -64 if self._depth else 0
        failure: BaseException | None = None
        self._depth += 1
        try:
            outcome = self._step(_ENTER, number & _MASK, ms, rsp)
            while True:
                if outcome != _EEXIT:
                    outcome = self._exception()
                    continue
                reason = call.rdi
                if reason == _ERET:
                    break
                rsp = call.rsp
                status = 0
                try:
                    if failure is not None and not isinstance(failure, Exception):
                        raise failure
                    host.ocall(_signed(reason), self._frame, call.rsi)
                except BaseException as error:  # raised when the ECALL has unwound
                    failure = failure or error
                    status = int(Status.UNEXPECTED)
                if self.given_up is not None:
                    raise failure or self.given_up
                outcome = self._step(_ENTER, _ORET, status, rsp)
            status = call.rsi & 0xFFFFFFFF
        finally:
            self._depth -= 1
        if failure is not None:
            raise failure
        return status

    def _step(self, function: int, rdi: int, rsi: int, rsp: int) -> int:
        """Enter or resume the enclave; give the thread up when that raises."""
        self.inside = True
        try:
            gone = self._host.gone
            if gone is not None:
                raise gone.with_traceback(None)
            return self._enter(function, self.tcs, rdi, rsi, rsp)
        except BaseException as error:
            self._give_up(error)
            raise
        finally:
            self.inside = False

    def _exception(self) -> int:
        """Let the enclave handle its exception and resume; return how that came out."""
        host, call = self._host, self._call
        facts = call.vector, call.error_code, call.address
        rsp = call.rsp
        if call.function == _ENTER:
            raise self._give_up(host.vanished())
        if host.aex_notify:
            return self._step(_ENTER, _EXCEPT, 0, rsp)
        outcome = self._step(_ENTER, _EXCEPT, 0, (rsp - _RED_ZONE) & -64)
        if outcome == _EEXIT and call.rdi == _ERET:
            status = call.rsi & 0xFFFFFFFF
            if status == 0:
                return self._step(_RESUME, 0, 0, rsp)
            if status == Status.ENCLAVE_LOST:
                raise self._give_up(host.vanished())
        elif outcome != _EEXIT and call.function == _ENTER:
            raise self._give_up(host.vanished())
        raise self._give_up(host.crashed(*facts, self.tcs))

    def _give_up(self, error: _Error) -> _Error:
        """Take the thread out of use, because the enclave stays in the middle of something."""
        self.given_up = self.given_up or error
        return error


def _signed(reason: int) -> int:
    """Return an OCALL's number from RDI: 32 bits, negative for the runtime's own."""
    number = reason & 0xFFFFFFFF
    return number - (1 << 32) if number & _SIGNED else number
