# SPDX-License-Identifier: Apache-2.0
"""Building an enclave: what is refused, in which words, and that nothing stays behind."""

import dataclasses
import errno
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ensconce.enclave import Device, load
from ensconce.errors import (
    ConfigError,
    DeviceError,
    FormatError,
    MeasurementError,
    PolicyError,
    SimulationModeError,
    UnsignedError,
    VerificationError,
)
from ensconce.image import Mode, PageRun
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.cpuid import SgxCpuid
from ensconce.machine import uapi
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

Make = Callable[..., Any]
Devices = Callable[[], Device]

MODE64 = AttributeFlags.MODE64BIT
DEBUG = AttributeFlags.DEBUG


def test_the_secs_is_as_signed_and_as_asked(image: Make, device: Devices) -> None:
    with load(image(), device=device()) as enclave:
        assert enclave.secs.attributes == Attributes(MODE64, Xfrm.LEGACY)
        assert enclave.secs.size == enclave.image.size
        assert enclave.base % enclave.secs.size == 0


def test_debug_is_set_where_the_caller_wants_it(image: Make, device: Devices) -> None:
    with load(image(), device=device(), debug=True) as enclave:
        assert enclave.secs.attributes.flags & DEBUG
    with load(image(), device=device()) as enclave:
        assert not enclave.secs.attributes.flags & DEBUG


def test_an_enclave_signed_for_production_does_not_load_for_debugging(
    image: Make, device: Devices
) -> None:
    mask = Attributes(AttributeFlags(~0), Xfrm(0))
    with pytest.raises(PolicyError, match=r"production enclave only.*debug=False"):
        load(image(attribute_mask=mask), device=device(), debug=True)
    signed = Attributes(MODE64 | DEBUG, Xfrm.LEGACY)
    with pytest.raises(PolicyError, match=r"debug enclave only.*debug=True"):
        load(image(attribute_mask=mask, attributes=signed), device=device(), debug=False)
    with load(image(attribute_mask=mask, attributes=signed), device=device()) as enclave:
        assert enclave.secs.attributes.flags & DEBUG


def test_xfrm_is_limited_to_what_the_processor_has(image: Make, device: Devices) -> None:
    wide = Attributes(MODE64, Xfrm(0x602E7))
    with load(image(attributes=wide), device=device()) as enclave:
        assert enclave.secs.attributes.xfrm == wide.xfrm & enclave.device.cpuid.attributes.xfrm


def test_xfrm_that_was_signed_and_is_missing_is_told(image: Make, device: Devices) -> None:
    wide = Attributes(MODE64, Xfrm.LEGACY | Xfrm.BNDREGS | Xfrm.BNDCSR)
    sample = image(attributes=wide, attribute_mask=Attributes(AttributeFlags(0), Xfrm(~0)))
    with pytest.raises(PolicyError, match=r"signed for XFRM 0x1b .*0x18 is missing"):
        load(sample, device=device())


def test_miscselect_is_what_was_signed(image: Make, device: Devices) -> None:
    sample = image(changes={"misc_select": MiscSelect.EXINFO})
    with load(sample, device=device()) as enclave:
        assert enclave.secs.misc_select == MiscSelect.EXINFO
    sample = image(changes={"misc_select": MiscSelect(1 << 20)})
    with pytest.raises(PolicyError, match="signed for MISCSELECT 0x100000"):
        load(sample, device=device())


def test_aex_notify_takes_avx(image: Make, device: Devices) -> None:
    wants = Attributes(MODE64 | AttributeFlags.AEXNOTIFY, Xfrm.LEGACY)
    with pytest.raises(PolicyError, match="AEX-Notify, which takes EDECCSSA and AVX"):
        load(image(attributes=wants), device=device())


def test_config_id_takes_an_enclave_with_kss(image: Make, device: Devices) -> None:
    kss = Attributes(MODE64 | AttributeFlags.KSS, Xfrm.LEGACY)
    with load(image(attributes=kss), device=device(), config_id=b"c", config_svn=3) as enclave:
        assert enclave.secs.config_id == b"c".ljust(64, b"\0")
        assert enclave.secs.config_svn == 3
    with pytest.raises(ConfigError, match="EnableKSS"):
        load(image(), device=device(), config_svn=3)
    with pytest.raises(ConfigError, match="64 bytes"):
        load(image(attributes=kss), device=device(), config_id=bytes(65))


def test_a_simulation_image_is_refused(image: Make, device: Devices) -> None:
    with pytest.raises(SimulationModeError, match="SGX_MODE=HW"):
        load(image(mode=Mode.SIM), device=device())


def test_an_image_without_sigstruct_is_refused(image: Make, device: Devices) -> None:
    sample = image()
    sample.sigstruct = None
    with pytest.raises(UnsignedError, match="ensconce enclave sign"):
        load(sample, device=device())


def test_another_enclaves_sigstruct_is_told_from_a_damaged_one(
    image: Make, device: Devices
) -> None:
    sample = image()
    sample.sigstruct = image(heap_pages=17).sigstruct
    with pytest.raises(MeasurementError, match="changed after signing, or its SIGSTRUCT is anoth"):
        load(sample, device=device())
    sample.sigstruct = dataclasses.replace(sample.sigstruct, isv_svn=9)
    with pytest.raises(VerificationError, match="signature is not valid"):
        load(sample, device=device())


def test_a_page_measured_in_part_is_refused(image: Make, device: Devices) -> None:
    sample = image()
    runs = [dataclasses.replace(run, extended=run.extended & 0x3) for run in sample.operations()]
    sample.operations = lambda: iter(runs)
    with pytest.raises(PolicyError, match="in part"):
        load(sample, device=device())


def test_progress_counts_up_to_the_whole(image: Make, device: Devices) -> None:
    steps: list[tuple[int, int]] = []
    sample = image(heap_pages=2000)
    load(sample, device=device(), progress=lambda *step: steps.append(step)).close()
    pages = sum(run.count for run in sample.operations())
    assert steps[-1] == (pages * 4096, pages * 4096)
    assert steps == sorted(steps)


class Script:
    """A device whose driver refuses one request, and which notes what it was asked."""

    name = "scripted"

    def __init__(self, inner: Device, request: int = 0, number: int = 0, *, times: int = 1) -> None:
        self._inner = inner
        self._request, self._number, self._times = request, number, times
        self.enter_address = inner.enter_address
        self.closed = False
        self.requests: list[int] = []

    @property
    def cpuid(self) -> SgxCpuid:
        return self._inner.cpuid

    def reserve(self, size: int, base: int | None = None) -> int:
        return self._inner.reserve(size, base)

    def ioctl(self, request: int, argument: bytearray) -> int:
        self.requests.append(request)
        if request == self._request and self._times:
            self._times -= 1
            raise OSError(self._number, "refused")
        return self._inner.ioctl(request, argument)

    def mmap(self, address: int, length: int, protection: int) -> None:
        self._inner.mmap(address, length, protection)

    def munmap(self, address: int, length: int) -> None:
        self._inner.munmap(address, length)

    def mprotect(self, address: int, length: int, protection: int) -> None:
        self._inner.mprotect(address, length, protection)

    def provision(self) -> int:
        return self._inner.provision()

    def debug_read(self, address: int, length: int) -> bytes:
        return self._inner.debug_read(address, length)

    def close(self) -> None:
        self.closed = True
        self._inner.close()


REFUSALS = [
    (uapi.CREATE, errno.ENOMEM, "EPC is too small"),
    (uapi.CREATE, errno.EINVAL, "ECREATE was refused.*invalid"),
    (uapi.ADD_PAGES, errno.ENOMEM, "EADD was refused: the EPC"),
    (uapi.ADD_PAGES, errno.EIO, "lost while it was being built"),
    (uapi.ADD_PAGES, errno.EACCES, "may not map it executable"),
    (uapi.INIT, errno.EIO, "EINIT was refused.*lost"),
]


@pytest.mark.parametrize(("request_", "number", "text"), REFUSALS)
def test_each_refusal_of_the_driver_is_one_sentence_and_the_device_is_closed(
    image: Make, device: Devices, request_: int, number: int, text: str
) -> None:
    script = Script(device(), request_, number)
    with pytest.raises(DeviceError, match=text) as caught:
        load(image(), device=script)
    assert caught.value.errno == number
    assert script.closed


def test_a_refused_einit_is_explained_by_its_likely_cause(image: Make, device: Devices) -> None:
    script = Script(device(), uapi.INIT, errno.EPERM)
    with pytest.raises(PolicyError, match=r"SGX_INVALID_EINITTOKEN.*flexible launch control"):
        load(image(), device=script)


@pytest.mark.parametrize("request_", [uapi.ADD_PAGES, uapi.INIT])
def test_a_request_that_a_signal_broke_off_is_made_again(
    image: Make, device: Devices, request_: int
) -> None:
    script = Script(device(), request_, errno.EINTR, times=3)
    load(image(), device=script).close()
    assert script.requests.count(request_) > 3


def test_an_interrupted_load_leaves_nothing(image: Make, processor: Processor) -> None:
    free = processor.epc.free

    def stop(done: int, total: int) -> None:
        del done, total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(image(), device=DriverModel(processor), progress=stop)
    assert processor.epc.free == free
    assert not processor.enclaves


def test_a_file_that_is_no_enclave_closes_the_device(processor: Processor) -> None:
    device = DriverModel(processor)
    with pytest.raises(FormatError):
        load(b"not an enclave", device=device)
    with pytest.raises(OSError, match="Bad file"):
        device.ioctl(0, bytearray(8))


def test_an_epc_that_is_too_small_is_told(image: Make) -> None:
    small = Processor(Identity.generate(), epc_size=2 * 4096)
    with pytest.raises(DeviceError, match="EPC is too small"):
        load(image(threads=8), device=DriverModel(small))


def test_the_provisioning_key_takes_the_devices_permission(
    image: Make, processor: Processor
) -> None:
    wants = Attributes(MODE64 | AttributeFlags.PROVISIONKEY, Xfrm.LEGACY)
    with pytest.raises(DeviceError, match="provision"):
        load(image(attributes=wants), device=DriverModel(processor))
    device = DriverModel(processor, provision=True)
    with load(image(attributes=wants), device=device) as enclave:
        assert enclave.secs.attributes.flags & AttributeFlags.PROVISIONKEY


def test_a_heap_of_sixty_four_gigabytes_takes_no_memory_until_it_is_used(
    image: Make, processor: Processor
) -> None:
    sample = image(size=1 << 37, heap_pages=1 << 24)
    taken = processor.epc.used
    with load(sample, device=DriverModel(processor)):
        assert processor.epc.used - taken < 200


def test_a_page_repeated_over_a_run_is_loaded_everywhere(image: Make, device: Devices) -> None:
    pattern = bytes(range(256)) * 16
    sample = image(heap_pages=0)
    plain = list(sample.operations())

    def operations() -> Iterator[PageRun]:
        yield from plain
        yield PageRun(0x100000, 600, plain[1].flags, pattern, 0xFFFF)

    sample.operations = operations
    with load(sample.signed(), device=device(), debug=True) as enclave:
        assert enclave.device.debug_read(enclave.base + 0x100000 + 599 * 4096, 256) == pattern[:256]
