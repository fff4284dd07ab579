# SPDX-License-Identifier: Apache-2.0
"""Build an enclave on a device, as Linux has it: CREATE, ADD_PAGES, PROVISION, INIT, mmap."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ensconce import _core
from ensconce.enclave.device import Device
from ensconce.enclave.memory import Untrusted
from ensconce.enclave.refusals import build_error, init_error
from ensconce.enclave.secs import choose_secs
from ensconce.errors import PolicyError, SimulationModeError, UnsignedError
from ensconce.image import ALL_CHUNKS, Image, Mode, PageRun
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.secinfo import PAGE_SIZE, PageType, SecInfo, SecInfoFlags, page_type
from ensconce.isa.secs import Secs
from ensconce.isa.tcs import Tcs
from ensconce.machine import uapi

__all__ = ["LoadedEnclave", "Progress", "load_image"]

Progress = Callable[[int, int], None]  # bytes done, bytes in all

_BOUNCE = 2 << 20
_ZEROS = 1 << 30
_READ, _WRITE = 1, 2


@dataclass(frozen=True, slots=True)
class LoadedEnclave:
    """An initialised enclave: its device, where it is, its SECS as created, its TCSs by offset."""

    device: Device
    base: int
    secs: Secs
    tcss: dict[int, Tcs]


def load_image(
    image: Image,
    device: Device,
    *,
    debug: bool | None = None,
    config_id: bytes = b"",
    config_svn: int = 0,
    progress: Progress | None = None,
) -> LoadedEnclave:
    """Build and initialise an enclave; on failure the device is closed and nothing is left.

    Raises `SimulationModeError`, `UnsignedError`, `PolicyError`, `MeasurementError`,
    `VerificationError` or `DeviceError`.
    """
    try:
        _check(image)
        secs = choose_secs(
            image,
            device.cpuid,
            _core.xcr0(),
            debug=debug,
            config_id=config_id,
            config_svn=config_svn,
        )
        return _Loader(image, device, secs, progress).load()
    except BaseException:
        device.close()
        raise


def _check(image: Image) -> None:
    """Refuse what can't run as an enclave at all."""
    if image.mode is Mode.SIM:
        raise SimulationModeError(
            f"{image.source} was built for the vendor's simulation library and holds no ENCLU "
            "instruction; link it with the hardware libraries (SGX_MODE=HW)"
        )
    if image.sigstruct is None:
        raise UnsignedError(
            f"{image.source} has no SIGSTRUCT; sign it with `ensconce enclave sign`"
        )


class _Loader:
    """One enclave while it is being built."""

    def __init__(self, image: Image, device: Device, secs: Secs, progress: Progress | None) -> None:
        self.image = image
        self.device = device
        self.base = device.reserve(secs.size, image.base)
        self.secs = replace(secs, base_addr=self.base)
        self.tcss: dict[int, Tcs] = {}
        self.protections: list[tuple[int, int, int]] = []
        self._progress = progress
        self._done = 0
        self._total = 0

    def load(self) -> LoadedEnclave:
        """Build the enclave."""
        runs = list(self.image.operations())
        self._total = sum(run.count for run in runs) * PAGE_SIZE
        self._create()
        with _mapping(_BOUNCE) as bounce:
            for run in runs:
                self._add(run, bounce)
        if self.secs.attributes.flags & AttributeFlags.PROVISIONKEY:
            self._allow_provisioning()
        self._init()
        self._map()
        return LoadedEnclave(self.device, self.base, self.secs, self.tcss)

    def _create(self) -> None:
        """Make the SECS."""
        with _mapping(PAGE_SIZE) as page:
            page.data[:PAGE_SIZE] = bytes(self.secs)
            try:
                self.device.ioctl(uapi.CREATE, bytearray(bytes(uapi.EnclaveCreate(page.address))))
            except OSError as error:
                raise build_error(self.image, "ECREATE", error) from error

    def _add(self, run: PageRun, bounce: Untrusted) -> None:
        """Add the pages of a run."""
        if run.extended not in (0, ALL_CHUNKS):
            raise PolicyError(
                f"{self.image.source} measures some pages in part, which the SGX driver of Linux "
                "does not do; pad its measured pages"
            )
        if page_type(run.flags) == PageType.TCS:
            self._note_tcs(run)
            self._note(run, _READ | _WRITE)
        else:
            self._note(run, run.flags & 7)
        size = run.count * PAGE_SIZE
        if run.content is None:
            with _mapping(min(size, _ZEROS), writable=False) as zeros:
                self._add_from(run, _always(zeros.address), min(size, _ZEROS))
        elif len(run.content) == size:
            self._add_from(run, _copier(run.content, bounce), _BOUNCE)
        else:
            many = min(_BOUNCE, size) // PAGE_SIZE
            bounce.data[: many * PAGE_SIZE] = bytes(run.content) * many
            self._add_from(run, _always(bounce.address), _BOUNCE)

    def _add_from(self, run: PageRun, source: Callable[[int, int], int], piece: int) -> None:
        """Add a run piece by piece; `source` returns the address of a piece's contents."""
        with _mapping(PAGE_SIZE) as secinfo:
            secinfo.data[: SecInfo.SIZE] = bytes(SecInfo(SecInfoFlags(run.flags)))
            measure = uapi.PAGE_MEASURE if run.extended else 0
            size = run.count * PAGE_SIZE
            for at in range(0, size, piece):
                length = min(piece, size - at)
                address = source(at, length)
                added = 0
                while added < length:
                    request = uapi.EnclaveAddPages(
                        src=address + added,
                        offset=run.offset + at + added,
                        length=length - added,
                        secinfo=secinfo.address,
                        flags=measure,
                    )
                    added += self._add_pages(request)
                self._done += length
                if self._progress is not None:
                    self._progress(self._done, self._total)

    def _add_pages(self, request: uapi.EnclaveAddPages) -> int:
        """Carry out one ADD_PAGES and return how many bytes it added."""
        argument = bytearray(bytes(request))
        try:
            self.device.ioctl(uapi.ADD_PAGES, argument)
        except InterruptedError:
            pass  # a signal came; the handlers have run, what was added counts
        except OSError as error:
            raise build_error(self.image, "EADD", error) from error
        return uapi.EnclaveAddPages.parse(argument).count

    def _note(self, run: PageRun, protection: int) -> None:
        """Note a run's final protection, joined with its neighbour's where they are equal."""
        end = run.offset + run.count * PAGE_SIZE
        if self.protections and self.protections[-1][1:] == (run.offset, protection):
            self.protections[-1] = (self.protections[-1][0], end, protection)
        else:
            self.protections.append((run.offset, end, protection))

    def _note_tcs(self, run: PageRun) -> None:
        """Remember TCSs: debuggers and crash reports need their SSA."""
        content = bytes(run.content or b"").ljust(PAGE_SIZE, b"\0")
        for index in range(run.count):
            at = index * PAGE_SIZE % len(content)
            self.tcss[run.offset + index * PAGE_SIZE] = Tcs.parse(content[at : at + PAGE_SIZE])

    def _allow_provisioning(self) -> None:
        """Ask for PROVISIONKEY, which the driver grants to whoever can open its other node."""
        request = bytearray(bytes(uapi.EnclaveProvision(self.device.provision())))
        try:
            self.device.ioctl(uapi.PROVISION, request)
        except OSError as error:
            raise build_error(self.image, "PROVISION", error) from error

    def _init(self) -> None:
        """Initialise the enclave with its SIGSTRUCT."""
        sigstruct = self.image.sigstruct
        assert sigstruct is not None  # noqa: S101  # `_check` saw it
        with _mapping(PAGE_SIZE) as page:
            page.data[: sigstruct.SIZE] = bytes(sigstruct)
            argument = bytearray(bytes(uapi.EnclaveInit(page.address)))
            while True:
                try:
                    code = self.device.ioctl(uapi.INIT, argument)
                except InterruptedError:
                    continue
                except OSError as error:
                    raise init_error(self.image, self.secs, error) from error
                if code:
                    raise init_error(self.image, self.secs, code)
                return

    def _map(self) -> None:
        """Map every page with its final protection."""
        for start, end, protection in self.protections:
            if protection:
                try:
                    self.device.mmap(self.base + start, end - start, protection)
                except OSError as error:
                    raise build_error(self.image, "mmap", error) from error


def _copier(content: memoryview | bytes, bounce: Untrusted) -> Callable[[int, int], int]:
    """Return a source that copies each piece to page-aligned, writable memory."""

    def copy(at: int, length: int) -> int:
        bounce.data[:length] = content[at : at + length]
        return bounce.address

    return copy


def _always(address: int) -> Callable[[int, int], int]:
    """Return a source whose contents are the same for every piece."""
    return lambda _at, _length: address


@contextmanager
def _mapping(size: int, *, writable: bool = True) -> Iterator[Untrusted]:
    """Make untrusted memory for as long as a request needs it."""
    memory = Untrusted(size, writable=writable)
    try:
        yield memory
    finally:
        memory.close()
