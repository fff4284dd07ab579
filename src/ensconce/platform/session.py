# SPDX-License-Identifier: Apache-2.0
"""One enclave of one client: loading it, serving its threads, freeing it."""

import logging
import os
import secrets
import select
import socket
import stat
import struct
import threading
from typing import cast

from ensconce import _core
from ensconce._core import Frame
from ensconce.enclave.features import Cpuid, SystemFeatures, emulated_cpuid, interface_version
from ensconce.enclave.loader import LoadedEnclave, load_image
from ensconce.enclave.status import Status
from ensconce.errors import (
    ConfigError,
    DeviceError,
    EnsconceError,
    FormatError,
    MeasurementError,
    PolicyError,
    ProtocolError,
    SimulationModeError,
    UnsignedError,
    VerificationError,
)
from ensconce.image import SdkImage, open_image
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.report import TargetInfo
from ensconce.machine.driver import DriverModel
from ensconce.machine.processor import Processor
from ensconce.platform.remote import DEADLINE, Channel, RemoteProcess
from ensconce.platform.wire import (
    DEBUG,
    KSS,
    REQUEST,
    REQUEST_REPLY,
    Command,
    Hello,
    Request,
)

__all__ = ["Session"]

_LARGEST_FILE = 1 << 28
_MOST_THREADS = 256
_MOST_TEXT = 400
_UNBIND = 1
_JOIN = 15.0
_OFFSET = struct.Struct("<Q")

_DELIVER, _RETRY = 0, 1
_DONE, _FAULT = 0, 1


class _NoDebugError(PolicyError):
    """A production enclave was to be loaded for debugging."""


class _NoKssError(PolicyError):
    """A configuration was given to an enclave that is not signed to have one."""


_STATUSES: tuple[tuple[type[Exception], Status], ...] = (
    (SimulationModeError, Status.MODE_INCOMPATIBLE),
    (_NoDebugError, Status.NDEBUG_ENCLAVE),
    (_NoKssError, Status.FEATURE_NOT_SUPPORTED),
    (PolicyError, Status.INVALID_ATTRIBUTE),
    (UnsignedError, Status.INVALID_METADATA),
    (MeasurementError, Status.INVALID_ENCLAVE),
    (VerificationError, Status.INVALID_SIGNATURE),
    (FormatError, Status.INVALID_ENCLAVE),
    (ConfigError, Status.INVALID_PARAMETER),
    (MemoryError, Status.OUT_OF_MEMORY),
)

_logger = logging.getLogger(__name__)


class _Frame:
    """The registers of a client's thread in ENCLU, as `ensconce._core.Frame` has them."""

    __slots__ = (  # noqa: RUF023  # the order of the message, which is that of the numbers
        "rax",
        "rcx",
        "rdx",
        "rbx",
        "rsp",
        "rbp",
        "rsi",
        "rdi",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
        "rflags",
        "rip",
        "tcs",
    )

    def __init__(self, values: tuple[int, ...]) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            setattr(self, name, value)

    def values(self) -> list[int]:
        """Return all registers in order."""
        return [getattr(self, name) for name in self.__slots__]


class Session:
    """An enclave for as long as its client holds the socket that it was loaded over."""

    def __init__(
        self, processor: Processor, connection: socket.socket, deadline: float = DEADLINE
    ) -> None:
        self.token = secrets.token_bytes(16)
        self._processor = processor
        self._connection = connection
        self._channel = Channel(connection, deadline)
        self._process = RemoteProcess(self._channel)
        self._device: DriverModel | None = None
        self._cpuid: Cpuid = emulated_cpuid(_core.cpuid, processor.cpuid)
        self._threads: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._closing = False

    def load(self, hello: Hello, file: int) -> bool:
        """Load the client's enclave and tell it; False, told too, where that can't be done."""
        try:
            image = open_image(_read(file), source=hello.name, dynamic_memory=False)
            if not isinstance(image, SdkImage):
                raise FormatError(f"{hello.name} is not an enclave of the vendor's SDK")
            _check_flags(image, hello)
            self._device = DriverModel(self._processor, space=self._process)
            loaded = load_image(
                image,
                self._device,
                debug=bool(hello.flags & DEBUG),
                config_id=hello.config_id if any(hello.config_id) else b"",
                config_svn=hello.config_svn,
            )
        except ProtocolError as error:
            self._channel.drop(str(error))
            return False
        except (EnsconceError, OSError, MemoryError) as error:
            text = str(error).encode()[:_MOST_TEXT]
            self._channel.post(Command.FAILED, (int(_status(error)),), text)
            return False
        self._announce(image, loaded)
        return True

    def _announce(self, image: SdkImage, loaded: LoadedEnclave) -> None:
        """Tell the client all that it must know to enter its enclave."""
        attributes = loaded.secs.attributes
        version = interface_version(image)
        features = bytes(SystemFeatures.read(self._cpuid, attributes, version=version, edmm=False))
        offsets = [slot.offset for slot in image.threads() if not slot.dynamic]
        assert self._device is not None  # noqa: S101  # it holds what was just loaded
        assert self._device.enclave is not None  # noqa: S101
        page = self._device.enclave
        secs = page.secs
        target = TargetInfo(
            measurement=secs.mr_enclave,
            attributes=Attributes(AttributeFlags(page.attributes), Xfrm(page.xfrm)),
            cet_attributes=secs.cet_attributes,
            config_svn=secs.config_svn,
            misc_select=secs.misc_select,
            config_id=secs.config_id,
        )
        arguments = (
            int(image.metadata.header.tcs_policy == _UNBIND),
            int(bool(attributes.flags & AttributeFlags.AEXNOTIFY)),
            len(offsets),
            int(attributes.flags),
            int(attributes.xfrm),
            int(secs.misc_select),
            len(features),
        )
        content = self.token + bytes(target) + features
        content += b"".join(_OFFSET.pack(offset) for offset in offsets)
        self._channel.post(Command.LOADED, arguments, content)

    def wait(self) -> None:
        """Return when the client has gone."""
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while not self._channel.lost.is_set() and not poll.poll(1000):
            pass

    def attach(self, connection: socket.socket) -> bool:
        """Take over a connection for the calling thread's requests; False when it is too late."""
        with self._lock:
            if self._closing or len(self._threads) >= _MOST_THREADS:
                return False
            self._threads[threading.current_thread()] = connection
        return True

    def serve(self, connection: socket.socket) -> None:
        """Answer the requests of one thread at a time, until the connection ends."""
        connection.settimeout(None)
        try:
            while True:
                message = connection.recv(REQUEST.size + 1)
                if len(message) != REQUEST.size:
                    return
                request, _, *arguments = REQUEST.unpack(message)
                verdict, values = self._answer(request, arguments)
                values += [0] * (20 - len(values))
                connection.send(REQUEST_REPLY.pack(request, verdict, *values))
        finally:
            with self._lock:
                self._threads.pop(threading.current_thread(), None)

    def _answer(self, request: int, arguments: list[int]) -> tuple[int, list[int]]:
        """Do what a thread asks for; return the verdict and values."""
        if request == Request.LEAF and self._process.leaf is not None:
            frame = _Frame(tuple(arguments[:19]))
            fault = self._process.leaf(cast(Frame, frame))
            return (_FAULT, list(fault)) if fault is not None else (_DONE, frame.values())
        if request == Request.FAULT and self._process.fault is not None:
            address, code, function = arguments[:3]
            answer = self._process.fault(address, code & 0xFFFF, function)
            if answer is True:
                return _RETRY, []
            return _DELIVER, [code & 0xFFFF if answer is False else answer]
        if request == Request.CPUID:
            return _DONE, list(self._cpuid(arguments[0] & 0xFFFFFFFF, arguments[1] & 0xFFFFFFFF))
        raise ProtocolError(f"there is no request {request}")

    def close(self) -> None:
        """Free the enclave; its client's threads are gone, or count as that."""
        self._channel.drop()
        with self._lock:
            self._closing = True
            threads = dict(self._threads)
        for connection in threads.values():
            _shut(connection)
        for thread in threads:
            thread.join(_JOIN)
        if self._device is not None:
            self._device.close()


def _shut(connection: socket.socket) -> None:
    """Wake whoever reads a socket."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other end is gone already


def _read(file: int) -> bytes:
    """Return what is in the enclave file that the client has opened."""
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise FormatError("the enclave is not a regular file")
    if status.st_size > _LARGEST_FILE:
        raise FormatError(f"an enclave file of {status.st_size} bytes is too large")
    pieces, at = [], 0
    while at < status.st_size:
        piece = os.pread(file, min(status.st_size - at, 1 << 24), at)
        if not piece:
            break
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def _check_flags(image: SdkImage, hello: Hello) -> None:
    """Refuse to debug what is for production only, and to configure what has no configuration."""
    sigstruct = image.sigstruct
    if hello.flags & KSS and not sigstruct.attributes.flags & AttributeFlags.KSS:
        raise _NoKssError(
            f"{hello.name} is signed without KSS, so it can't have a CONFIGID; sign it with "
            "EnableKSS 1, or create it without a configuration"
        )
    fixed = sigstruct.attribute_mask.flags & AttributeFlags.DEBUG
    if hello.flags & DEBUG and fixed and not sigstruct.attributes.flags & AttributeFlags.DEBUG:
        raise _NoDebugError(
            f"{hello.name} is signed as a production enclave only; create it with debug 0"
        )


def _status(error: Exception) -> Status:
    """Return the vendor's code for why an enclave could not be created."""
    if isinstance(error, DeviceError):
        return Status.OUT_OF_EPC if error.errno == 12 else Status.UNEXPECTED
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return Status.UNEXPECTED
