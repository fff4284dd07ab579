# SPDX-License-Identifier: Apache-2.0
"""One TCS in use: the conversation between host and trusted runtime over EENTER and EEXIT.

The vendor's convention: the host enters with a number in RDI (an ECALL's, or a negative command)
and a pointer in RSI. The enclave exits with RDI -1 and a status in RSI when the ECALL has ended,
or with an OCALL's number and a pointer; the host then enters again with the command ORET and the
OCALL's status. After an exception the host enters with the command EXCEPT on the next SSA frame,
and on status 0 resumes.
"""

from enum import IntEnum
from typing import Protocol

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
_OCALL_FAILED = int(Status.UNEXPECTED)


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
        """Make an ECALL (or a command) and run its OCALLs until it has ended well; else raise.

        What an OCALL raises is raised here, after the enclave has been told that the OCALL failed
        and has returned. After something other than an Exception (an interrupt), every further
        OCALL fails at once.
        """
        host, call, enter, tcs = self._host, self._call, self._enter, self.tcs
        outer = self._depth
        rsp = (call.rsp - _RED_ZONE) & -64 if outer else 0
        failure: BaseException | None = None
        self.inside = True  # before the look at `gone`, as whoever closes looks the other way round
        if host.gone is not None:
            self.inside = False
            raise host.gone.with_traceback(None)
        self._depth = outer + 1
        try:
            outcome = enter(_ENTER, tcs, number & _MASK, ms, rsp)
            while True:
                if outcome != _EEXIT:
                    outcome = self._exception()
                    continue
                self.inside = False
                reason = call.rdi
                if reason == _ERET:
                    break
                rsp = call.rsp
                error = self._ocall(_signed(reason), call.rsi, failure)
                failure = failure or error
                if self.given_up is not None:
                    raise self.given_up
                status = _OCALL_FAILED if error is not None else 0
                self.inside = True
                if host.gone is not None:
                    raise host.gone.with_traceback(None)
                outcome = enter(_ENTER, tcs, _ORET, status, rsp)
            status = call.rsi & 0xFFFFFFFF
        except BaseException as error:  # the enclave stays in the middle of something
            self.inside = False
            self.given_up = self.given_up or error
            raise
        finally:
            self._depth = outer
        if failure is not None or status:
            raise failure or host.failed(number, status)

    def _ocall(self, number: int, ms: int, failure: BaseException | None) -> BaseException | None:
        """Run an OCALL and return what it raised; after an interrupt there are no more OCALLs."""
        if failure is not None and not isinstance(failure, Exception):
            return failure
        try:
            self._host.ocall(number, self._frame, ms)
        except BaseException as error:  # raised when the ECALL has unwound
            return error
        return None

    def _exception(self) -> int:
        """Let the enclave handle its exception and resume; return how that came out."""
        host, call, enter, tcs = self._host, self._call, self._enter, self.tcs
        facts = call.vector, call.error_code, call.address
        rsp = call.rsp
        if call.function == _ENTER:
            raise host.vanished()
        if host.aex_notify:
            return enter(_ENTER, tcs, _EXCEPT, 0, rsp)
        outcome = enter(_ENTER, tcs, _EXCEPT, 0, (rsp - _RED_ZONE) & -64)
        if outcome == _EEXIT and call.rdi == _ERET:
            status = call.rsi & 0xFFFFFFFF
            if status == 0:
                return enter(_RESUME, tcs, 0, 0, rsp)
            if status == Status.ENCLAVE_LOST:
                raise host.vanished()
        elif outcome != _EEXIT and call.function == _ENTER:
            raise host.vanished()
        raise host.crashed(*facts, tcs)


def _signed(reason: int) -> int:
    """Return an OCALL's number from RDI: 32 bits, negative for the runtime's own."""
    number = reason & 0xFFFFFFFF
    return number - (1 << 32) if number & _SIGNED else number
