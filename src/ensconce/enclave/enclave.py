# SPDX-License-Identifier: Apache-2.0
"""A running enclave: load it, call it, and be told clearly when that can't be done."""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from ensconce import _core
from ensconce.edl.model import Interface
from ensconce.enclave.binding import bind_ocalls, raw_ocalls, refusing
from ensconce.enclave.crash import NO_VECTOR, crash_error
from ensconce.enclave.definition import find_interface
from ensconce.enclave.device import Device, default_device, dynamic_memory
from ensconce.enclave.dynamic import DynamicMemory
from ensconce.enclave.ecalls import compile_ecall
from ensconce.enclave.features import SystemFeatures, emulated_cpuid, interface_version
from ensconce.enclave.loader import LoadedEnclave, Progress, load_image
from ensconce.enclave.memory import Untrusted
from ensconce.enclave.ocalls import Frame, Handler
from ensconce.enclave.pool import Pool, ThreadPolicy
from ensconce.enclave.scalars import Sizes, Types
from ensconce.enclave.standard import StandardOcalls
from ensconce.enclave.status import Status, describe
from ensconce.enclave.system import Allowance, SystemOcalls
from ensconce.enclave.thread import Command, TrustedThread
from ensconce.errors import (
    ConfigError,
    EnclaveCrashed,
    EnclaveError,
    EnclaveLost,
    OcallError,
    OutOfThreads,
)
from ensconce.image import Image, SdkImage, open_image
from ensconce.isa.attributes import AttributeFlags, Attributes
from ensconce.isa.report import TargetInfo

__all__ = ["Enclave", "load"]

_POWER = "lost its memory (a power transition, or destroyed by the platform); load it again"
_LOOK_AGAIN = 0.001  # seconds
_FILES = (str, bytes, os.PathLike)

_Error = TypeVar("_Error", bound=EnclaveError)


def load(
    file: str | os.PathLike[str] | bytes | Image,
    *,
    edl: str | os.PathLike[str] | Interface | None = None,
    ocalls: Mapping[str | int, Callable[..., Any]] | object | None = None,
    debug: bool | None = None,
    device: Device | None = None,
    config_id: bytes = b"",
    config_svn: int = 0,
    types: Sizes | None = None,
    search_paths: Sequence[str | os.PathLike[str]] = (),
    thread_policy: ThreadPolicy | str | None = None,
    thread_wait: float = 0,
    progress: Progress | None = None,
    allow: Allowance | None = None,
) -> "Enclave":
    """Load a signed enclave and return it, ready for ECALLs.

    `edl` is an EDL file's path, its text or its interface; without it only `Enclave.ecall` works.
    `ocalls` has the host's functions, by name (or by number, taking the marshalling structure's
    address), or is an object whose methods they are. `debug` None means as signed. `types` gives
    sizes of C types that the EDL only names. `thread_wait` is how many seconds an ECALL waits
    for a free TCS. `allow` lets the enclave's C library use files or the network, if the enclave
    imports such calls from tee_libc.edl. The `device` belongs to the enclave from then on, and is
    closed with it.
    """
    with contextlib.ExitStack() as on_failure:
        if device is not None:
            on_failure.callback(device.close)
        image = file if not isinstance(file, _FILES) else open_image(file)
        interface = None if edl is None else find_interface(edl, search_paths)
        if device is None:
            device = default_device()
            on_failure.callback(device.close)
        if isinstance(file, _FILES) and not dynamic_memory(device):
            image = open_image(file, dynamic_memory=False)
        loaded = load_image(
            image,
            device,
            debug=debug,
            config_id=config_id,
            config_svn=config_svn,
            progress=progress,
        )
        policy = _policy(image) if thread_policy is None else ThreadPolicy(thread_policy)
        enclave = Enclave(image, loaded, policy, thread_wait, allow)
        on_failure.callback(enclave.close)
        enclave.bind(interface, ocalls or {}, types)
        enclave.initialize()
        on_failure.pop_all()
    return enclave


class Enclave:
    """A running enclave; each ECALL of its EDL is a method of that name.

    Threads may call it at the same time, as many as it has TCSs. As a context manager it is closed
    at the end. `calls` has all ECALLs, those too whose name something else here has.
    """

    def __init__(
        self,
        image: Image,
        loaded: LoadedEnclave,
        policy: ThreadPolicy = ThreadPolicy.BIND,
        thread_wait: float = 0,
        allow: Allowance | None = None,
    ) -> None:
        self.image = image
        self.source = image.source
        self.device = loaded.device
        self.base = loaded.base
        self.secs = loaded.secs
        self.gone: EnclaveError | None = None
        self.aex_notify = bool(loaded.secs.attributes.flags & AttributeFlags.AEXNOTIFY)
        self.interface: Interface | None = None
        self.calls: dict[str, Callable[..., Any]] = {}
        self._loaded = loaded
        self._process = os.getpid()
        self._closed = self._initialized = False
        self._ocalls: dict[int, Handler] = {}
        self._growing = threading.Lock()
        self._pool = Pool(self.source, policy, grow=self._grow, wait=thread_wait)
        emulated = self.device.name == "emulated"
        self._cpuid = emulated_cpuid(_core.cpuid, self.device.cpuid) if emulated else _core.cpuid
        self._standard = StandardOcalls(self._pool, self._cpuid)
        self._system = SystemOcalls(allow)
        self._dynamic = DynamicMemory(self.device, self.base, self.secs.size)
        self._edmm = interface_version(image) > 0 and dynamic_memory(self.device)
        self._make_threads()
        _alive.add(self)

    def _make_threads(self) -> None:
        """Put every TCS that was loaded into the pool, but one that makes more at run time."""
        offsets, self._spare = list(self._loaded.tcss), []
        if isinstance(self.image, SdkImage):
            slots = list(self.image.threads())
            offsets = [slot.offset for slot in slots if not slot.dynamic]
            self._spare = [slot.offset for slot in slots if slot.dynamic and self._edmm]
        threads = [self._thread(offset) for offset in offsets]
        self._first = threads[0] if threads else None
        self._utility = threads.pop(0) if self._spare and threads else None
        for thread in reversed(threads):
            self._pool.add(thread)

    def _thread(self, offset: int) -> TrustedThread:
        """Return a TCS, ready to be entered."""
        return TrustedThread(self, self.device.enter_address, self.base + offset)

    def bind(
        self,
        interface: Interface | None,
        ocalls: Mapping[str | int, Callable[..., Any]] | object,
        types: Sizes | None = None,
    ) -> None:
        """Make methods of an interface's ECALLs and handlers of the host's OCALLs.

        A function with a type whose size nobody tells raises ConfigError when it is called.
        """
        if interface is None:
            self._ocalls = raw_ocalls(ocalls)
            return
        self.interface = interface
        known = Types(interface, types)
        for number, ecall in enumerate(interface.ecalls):
            try:
                proxy = compile_ecall(ecall, number, known, self._pool.current)
            except ConfigError as error:
                proxy = refusing(error)
            self.calls[ecall.name] = proxy
            if not hasattr(type(self), ecall.name) and ecall.name not in self.__dict__:
                setattr(self, ecall.name, proxy)
        own = {**self._standard.table(), **self._system.table()}
        self._ocalls = bind_ocalls(known, ocalls, own)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"{self.__dict__.get('source', 'the enclave')} has no ECALL {name}")

    def initialize(self) -> None:
        """Let the trusted runtime set itself up; enclaves of other runtimes have nothing to do."""
        if not isinstance(self.image, SdkImage):
            return
        if self._first is None:
            raise EnclaveError(f"{self.source} has no TCS; sign it with TCSNum of at least 1")
        features = SystemFeatures.read(
            self._cpuid,
            self.secs.attributes,
            version=interface_version(self.image),
            edmm=self._edmm,
        )
        memory = Untrusted(len(bytes(features)))
        memory.data[: len(bytes(features))] = bytes(features)
        try:
            self._first.ecall(Command.INIT_ENCLAVE, memory.address)
        finally:
            memory.close()
        self._initialized = True

    @property
    def mr_enclave(self) -> bytes:
        """MRENCLAVE, which EINIT has compared with SIGSTRUCT's."""
        sigstruct = self.image.sigstruct
        return sigstruct.enclave_hash if sigstruct is not None else self.image.measure()

    def target_info(self) -> TargetInfo:
        """Return what another enclave needs to make a REPORT that this one can check."""
        attributes = Attributes(
            self.secs.attributes.flags | AttributeFlags.INIT, self.secs.attributes.xfrm
        )
        return TargetInfo(
            measurement=self.mr_enclave,
            attributes=attributes,
            config_svn=self.secs.config_svn,
            misc_select=self.secs.misc_select,
            config_id=self.secs.config_id,
        )

    def ecall(self, number: int, ms: int = 0) -> None:
        """Make the ECALL of a number with the address of its marshalling structure."""
        if number < 0:
            raise EnclaveError(f"{self.source}: ECALLs count from 0, and {number} was asked for")
        self._pool.current().ecall(number, ms)

    # --- what the enclave's threads ask for

    def ocall(self, number: int, frame: Frame, ms: int) -> None:
        """Run an OCALL; OcallError, with the host's own exception as cause, where it fails."""
        handler = self._ocalls.get(number)
        try:
            if handler is not None:
                handler(frame, ms)
            elif number < 0:
                self._dynamic.ocall(number, frame, ms)
            else:
                raise OcallError(self._missing(number))
        except (OcallError, EnclaveCrashed, EnclaveLost):
            raise
        except Exception as error:
            raise OcallError(
                f"{self.source}: OCALL {self._ocall_name(number)} raised "
                f"{type(error).__name__}: {error}"
            ) from error

    def failed(self, number: int, status: int) -> EnclaveError:
        """Return the error for an ECALL that ended with a status."""
        if status == Status.ENCLAVE_CRASHED:
            what = f"{self.source}: {describe(status)}"
            return self._end(EnclaveCrashed(what, vector=NO_VECTOR))
        if status == Status.ENCLAVE_LOST:
            return self.vanished()
        what = f"{self.source}: {self._ecall_name(number)} ended with {describe(status)}"
        kind = OutOfThreads if status == Status.OUT_OF_TCS else EnclaveError
        return kind(what, status=status)

    def crashed(self, vector: int, error_code: int, address: int, tcs: int) -> EnclaveCrashed:
        """Return the error for an exception that the enclave could not handle, and keep it."""
        return self._end(
            crash_error(self.image, self._loaded, vector, error_code, address, tcs - self.base)
        )

    def vanished(self) -> EnclaveLost:
        """Return the error for an enclave whose memory is gone, and refuse it from now on."""
        return self._end(EnclaveLost(f"{self.source} {_POWER}"))

    def _end(self, error: _Error) -> _Error:
        """Refuse to enter the enclave from now on, for the first reason there was."""
        self.gone = self.gone or error
        self._standard.wake_all()
        return error

    def _missing(self, number: int) -> str:
        """Return the sentence for an OCALL that the host does not have."""
        name = self._ocall_name(number)
        return f"{self.source} made OCALL {name}, which the host does not have; pass it in ocalls"

    def _ocall_name(self, number: int) -> str:
        """Return what messages call an OCALL."""
        known = self.interface.ocalls if self.interface is not None else ()
        return known[number].name if 0 <= number < len(known) else f"{number}"

    def _ecall_name(self, number: int) -> str:
        """Return what messages call an ECALL or a command."""
        number -= 1 << 64 if number >= 1 << 63 else 0
        if number < 0:
            return Command(number).name if number in set(Command) else f"command {number}"
        known = self.interface.ecalls if self.interface is not None else ()
        return f"ECALL {known[number].name if number < len(known) else number}"

    def _grow(self) -> bool:
        """Make another TCS at run time, if the layout has room for one."""
        if self._utility is None or not self._spare:
            return False
        with self._growing:
            if not self._spare:
                return False
            offset = self._spare[-1]
            argument = Untrusted(8)
            argument.data[:8] = (self.base + offset).to_bytes(8, "little")
            try:
                self._utility.ecall(Command.MKTCS, argument.address)
            except EnclaveError:
                return False
            finally:
                argument.close()
            self._spare.pop()
            self._pool.add(self._thread(offset))
            return True

    # --- its end

    def close(self, timeout: float = 10) -> None:
        """Destroy the enclave when no thread is inside; EnclaveError where one stays that long.

        Threads that are in OCALLs do not hold it up: they find it lost when they return.
        """
        if self._closed:
            return
        if os.getpid() != self._process:
            self._closed = True  # the parent's; here its memory is not mapped
            return
        self._uninitialize()
        before, self.gone = self.gone, EnclaveLost(f"{self.source} was closed; load it again")
        deadline = time.monotonic() + timeout
        while self._inside():
            if time.monotonic() > deadline:
                self.gone = before
                raise EnclaveError(
                    f"{self.source} can't be closed: {self._inside()} threads are still inside"
                )
            time.sleep(_LOOK_AGAIN)
        self._closed = True
        self._standard.wake_all()
        self._system.close()
        self.device.close()

    def _uninitialize(self) -> None:
        """Let a runtime with dynamic memory run its destructors, when nothing else goes on."""
        thread = self._utility or self._first
        busy = any(each.busy for each in self._pool.threads)
        if not self._edmm or not self._initialized or thread is None:
            return
        if self.gone is not None or busy:
            return
        with contextlib.suppress(EnclaveError):
            thread.ecall(Command.UNINIT_ENCLAVE, 0)

    def _inside(self) -> int:
        """Return how many threads run the enclave's code."""
        return sum(thread.inside for thread in self._pool.threads)

    def _disown(self) -> None:
        """Take note that this process is a child, which has none of the enclave's memory."""
        self.gone = EnclaveLost(
            f"{self.source} belongs to the parent process; load it again in this one"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close(0)


_alive: "weakref.WeakSet[Enclave]" = weakref.WeakSet()


def _disown_all() -> None:
    """Mark, in a child process, every enclave of the parent's as lost."""
    for enclave in list(_alive):
        enclave._disown()


os.register_at_fork(after_in_child=_disown_all)


def _policy(image: Image) -> ThreadPolicy:
    """Return the TCS policy that the image's configuration asks for."""
    if isinstance(image, SdkImage) and image.metadata.header.tcs_policy == 1:
        return ThreadPolicy.UNBIND
    return ThreadPolicy.BIND
