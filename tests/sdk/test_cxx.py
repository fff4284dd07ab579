# SPDX-License-Identifier: Apache-2.0
"""C++ inside an enclave: exceptions, type information, statics, locks and the standard library."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ensconce import enclave
from ensconce.errors import EnclaveError
from ensconce.image.config import EnclaveConfig
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_HERE = Path(__file__).parent / "cxx"
_THREADS = 4


@pytest.fixture(scope="module")
def signed(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("cxx")
    image = build([_HERE / "cxx.cpp"], _HERE / "cxx.edl", folder / "cxx.so", toolchain=toolchain)
    config = EnclaveConfig(tcs_num=_THREADS, heap_max_size=0x400000, stack_max_size=0x40000)
    sign(image, folder / "cxx.signed.so", signing_key, config=config)
    return folder / "cxx.signed.so"


@pytest.fixture
def cxx(signed: Path) -> Iterator[enclave.Enclave]:
    with enclave.load(signed, edl=_HERE / "cxx.edl") as loaded:
        yield loaded


def test_an_exception_unwinds_every_frame_up_to_its_handler(cxx: enclave.Enclave) -> None:
    assert cxx.throw_and_catch(0) == 1
    assert cxx.throw_and_catch(20) == 21


def test_an_object_knows_its_type(cxx: enclave.Enclave) -> None:
    assert cxx.cast(4) == 4
    assert cxx.cast(3) == -3


def test_streams_strings_and_maps_work(cxx: enclave.Enclave) -> None:
    most = bytearray(16)
    assert cxx.count_words("to be or not to be to", most, len(most)) == 4
    assert most.rstrip(b"\0") == b"to"


def test_regular_expressions_work(cxx: enclave.Enclave) -> None:
    found = bytearray(16)
    assert cxx.match("here: year=2026;", found, len(found)) == 2026
    assert found.rstrip(b"\0") == b"year"
    assert cxx.match("nothing", found, len(found)) == 0


def test_statics_are_made_before_they_are_used(cxx: enclave.Enclave) -> None:
    assert cxx.statics() == 42 + 42 + 2


def test_thread_local_data_starts_anew_with_each_call_of_an_unbound_thread(
    cxx: enclave.Enclave,
) -> None:
    assert [cxx.thread_local_counter() for _ in range(2)] == [7, 7]


def test_an_exception_that_nobody_catches_ends_the_enclave(cxx: enclave.Enclave) -> None:
    with pytest.raises(EnclaveError):
        cxx.not_caught()
    with pytest.raises(EnclaveError):
        cxx.statics()


def test_an_index_out_of_bounds_ends_the_enclave(cxx: enclave.Enclave) -> None:
    assert cxx.out_of_bounds(2) == 3
    with pytest.raises(EnclaveError):
        cxx.out_of_bounds(3)


def test_a_mutex_lets_one_thread_in_at_a_time(cxx: enclave.Enclave) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda _: cxx.add_in_threads(2000), range(_THREADS)))
    assert cxx.add_in_threads(0) == 2000 * _THREADS


def test_memory_is_as_aligned_as_its_type_asks(cxx: enclave.Enclave) -> None:
    assert cxx.big_aligned() == 0
