# SPDX-License-Identifier: Apache-2.0
"""The trusted runtime's promises, kept on the emulated processor."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from ensconce import enclave
from ensconce.enclave import Enclave
from ensconce.errors import EnclaveCrashed, EnclaveError
from ensconce.image.config import EnclaveConfig
from ensconce.sdk.sign import SigningKey, sign

_EDL = Path(__file__).parent / "runtime" / "runtime.edl"
_DEFAULT_CONTROLS = 0x037F << 16 | 0x1F80
_RESCUED = 77
_DE, _BP, _UD, _PF = 0, 3, 6, 14
_MAC_MISMATCH = 0x3001
_REPORT_MAC = 416

Make = Callable[..., Enclave]


@pytest.fixture(scope="module")
def make(
    runtime_image: Path, signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Make:
    """Return a function that signs the runtime's test enclave and loads it."""
    folder = tmp_path_factory.mktemp("signed")

    def load(host: Callable[[int], int] = lambda value: value + 1, **settings: int) -> Enclave:
        name = "-".join(f"{each}={value}" for each, value in sorted(settings.items()))
        signed = folder / f"runtime{name}.so"
        if not signed.exists():
            config = EnclaveConfig(
                tcs_num=4,
                tcs_min_pool=3,
                heap_max_size=0x400000,
                heap_min_size=0x400000,
                stack_max_size=0x20000,
                stack_min_size=0x20000,
                **settings,
            )
            sign(runtime_image, signed, signing_key, config=config)
        ocalls = {"host": host, "ignore": lambda _bytes, _size: None}
        return enclave.load(signed, edl=_EDL, ocalls=ocalls)

    return load


@pytest.fixture(scope="module")
def runtime(make: Make) -> Iterator[Any]:
    """Return one enclave for all tests that leave it as it was."""
    with make() as loaded:
        yield loaded


def test_constructors_run_once_and_pointers_in_data_are_relocated(runtime: Any) -> None:
    assert [runtime.constructed() for _ in range(3)] == [1, 1, 1]


def test_unbound_threads_start_each_ecall_with_fresh_thread_locals(runtime: Any) -> None:
    assert [runtime.next_in_thread(2) for _ in range(3)] == [42, 42, 42]


def test_bound_threads_keep_their_thread_locals(make: Make) -> None:
    with make(tcs_policy=0) as bound:
        assert [bound.next_in_thread(2) for _ in range(3)] == [42, 44, 46]


def test_the_heap_gives_memory_that_is_whole_and_zeroed(runtime: Any) -> None:
    assert runtime.allocate(1000, 200) == sum(range(200))
    assert runtime.allocate(40000, 100) == sum(range(100))


def test_a_heap_that_is_too_small_is_an_error_and_not_the_end(runtime: Any) -> None:
    assert runtime.allocate(1 << 40, 1) == 0
    assert runtime.allocate(1000, 200) == sum(range(200))


def test_vector_and_control_registers_enter_in_their_initial_state(runtime: Any) -> None:
    assert runtime.control_words() == _DEFAULT_CONTROLS


def test_rounding_modes_survive_an_ocall(runtime: Any) -> None:
    assert runtime.vector_state_survives() == 1


def test_ranges_that_wrap_are_neither_inside_nor_outside(runtime: Any) -> None:
    assert runtime.ranges() == 1


@pytest.mark.parametrize("size", [0, 1, 15, 4096, 100_000])
def test_an_ocall_lends_the_host_as_much_stack_as_it_needs(runtime: Any, size: int) -> None:
    assert runtime.lend(size) == 0


def test_system_calls_are_refused_and_counted(runtime: Any) -> None:
    open_file, sixty_four_more = 2, 257
    assert runtime.refused(open_file, 7) == 7
    assert runtime.refused(sixty_four_more, 3) == 3


def test_an_enclave_verifies_its_own_report_and_no_changed_one(runtime: Any) -> None:
    assert runtime.verify_own_report(0xFFFFFFFF) == 0
    for changed in (0, _REPORT_MAC - 1, _REPORT_MAC):
        assert runtime.verify_own_report(changed) == _MAC_MISMATCH


def test_a_key_that_is_refused_leaves_no_known_bytes(runtime: Any) -> None:
    keys = [bytearray(16) for _ in range(4)]
    assert [runtime.derive(4, 2, 0, key) for key in keys[:2]] == [0, 0]
    assert keys[0] == keys[1] != bytes(16)
    assert runtime.derive(9, 2, 0, keys[2]) == 0x3005
    assert runtime.derive(4, 2, 99, keys[3]) == 0x3004
    assert len({bytes(key) for key in keys}) == 3


def test_an_ecall_under_an_ocall_needs_its_permission(make: Make) -> None:
    seen: list[int] = []

    def host(value: int) -> int:
        if value < 100:
            return int(loaded.calls["inner"](value))
        with pytest.raises(EnclaveError, match="ECALL_NOT_ALLOWED"):
            loaded.calls["constructed"]()
        seen.append(value)
        return 0

    with make(host) as loaded:
        assert loaded.calls["call_out"](21) == 42
        assert loaded.calls["call_out"](100) == 0
        assert seen == [100]
        with pytest.raises(EnclaveError, match="ECALL_NOT_ALLOWED"):
            loaded.calls["inner"](1)


def test_a_number_that_is_no_ecall_is_refused(runtime: Any) -> None:
    with pytest.raises(EnclaveError, match="INVALID_FUNCTION"):
        runtime.ecall(999)
    assert runtime.constructed() == 1


def test_a_handler_mends_an_exception_and_execution_goes_on(make: Make) -> None:
    seen: list[int] = []

    def host(value: int) -> int:
        seen.append(value)
        return 0

    with make(host) as loaded:
        call = loaded.calls
        assert call["divide"](7, 0, 1) == _RESCUED
        assert call["undefined"](1) == _RESCUED
        assert call["divide"](9, 3, 1) == 3
        assert seen == [1000 + _DE, 1000 + _UD]
        assert call["forget_handlers"]() == 1
        with pytest.raises(EnclaveCrashed):
            call["undefined"](0)


def test_page_faults_reach_handlers_with_their_address_when_the_image_asks(make: Make) -> None:
    with make(misc_select=1) as loaded:
        assert loaded.calls["read_at"](24, 1) == _RESCUED
        assert loaded.calls["address_seen"]() == 24
        with pytest.raises(EnclaveCrashed) as caught:
            loaded.calls["read_at"](16, 1)
    assert (caught.value.vector, caught.value.address) == (_PF, 16)


@pytest.mark.parametrize(
    ("name", "arguments", "vector"),
    [
        ("divide", (1, 0, 0), _DE),
        ("undefined", (0,), _UD),
        ("breakpoint", (), _BP),
        ("read_at", (8, 0), _PF),
        ("give_up", (), _UD),
        ("smash_stack", (200,), _UD),
        ("recurse", (10_000,), _PF),
    ],
)
def test_what_nobody_handles_ends_the_enclave_for_good(
    make: Make, name: str, arguments: tuple[int, ...], vector: int
) -> None:
    with make() as loaded:
        with pytest.raises(EnclaveCrashed) as caught:
            loaded.calls[name](*arguments)
        assert caught.value.vector == vector
        with pytest.raises(EnclaveCrashed):
            loaded.calls["constructed"]()


def test_threads_run_in_it_at_once_with_memory_of_their_own(runtime: Any) -> None:
    together = Barrier(4)

    def work(number: int) -> list[int]:
        together.wait()
        sums = [runtime.allocate(500 + number, 64) for _ in range(20)]
        keyed = runtime.keyed_in_thread(1000 + number, 20_000)
        return [*sums, keyed, runtime.next_in_thread(number)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert [each[-1] for each in results] == [40, 41, 42, 43]
    assert all(each[:-1] == [sum(range(64))] * 20 + [0] for each in results)


def test_an_image_that_asks_for_aex_notify_does_not_start(make: Make) -> None:
    with pytest.raises(EnclaveError, match="FEATURE_NOT_SUPPORTED"):
        make(enable_aex_notify=1)
