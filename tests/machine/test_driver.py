# SPDX-License-Identifier: Apache-2.0
"""The driver model's ioctls and mappings: what it takes, and with which errno it refuses."""

import errno
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.machine.building import (
    BASIC,
    CODE,
    DATA,
    HEAP,
    LEAF,
    PAGE,
    PEEK,
    POKE,
    RW,
    RX,
    SIZE,
    TCS,
    TCS_AT,
    Memory,
    add,
    basic_parts,
    refuses,
    request,
    secs_for,
    signed,
)
from tests.machine.conftest import Builder

from ensconce.errors import DeviceError
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.record import Record
from ensconce.isa.secinfo import PageType, SecInfo, SecInfoFlags, secinfo_flags
from ensconce.isa.sigstruct import SigStruct
from ensconce.machine import uapi
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

UNMAPPED = 0x1000


@pytest.fixture
def device(cpu: Processor) -> Iterator[DriverModel]:
    device = DriverModel(cpu, provision=True)
    yield device
    device.close()


@pytest.fixture
def source() -> Iterator[Memory]:
    memory = Memory(8 * PAGE)
    yield memory
    memory.close()


@pytest.fixture
def base(device: DriverModel, source: Memory) -> int:
    """Create an enclave and return where it is."""
    return create(device, source)


def create(device: DriverModel, source: Memory, **fields: object) -> int:
    base = device.reserve(SIZE)
    source[0:PAGE] = bytes(secs_for(base, **fields))
    request(device, uapi.CREATE, uapi.EnclaveCreate(source.address))
    return base


def refused(device: DriverModel, number: int, record: Record) -> int:
    """Return the errno with which an ioctl is refused, 0 where it is not."""
    try:
        request(device, number, record)
    except OSError as error:
        return error.errno or 0
    return 0


def init(device: DriverModel, source: Memory, key: rsa.RSAPrivateKey, **fields: object) -> None:
    source[0 : SigStruct.SIZE] = bytes(sigstruct_of(device, key, **fields))
    request(device, uapi.INIT, uapi.EnclaveInit(source.address))


def sigstruct_of(device: DriverModel, key: rsa.RSAPrivateKey, **fields: object) -> SigStruct:
    enclave = device.enclave
    assert enclave is not None
    return signed(key, enclave.measurement.digest(), **fields)


# --- CREATE


def test_an_enclave_is_created_once(device: DriverModel, source: Memory, base: int) -> None:
    assert base % SIZE == 0
    assert refused(device, uapi.CREATE, uapi.EnclaveCreate(source.address)) == errno.EINVAL


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"size": 0}, errno.EINVAL),
        ({"size": 3 * PAGE}, errno.EINVAL),
        ({"ssa_frame_size": 0}, errno.EIO),
        ({"attributes": Attributes(BASIC, Xfrm(0))}, errno.EIO),
        ({"attributes": Attributes(BASIC | AttributeFlags.INIT, Xfrm.LEGACY)}, errno.EIO),
    ],
)
def test_a_bad_secs_is_refused(
    device: DriverModel, source: Memory, fields: dict[str, object], number: int
) -> None:
    base = device.reserve(SIZE)
    source[0:PAGE] = bytes(secs_for(base, **fields))
    assert refused(device, uapi.CREATE, uapi.EnclaveCreate(source.address)) == number


def test_an_elrange_that_was_not_reserved_is_refused(device: DriverModel, source: Memory) -> None:
    source[0:PAGE] = bytes(secs_for(1 << 40))
    assert refused(device, uapi.CREATE, uapi.EnclaveCreate(source.address)) == errno.EINVAL


@pytest.mark.parametrize("address", [0, UNMAPPED, 1 << 47, (1 << 64) - PAGE, (1 << 64) - 8])
def test_a_bad_address_is_efault(device: DriverModel, address: int) -> None:
    assert refused(device, uapi.CREATE, uapi.EnclaveCreate(address)) == errno.EFAULT


@pytest.mark.parametrize("number", [0, uapi.CREATE ^ 1 << 16, 0xA404, 1 << 32])
def test_an_unknown_ioctl_is_enotty(device: DriverModel, number: int) -> None:
    with refuses(errno.ENOTTY):
        device.ioctl(number, bytearray(64))


def test_an_argument_that_is_cut_short_is_efault(device: DriverModel, base: int) -> None:
    del base
    with refuses(errno.EFAULT):
        device.ioctl(uapi.ADD_PAGES, bytearray(40))


# --- ADD_PAGES


def pages(source: Memory, page: int, count: int, **fields: int) -> uapi.EnclaveAddPages:
    made = uapi.EnclaveAddPages(source.address, page * PAGE, count * PAGE, source.end - 64, 1)
    source[source.size - 64 : source.size] = bytes(RW)
    return replace(made, **fields)


def test_pages_are_added_and_counted(device: DriverModel, source: Memory, base: int) -> None:
    del base
    done = request(device, uapi.ADD_PAGES, pages(source, DATA, 3))
    assert isinstance(done, uapi.EnclaveAddPages)
    assert done.count == 3 * PAGE
    assert device.epc_pages == 3


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"src": 8}, errno.EINVAL),
        ({"offset": 8}, errno.EINVAL),
        ({"offset": SIZE}, errno.EINVAL),
        ({"offset": (1 << 64) - PAGE}, errno.EINVAL),
        ({"length": 0}, errno.EINVAL),
        ({"length": 100}, errno.EINVAL),
        ({"length": SIZE + PAGE}, errno.EINVAL),
        ({"length": 1 << 63}, errno.EINVAL),
        ({"secinfo": UNMAPPED}, errno.EFAULT),
        ({"src": UNMAPPED}, errno.EFAULT),
        ({"src": (1 << 64) - PAGE}, errno.EFAULT),
    ],
)
def test_bad_arguments_of_add_pages_are_refused(
    device: DriverModel, source: Memory, base: int, fields: dict[str, int], number: int
) -> None:
    del base
    assert refused(device, uapi.ADD_PAGES, pages(source, DATA, 1, **fields)) == number


@pytest.mark.parametrize(
    "secinfo",
    [
        SecInfo(secinfo_flags(PageType.SECS, 3)),
        SecInfo(secinfo_flags(PageType.VA)),
        SecInfo(secinfo_flags(PageType.REG, 2)),
        SecInfo(secinfo_flags(PageType.TCS, 3)),
        SecInfo(SecInfoFlags(0x203 | 1 << 3)),
        SecInfo(SecInfoFlags(0x203), b"\1" * 56),
    ],
)
def test_a_bad_secinfo_is_refused(
    device: DriverModel, source: Memory, base: int, secinfo: SecInfo
) -> None:
    del base
    with refuses(errno.EINVAL):
        add(device, source, DATA, secinfo, bytes(PAGE))


def test_what_was_added_before_a_refusal_is_counted(
    device: DriverModel, source: Memory, base: int
) -> None:
    del base
    add(device, source, DATA + 2, RW, b"\1" * PAGE)
    argument = bytearray(bytes(pages(source, DATA, 4)))
    with refuses(errno.EBUSY):
        device.ioctl(uapi.ADD_PAGES, argument)
    assert uapi.EnclaveAddPages.parse(argument).count == 2 * PAGE


def test_a_source_that_ends_early_is_counted_up_to_there(
    device: DriverModel, source: Memory, base: int
) -> None:
    del base
    wanted = pages(source, HEAP, 16)
    edge = Memory(2 * PAGE)
    edge.forbid(PAGE)
    argument = bytearray(bytes(replace(wanted, src=edge.address)))
    with refuses(errno.EFAULT):
        device.ioctl(uapi.ADD_PAGES, argument)
    assert uapi.EnclaveAddPages.parse(argument).count == PAGE


def test_a_tcs_that_the_processor_refuses_is_eio(
    device: DriverModel, source: Memory, base: int
) -> None:
    del base
    with refuses(errno.EIO):
        add(device, source, TCS_AT, TCS, b"\xff" * PAGE)


@pytest.mark.parametrize("number", [uapi.ADD_PAGES, uapi.INIT])
def test_building_comes_between_create_and_init(
    device: DriverModel, source: Memory, key: rsa.RSAPrivateKey, number: int
) -> None:
    argument = pages(source, DATA, 1) if number == uapi.ADD_PAGES else uapi.EnclaveInit(0)
    assert refused(device, number, argument) == errno.EINVAL
    create(device, source)
    init(device, source, key)
    assert refused(device, number, argument) == errno.EINVAL


def test_unmeasured_zero_pages_take_no_epc_until_touched(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu, heap=20)
    before = loaded.device.epc_pages
    assert loaded.enter(POKE, loaded.at(HEAP)) == 0
    assert loaded.device.epc_pages == before + loaded.device.statistics.committed
    assert loaded.device.statistics.added_lazily == 20
    assert loaded.enter(PEEK, loaded.at(HEAP)) == 0
    assert loaded.call.rdx == 0x5A


def test_unmeasured_zeros_from_touched_memory_are_lazy_too(
    device: DriverModel, source: Memory, base: int
) -> None:
    del base
    add(device, source, DATA, RW, bytes(4 * PAGE), measure=False)
    assert (device.statistics.added_lazily, device.epc_pages) == (4, 0)
    add(device, source, HEAP, RW, b"\1" + bytes(PAGE - 1), measure=False)
    assert (device.statistics.added, device.epc_pages) == (1, 1)


def test_a_heap_of_gibibytes_is_one_run(cpu: Processor, source: Memory) -> None:
    size = 8 << 30
    device = DriverModel(cpu)
    base = device.reserve(size)
    source[0:PAGE] = bytes(secs_for(base, size=size))
    request(device, uapi.CREATE, uapi.EnclaveCreate(source.address))
    zeros = Memory(1 << 30)
    for at in range(1 << 30, 5 << 30, 1 << 30):
        argument = pages(source, at // PAGE, (1 << 30) // PAGE, src=zeros.address, flags=0)
        request(device, uapi.ADD_PAGES, argument)
    enclave = device.enclave
    assert enclave is not None
    assert (len(enclave.lazy), device.epc_pages) == (1, 0)
    zeros.close()
    device.close()


# --- INIT and PROVISION


def test_init_answers_einits_codes_with_eperm(
    device: DriverModel, source: Memory, base: int, key: rsa.RSAPrivateKey
) -> None:
    del base
    source[0 : SigStruct.SIZE] = bytes(signed(key, b"\1" * 32))
    with pytest.raises(PermissionError, match="INVALID_MEASUREMENT"):
        request(device, uapi.INIT, uapi.EnclaveInit(source.address))


@pytest.mark.parametrize(
    "fields",
    [
        {"vendor": 1},
        {
            "attributes": Attributes(AttributeFlags.CET, Xfrm(0)),
            "attribute_mask": Attributes(AttributeFlags.CET, Xfrm(0)),
        },
    ],
)
def test_init_refuses_what_the_kernel_checks_itself(
    device: DriverModel,
    source: Memory,
    base: int,
    key: rsa.RSAPrivateKey,
    fields: dict[str, object],
) -> None:
    del base
    source[0 : SigStruct.SIZE] = bytes(sigstruct_of(device, key, **fields))
    argument = uapi.EnclaveInit(source.address)
    assert refused(device, uapi.INIT, argument) == errno.EINVAL
    assert refused(device, uapi.INIT, uapi.EnclaveInit(UNMAPPED)) == errno.EFAULT


PROVISIONING = Attributes(BASIC | AttributeFlags.PROVISIONKEY, Xfrm.LEGACY)


def test_provisioning_takes_the_other_devices_descriptor(
    device: DriverModel, source: Memory, key: rsa.RSAPrivateKey
) -> None:
    create(device, source, attributes=PROVISIONING)
    source[0 : SigStruct.SIZE] = bytes(sigstruct_of(device, key))
    argument = uapi.EnclaveInit(source.address)
    assert refused(device, uapi.INIT, argument) == errno.EACCES
    assert refused(device, uapi.PROVISION, uapi.EnclaveProvision(0)) == errno.EINVAL
    request(device, uapi.PROVISION, uapi.EnclaveProvision(device.provision()))
    request(device, uapi.INIT, argument)


def test_a_token_key_is_never_allowed(
    device: DriverModel, source: Memory, key: rsa.RSAPrivateKey
) -> None:
    attributes = Attributes(BASIC | AttributeFlags.EINITTOKENKEY, Xfrm.LEGACY)
    create(device, source, attributes=attributes)
    request(device, uapi.PROVISION, uapi.EnclaveProvision(device.provision()))
    source[0 : SigStruct.SIZE] = bytes(sigstruct_of(device, key))
    assert refused(device, uapi.INIT, uapi.EnclaveInit(source.address)) == errno.EACCES


def test_the_provisioning_device_may_be_out_of_reach(cpu: Processor) -> None:
    device = DriverModel(cpu)
    with pytest.raises(DeviceError, match="sgx_provision") as caught:
        device.provision()
    assert caught.value.errno == errno.EACCES
    device.close()


# --- mappings


def test_a_mapping_may_have_what_the_page_was_added_with(
    device: DriverModel, source: Memory, base: int
) -> None:
    add(device, source, CODE, RX, bytes(PAGE))
    add(device, source, TCS_AT, TCS, basic_parts()[1][2])
    add(device, source, DATA, RW, bytes(PAGE))
    device.mmap(base + CODE * PAGE, PAGE, 5)
    device.mmap(base + TCS_AT * PAGE, PAGE, 3)
    for page, protection in ((CODE, 2), (TCS_AT, 4), (DATA, 7)):
        with pytest.raises(PermissionError):
            device.mmap(base + page * PAGE, PAGE, protection)
    with pytest.raises(PermissionError):
        device.mmap(base, SIZE, 3)


def test_a_mapping_made_before_the_pages_counts(
    device: DriverModel, source: Memory, key: rsa.RSAPrivateKey
) -> None:
    base = device.reserve(SIZE)
    device.mmap(base, SIZE, 3)
    source[0:PAGE] = bytes(secs_for(base))
    request(device, uapi.CREATE, uapi.EnclaveCreate(source.address))
    add(device, source, DATA, RW, bytes(PAGE))
    init(device, source, key)
    enclave = device.enclave
    assert enclave is not None
    assert enclave.mapping.effective.get(DATA) == 3


@pytest.mark.parametrize(
    ("offset", "length", "protection", "number"),
    [
        (1, PAGE, 1, errno.EINVAL),
        (0, 0, 1, errno.EINVAL),
        (0, PAGE, 8, errno.EINVAL),
        (-PAGE, 2 * PAGE, 1, errno.EACCES),
        (SIZE - PAGE, 2 * PAGE, 1, errno.EACCES),
    ],
)
def test_bad_mappings_are_refused(
    device: DriverModel,
    source: Memory,
    base: int,
    key: rsa.RSAPrivateKey,
    offset: int,
    length: int,
    protection: int,
    number: int,
) -> None:
    init(device, source, key)
    with refuses(number):
        device.mmap(base + offset, length, protection)


def test_mprotect_changes_mapped_pages_only(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    data = loaded.at(DATA)
    loaded.device.mprotect(data, PAGE, 1)
    assert loaded.secs.mapping.effective.get(DATA) == 1
    with pytest.raises(PermissionError):
        loaded.device.mprotect(data, PAGE, 7)
    loaded.device.munmap(data, PAGE)
    assert loaded.secs.mapping.effective.get(DATA) is None
    with refuses(errno.ENOMEM):
        loaded.device.mprotect(data, PAGE, 1)


def test_an_unmapped_tcs_can_not_be_entered(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    loaded.device.munmap(loaded.at(TCS_AT), PAGE)
    assert loaded.enter(PEEK, loaded.at(DATA)) == 1
    assert (loaded.call.vector, loaded.call.address) == (14, loaded.at(TCS_AT))
    loaded.device.mmap(loaded.at(TCS_AT), PAGE, 3)
    assert loaded.enter(PEEK, loaded.at(DATA)) == 0


# --- the rest


def test_a_debug_enclave_can_be_read_from_outside(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu, heap=4)
    loaded.secs.content(DATA)[3:8] = b"abcde"
    assert loaded.device.debug_read(loaded.at(DATA) + 3, 5) == b"abcde"
    assert loaded.device.debug_read(loaded.at(HEAP), 16) == bytes(16)
    for address in (loaded.at(HEAP + 4), loaded.base - 8, loaded.base + SIZE):
        with refuses(errno.EFAULT):
            loaded.device.debug_read(address, 8)


def test_a_production_enclave_can_not_be_read(cpu: Processor, load: Builder) -> None:
    production = Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY)
    loaded = load(cpu, attributes=production)
    with refuses(errno.EFAULT):
        loaded.device.debug_read(loaded.at(DATA), 8)


def test_a_closed_file_gives_everything_back(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu, heap=4)
    assert cpu.epc.used
    loaded.device.close()
    loaded.device.close()
    assert cpu.epc.used == 0
    assert not cpu.enclaves
    with refuses(errno.EBADF):
        loaded.device.ioctl(uapi.CREATE, bytearray(8))


def test_a_full_epc_without_anything_to_evict_is_enomem(identity: Identity, source: Memory) -> None:
    cpu = Processor(identity, epc_size=2 * PAGE)
    device, other = DriverModel(cpu), DriverModel(cpu)
    create(device, source)
    with refuses(errno.ENOMEM):
        add(device, source, DATA, RW, bytes(PAGE))
    base = other.reserve(SIZE)
    source[0:PAGE] = bytes(secs_for(base))
    assert refused(other, uapi.CREATE, uapi.EnclaveCreate(source.address)) == errno.ENOMEM
    device.close()
    other.close()


def test_epc_that_another_enclave_gives_back_in_a_moment_is_waited_for(
    identity: Identity, source: Memory
) -> None:
    cpu = Processor(identity, epc_size=8 * PAGE)
    device = DriverModel(cpu)
    create(device, source)
    held = cpu.epc.free
    with cpu.lock:
        cpu.epc.take(held)

    def give_back() -> None:
        with cpu.lock:
            cpu.epc.give(held)

    timer = threading.Timer(0.05, give_back)
    timer.start()
    add(device, source, DATA, RW, bytes(PAGE))
    timer.join()
    device.close()


def test_a_leaf_works_through_the_whole_stack(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    data = loaded.at(DATA)
    assert loaded.leaf(0, data, data + PAGE, data + 2 * PAGE) == 0
    made = bytes(loaded.secs.content(DATA + 2))
    assert made[64:96] == loaded.secs.secs.mr_enclave
    assert loaded.enter(LEAF, loaded.memory.address) == 0
