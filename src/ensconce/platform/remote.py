# SPDX-License-Identifier: Apache-2.0
"""A client of the platform service as the address space of its enclave.

Everything is done by commands over one socket, each answered within a deadline. A client that
breaks the protocol, misses a deadline or does not let its threads be stopped is dropped: from then
on it counts as a process that has ended, in which no thread is inside and nothing is mapped.
"""

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable

from ensconce._core import Frame
from ensconce.errors import DeviceError, ProtocolError
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.secs import Secs
from ensconce.machine.address_space import Core, EnclaveMemory
from ensconce.platform.wire import COMMAND, COMMAND_REPLY, Command

__all__ = ["DEADLINE", "Channel", "RemoteProcess"]

DEADLINE = 5.0
_FORGET = 1.0  # kicks further apart than this belong to different stops
_MOST_BYTES = 1 << 38
_CANONICAL = 1 << 47
_NORESERVE = 0x4000
_EXECUTABLE = 0x0010  # MFD_EXEC
_WORD = 1 << 64
_MOST_ERRNO = 4095
_REFUSABLE = (Command.RESERVE, Command.OPEN)

_logger = logging.getLogger(__name__)

Values = tuple[int, int, int, int]
_Leaf = Callable[[Frame], tuple[int, int, int] | None]
_Fault = Callable[[int, int, int], bool | int]


class Channel:
    """The socket on which a client takes commands, one at a time.

    `lost` is set when the client is gone or was dropped. `deadline` is in seconds.
    """

    def __init__(self, connection: socket.socket, deadline: float = DEADLINE) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self.deadline = deadline
        self.lost = threading.Event()
        connection.settimeout(deadline)

    def drop(self, reason: str = "") -> None:
        """Have done with the client; without a reason it has ended by itself."""
        if not self.lost.is_set():
            self.lost.set()
            if reason:
                _logger.warning("event=client_dropped reason=%s", reason)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def call(self, command: Command, *arguments: int, file: int = -1) -> Values | None:
        """Have a command done and return its results; None from a client that is lost.

        Raises DeviceError where the client could not do what it may fail to do while loading.
        """
        padded = [value % _WORD for value in arguments] + [0] * (8 - len(arguments))
        message = COMMAND.pack(command, 0, *padded)
        with self._lock:
            if self.lost.is_set():
                return None
            try:
                socket.send_fds(self._socket, [message], [file] if file >= 0 else [])
                answer = self._socket.recv(COMMAND_REPLY.size + 1)
            except OSError as error:
                self.drop(f"no answer to {command.name}: {error}")
                return None
        if len(answer) != COMMAND_REPLY.size:
            self.drop(f"a bad answer to {command.name}")
            return None
        told, number, *values = COMMAND_REPLY.unpack(answer)
        if told != command:
            self.drop(f"an answer to {told} and not to {command.name}")
            return None
        if number and command in _REFUSABLE:
            number = min(number, _MOST_ERRNO)
            raise DeviceError(
                f"the host process could not do {command.name}: {os.strerror(number)}",
                errno=number,
            )
        if number:
            self.drop(f"{command.name} was refused")  # whoever waits for it may be another client
            return None
        return values[0], values[1], values[2], values[3]

    def post(self, command: Command, arguments: tuple[int, ...], content: bytes) -> None:
        """Send a command that is not answered. Raises OSError."""
        padded = [*arguments] + [0] * (8 - len(arguments))
        with self._lock:
            self._socket.send(COMMAND.pack(command, len(content), *padded) + content)


class _Memory:
    """The memory file of a client's enclave; nobody can resize it."""

    def __init__(self, channel: Channel, size: int) -> None:
        self._channel = channel
        self.fd = _make_file(size)
        try:
            self._map = mmap.mmap(
                self.fd,
                size,
                flags=mmap.MAP_SHARED | _NORESERVE,
                prot=mmap.PROT_READ | mmap.PROT_WRITE,
            )
        except BaseException:
            os.close(self.fd)
            raise
        self._view = memoryview(self._map)

    def protect(self, offset: int, length: int, protection: int, /) -> None:
        """Have the client set the protection of pages."""
        self._channel.call(Command.PROTECT, offset, length, protection)

    def alias_view(self, offset: int, length: int, /) -> memoryview:
        """Return bytes as the processor has them."""
        return self._view[offset : offset + length]

    def discard(self, offset: int, length: int, /) -> None:
        """Give pages back to the host."""
        self._map.madvise(mmap.MADV_REMOVE, offset, length)

    def close(self) -> None:
        """Free the memory, once no view of it is left."""
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _make_file(size: int) -> int:
    """Return a sealed memory file: its size is fixed, or the client could make us fault."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        file = os.memfd_create("enclave", flags | _EXECUTABLE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        file = os.memfd_create("enclave", flags)  # before Linux 6.3
    try:
        os.ftruncate(file, size)
        fcntl.fcntl(
            file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
    except BaseException:
        os.close(file)
        raise
    return file


class _RemoteCore:
    """The core in the client's process. An answer of a lost client: nobody is inside."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.epoch = 1
        self._first_kick = self._last_kick = 0.0

    def set_tcs(
        self,
        offset: int,
        /,
        *,
        flags: int,
        ossa: int,
        nssa: int,
        cssa: int,
        oentry: int,
        ofsbase: int,
        ogsbase: int,
    ) -> None:
        """Add a TCS, or replace one that is idle."""
        values = (offset, flags, ossa, nssa, cssa, oentry, ofsbase, ogsbase)
        self._channel.call(Command.SET_TCS, *values)

    def block_tcs(self, offset: int, blocked: bool, /) -> None:  # noqa: FBT001
        """Make entries by a TCS raise #PF, or not."""
        self._channel.call(Command.BLOCK_TCS, offset, int(blocked))

    def remove_tcs(self, offset: int, /) -> None:
        """Forget an idle TCS."""
        self._channel.call(Command.REMOVE_TCS, offset)

    def tcs(self, offset: int, /) -> tuple[int, bool, int]:
        """Return CSSA, whether a thread uses the TCS, and the epoch of its last entry."""
        cssa, busy, epoch, _ = self._channel.call(Command.TCS, offset) or (0, 0, 0, 0)
        return cssa & 0xFFFFFFFF, bool(busy), epoch

    def set_cssa(self, offset: int, cssa: int, /) -> None:
        """Set the current SSA frame of a TCS."""
        self._channel.call(Command.SET_CSSA, offset, cssa)

    def advance_epoch(self) -> int:
        """Start a new epoch and return its number."""
        self.epoch += 1
        self._channel.call(Command.ADVANCE_EPOCH)
        return self.epoch

    def inside_before(self, epoch: int, /) -> int:
        """Count threads that run in the enclave since before an epoch."""
        answer = self._channel.call(Command.INSIDE_BEFORE, epoch)
        return answer[0] & 0xFFFFFFFF if answer else 0

    def kick(self) -> None:
        """Force an AEX in every thread; a client whose threads never leave is dropped."""
        now = time.monotonic()
        if now - self._last_kick > _FORGET:
            self._first_kick = now
        if now - self._first_kick > self._channel.deadline:
            self._channel.drop("its threads do not leave the enclave")
        self._channel.call(Command.KICK)
        self._last_kick = time.monotonic()

    def enable(self, on: bool, /) -> None:  # noqa: FBT001
        """Allow entries, or make them raise #GP."""
        self._channel.call(Command.ENABLE, int(on))

    def close(self) -> None:
        """Leave the client's end of the enclave to the client, which frees it with the socket."""


class RemoteProcess:
    """A client's process, as the driver model needs it.

    `leaf` and `fault` are set when the enclave is there, for the threads' requests.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.leaf: _Leaf | None = None
        self.fault: _Fault | None = None

    def reserve(self, size: int) -> int:
        """Have the client reserve an ELRANGE; return its address."""
        if size > _MOST_BYTES:
            raise DeviceError(
                f"an enclave of {size:#x} bytes is larger than the platform service takes "
                f"({_MOST_BYTES:#x}); sign it with less heap",
                errno=errno.ENOMEM,
            )
        base = self._wanted(self._channel.call(Command.RESERVE, size))[0]
        if base % size or base < PAGE_SIZE or base > _CANONICAL - size:
            raise ProtocolError(f"the host process reserved {base:#x}, which can't be")
        return base

    def release(self, base: int, size: int) -> None:
        """Leave the reservation to the client, which frees it when the socket closes."""

    def open(self, secs: Secs, leaf: _Leaf, fault: _Fault) -> tuple[EnclaveMemory, Core]:
        """Make the memory file and have the client map it."""
        memory = _Memory(self._channel, secs.size)
        try:
            self._wanted(
                self._channel.call(
                    Command.OPEN,
                    secs.base_addr,
                    secs.size,
                    secs.ssa_frame_size,
                    int(secs.misc_select),
                    int(secs.attributes.flags),
                    int(secs.attributes.xfrm),
                    file=memory.fd,
                )
            )
        except BaseException:
            memory.close()
            raise
        self.leaf, self.fault = leaf, fault
        return memory, _RemoteCore(self._channel)

    @staticmethod
    def _wanted(answer: Values | None) -> Values:
        """Return an answer that can't be done without."""
        if answer is None:
            raise ProtocolError("the host process went away while its enclave was being built")
        return answer
