# SPDX-License-Identifier: Apache-2.0
"""Page faults: what the driver mends, and what the enclave gets told of the others."""

import errno

import pytest
from tests.machine.building import (
    CODE,
    DATA,
    FREE,
    HEAP,
    JUMP,
    PAGE,
    PEEK,
    POKE,
    RW,
    SIZE,
    SSA,
    TCS_AT,
    Loaded,
    Parts,
    basic_parts,
    refuses,
    request,
    tcs,
)
from tests.machine.conftest import Builder

from ensconce.isa.leaves import Enclu, ErrorCode
from ensconce.isa.secinfo import PageType, SecInfo, SecInfoFlags
from ensconce.isa.ssa import ExInfo, GprSgx
from ensconce.isa.tcs import Tcs
from ensconce.machine import uapi
from ensconce.machine.driver import DriverModel
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor

P, W, U, I, SGX = 1, 2, 4, 16, 0x8000  # noqa: E741  # the manual's letters
PENDING, MODIFIED, PR = SecInfoFlags.PENDING, SecInfoFlags.MODIFIED, SecInfoFlags.PR
TRIM = 0x400


def saved(loaded: Loaded) -> tuple[ExInfo, GprSgx]:
    """Return EXINFO and GPRSGX of the first SSA frame."""
    frame = loaded.secs.content(SSA)
    at = PAGE - GprSgx.SIZE
    return ExInfo.parse(frame[at - ExInfo.SIZE : at]), GprSgx.parse(frame[at:])


@pytest.mark.parametrize(
    ("what", "page", "mapped", "code"),
    [
        (POKE, CODE, 5, P | W | U),
        (POKE, DATA, 1, P | W | U),
        (PEEK, TCS_AT, 3, P | U | SGX),
        (JUMP, DATA, 3, P | U | I),
        (PEEK, SIZE // PAGE - 1, 0, U),
    ],
)
def test_a_fault_tells_page_tables_from_epcm(
    cpu: Processor, load: Builder, what: int, page: int, mapped: int, code: int
) -> None:
    loaded = load(cpu)
    if mapped:
        loaded.device.mprotect(loaded.at(page), PAGE, mapped)
    assert loaded.enter(what, loaded.at(page)) == 1
    assert loaded.call.vector == 14
    assert loaded.call.error_code == code
    assert loaded.call.address == loaded.at(page)
    exinfo, registers = saved(loaded)
    assert (exinfo.maddr, exinfo.errcd) == (loaded.at(page), code)
    assert registers.exit_info == 1 << 31 | 3 << 8 | 14


def test_a_page_mapped_wider_than_the_epcm_allows_faults_with_the_sgx_bit(
    cpu: Processor, load: Builder
) -> None:
    loaded = load(cpu)
    restrict(loaded, DATA + 1, 1)
    assert loaded.enter(POKE, loaded.at(DATA + 1)) == 1
    assert loaded.call.error_code == P | W | U | SGX


def restrict(loaded: Loaded, page: int, permissions: int) -> None:
    argument = uapi.EnclaveRestrictPermissions(page * PAGE, PAGE, permissions)
    done = request(loaded.device, uapi.RESTRICT_PERMISSIONS, argument)
    assert isinstance(done, uapi.EnclaveRestrictPermissions)
    assert (done.count, done.result) == (PAGE, 0)


def accept(loaded: Loaded, page: int, flags: int) -> int:
    loaded.secs.content(DATA)[:64] = bytes(SecInfo(SecInfoFlags(flags)))
    return loaded.leaf(Enclu.EACCEPT, loaded.at(DATA), loaded.at(page))


def modify(loaded: Loaded, page: int, kind: PageType) -> None:
    argument = uapi.EnclaveModifyTypes(page * PAGE, PAGE, kind)
    done = request(loaded.device, uapi.MODIFY_TYPES, argument)
    assert isinstance(done, uapi.EnclaveModifyTypes)
    assert (done.count, done.result) == (PAGE, 0)


def test_restricted_permissions_are_accepted_inside(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    restrict(loaded, DATA + 1, 1)
    assert accept(loaded, DATA + 1, 0x201 | PR) == 0
    assert loaded.enter(PEEK, loaded.at(DATA + 1)) == 0


def test_touching_a_page_that_is_not_there_adds_it(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    loaded.device.mmap(loaded.at(FREE), PAGE, 3)
    assert accept(loaded, FREE, 0x203 | PENDING) == 0
    assert loaded.device.statistics.augmented == 1
    assert loaded.enter(POKE, loaded.at(FREE)) == 0


def test_a_pending_page_can_not_be_used(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    loaded.device.mmap(loaded.at(FREE), PAGE, 3)
    assert loaded.enter(POKE, loaded.at(FREE)) == 1
    assert loaded.call.error_code == P | W | U | SGX
    assert loaded.device.statistics.augmented == 1


def test_a_page_is_trimmed_accepted_and_removed(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    page = DATA + 1
    argument = uapi.EnclaveRemovePages(page * PAGE, PAGE)
    assert removal(loaded, argument) == errno.EPERM
    modify(loaded, page, PageType.TRIM)
    assert removal(loaded, argument) == errno.EPERM
    assert accept(loaded, page, TRIM | MODIFIED) == 0
    used = cpu.epc.used
    assert removal(loaded, argument) == 0
    assert cpu.epc.used == used - 1
    assert removal(loaded, argument) == errno.EFAULT


def removal(loaded: Loaded, argument: uapi.EnclaveRemovePages) -> int:
    try:
        request(loaded.device, uapi.REMOVE_PAGES, argument)
    except OSError as error:
        return error.errno or 0
    return 0


def test_a_page_becomes_a_tcs_by_which_a_thread_enters(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    page = DATA + 1
    loaded.secs.content(page)[:] = bytes(tcs(ossa=(DATA + 2) * PAGE, nssa=1))
    modify(loaded, page, PageType.TCS)
    assert loaded.enter(PEEK, loaded.at(DATA), entry=page) == 1
    assert accept(loaded, page, 0x100 | MODIFIED) == 0
    assert loaded.enter(PEEK, loaded.at(DATA), entry=page) == 0


REFUSALS = [
    (uapi.EnclaveRestrictPermissions(0, PAGE, 8), errno.EINVAL),
    (uapi.EnclaveRestrictPermissions(0, PAGE, 2), errno.EINVAL),
    (uapi.EnclaveRestrictPermissions(1, PAGE, 1), errno.EINVAL),
    (uapi.EnclaveRestrictPermissions(0, 0, 1), errno.EINVAL),
    (uapi.EnclaveRestrictPermissions(SIZE, PAGE, 1), errno.EINVAL),
    (uapi.EnclaveRestrictPermissions(0, PAGE, 1, result=1), errno.EINVAL),
    (uapi.EnclaveRestrictPermissions(0, PAGE, 1, count=1), errno.EINVAL),
    (uapi.EnclaveRestrictPermissions(TCS_AT * PAGE, PAGE, 1), errno.EINVAL),
    (uapi.EnclaveRestrictPermissions(FREE * PAGE, PAGE, 1), errno.EFAULT),
    (uapi.EnclaveModifyTypes(0, PAGE, 0x100), errno.EINVAL),
    (uapi.EnclaveModifyTypes(0, PAGE, PageType.REG), errno.EINVAL),
    (uapi.EnclaveModifyTypes(0, PAGE, PageType.TRIM, result=1), errno.EINVAL),
    (uapi.EnclaveModifyTypes(TCS_AT * PAGE, PAGE, PageType.TCS), errno.EINVAL),
    (uapi.EnclaveModifyTypes(CODE * PAGE, PAGE, PageType.TCS), errno.EPERM),
    (uapi.EnclaveModifyTypes(FREE * PAGE, PAGE, PageType.TRIM), errno.EFAULT),
    (uapi.EnclaveRemovePages(0, PAGE, count=1), errno.EINVAL),
    (uapi.EnclaveRemovePages(FREE * PAGE, PAGE), errno.EFAULT),
]
NUMBERS: dict[type[object], int] = {
    uapi.EnclaveRestrictPermissions: uapi.RESTRICT_PERMISSIONS,
    uapi.EnclaveModifyTypes: uapi.MODIFY_TYPES,
    uapi.EnclaveRemovePages: uapi.REMOVE_PAGES,
}


def test_bad_arguments_of_the_sgx2_ioctls_are_refused(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    for record, number in REFUSALS:
        with refuses(number):
            request(loaded.device, NUMBERS[type(record)], record)


def test_what_sgx2_changed_before_a_refusal_is_counted(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    modify(loaded, DATA + 1, PageType.TRIM)
    argument = bytearray(bytes(uapi.EnclaveModifyTypes(DATA * PAGE, 2 * PAGE, PageType.TRIM)))
    with refuses(errno.EINVAL):
        loaded.device.ioctl(uapi.MODIFY_TYPES, argument)
    assert uapi.EnclaveModifyTypes.parse(argument).count == PAGE


def test_a_pending_page_is_not_modifiable_and_the_code_is_told(
    cpu: Processor, load: Builder
) -> None:
    loaded = load(cpu)
    loaded.device.mmap(loaded.at(FREE), PAGE, 3)
    loaded.enter(POKE, loaded.at(FREE))
    argument = bytearray(bytes(uapi.EnclaveRestrictPermissions(FREE * PAGE, PAGE, 1)))
    with refuses(errno.EFAULT):
        loaded.device.ioctl(uapi.RESTRICT_PERMISSIONS, argument)
    done = uapi.EnclaveRestrictPermissions.parse(argument)
    assert (done.result, done.count) == (ErrorCode.PAGE_NOT_MODIFIABLE, 0)


@pytest.mark.parametrize(
    "record",
    [
        uapi.EnclaveRestrictPermissions(0, PAGE, 1),
        uapi.EnclaveModifyTypes(0, PAGE, PageType.TRIM),
        uapi.EnclaveRemovePages(0, PAGE),
    ],
)
def test_sgx2_ioctls_want_an_initialised_enclave(
    cpu: Processor, record: uapi.EnclaveRemovePages
) -> None:
    device = DriverModel(cpu)
    with refuses(errno.EINVAL):
        request(device, NUMBERS[type(record)], record)
    device.close()


def test_a_lost_enclave_can_not_be_entered(cpu: Processor, load: Builder) -> None:
    loaded = load(cpu)
    loaded.device.lose()
    assert cpu.epc.used == 0
    assert loaded.enter(PEEK, loaded.at(DATA)) == 1
    assert (loaded.call.vector, loaded.call.error_code) == (14, P | W | U | SGX)
    argument = uapi.EnclaveRestrictPermissions(DATA * PAGE, PAGE, 1)
    with refuses(errno.EFAULT):
        request(loaded.device, uapi.RESTRICT_PERMISSIONS, argument)


def test_enclaves_load_again_after_a_loss(cpu: Processor, load: Builder) -> None:
    load(cpu).device.lose()
    loaded = load(cpu)
    assert loaded.enter(PEEK, loaded.at(DATA)) == 0


def test_an_interrupted_thread_resumes_after_its_pages_left(
    identity: Identity, load: Builder
) -> None:
    cpu = Processor(identity, epc_size=14 * PAGE)
    loaded = load(cpu, heap=20)
    assert loaded.enter(POKE, loaded.at(CODE)) == 1
    loaded.device.mprotect(loaded.at(CODE), PAGE, 5)
    for page in range(HEAP, HEAP + 20):
        loaded.device.debug_read(loaded.at(page), 8)
    evicted = loaded.device.statistics.evicted
    assert evicted
    assert loaded.enter(0, 0, function=3) == 1
    assert loaded.call.address == loaded.at(CODE)
    assert loaded.device.statistics.loaded


def working_set(pages: int) -> Parts:
    """Return the basic parts with more data pages, each with its number in it."""
    return basic_parts() + [
        (HEAP + index, RW, index.to_bytes(2, "little").ljust(PAGE, b"\0")) for index in range(pages)
    ]


def test_an_enclave_larger_than_the_epc_runs(identity: Identity, load: Builder) -> None:
    cpu = Processor(identity, epc_size=20 * PAGE)
    loaded = load(cpu, working_set(24))
    loaded.device.mmap(loaded.at(HEAP), 24 * PAGE, 3)
    for _ in range(3):
        for index in range(24):
            assert loaded.enter(PEEK, loaded.at(HEAP + index)) == 0
            assert loaded.call.rdx == index
            assert cpu.epc.used <= cpu.epc.pages
    statistics = loaded.device.statistics
    assert statistics.evicted >= 24
    assert statistics.loaded >= 24


def test_two_enclaves_share_an_epc(identity: Identity, load: Builder) -> None:
    cpu = Processor(identity, epc_size=30 * PAGE)
    pair = [load(cpu, working_set(20)) for _ in range(2)]
    for loaded in pair:
        loaded.device.mmap(loaded.at(HEAP), 20 * PAGE, 3)
    for index in range(40):
        loaded = pair[index % 2]
        assert loaded.enter(PEEK, loaded.at(HEAP + index // 2)) == 0
        assert loaded.call.rdx == index // 2


def test_a_tcs_that_left_comes_back_with_its_state(identity: Identity, load: Builder) -> None:
    cpu = Processor(identity, epc_size=14 * PAGE)
    loaded = load(cpu, heap=20)
    for page in range(HEAP, HEAP + 20):
        assert loaded.enter(POKE, loaded.at(page)) == 0
    assert Tcs.parse(loaded.secs.content(TCS_AT)).nssa == 2
    for page in range(HEAP, HEAP + 20):
        assert loaded.enter(PEEK, loaded.at(page)) == 0
        assert loaded.call.rdx == 0x5A


def test_an_enclave_that_left_whole_comes_back_with_its_secs(
    identity: Identity, load: Builder
) -> None:
    cpu = Processor(identity, epc_size=24 * PAGE)
    first = load(cpu)
    first.secs.content(DATA)[0] = 7
    load(cpu, working_set(16))
    assert not first.secs.valid
    assert first.device.epc_pages == 0
    assert first.enter(PEEK, first.at(DATA)) == 0
    assert first.call.rdx == 7
    assert first.secs.valid
