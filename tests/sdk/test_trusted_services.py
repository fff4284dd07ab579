# SPDX-License-Identifier: Apache-2.0
"""Sealing, compiled for this machine.

Nobody tells the crypto library of the processor here, so it does without AVX.
"""

import ctypes
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.sdk.toolchain import Toolchain
from ensconce.sdk.toolchain_archives import INCLUDE, TRUSTED, trusted_archives

_NATIVE = Path(__file__).parent / "native"
_HEADER, _ISV_SVN = 560, 7
_INVALID_PARAMETER, _MAC_MISMATCH, _INVALID_ISVSVN = 0x2, 0x3001, 0x3004


@pytest.fixture(scope="module")
def services(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("services")
    archives = trusted_archives(toolchain, lacking=["sgx_rijndael128GCM_encrypt"])
    crypto = next(path for path in archives if path.name == "libtee_tcrypto.a")
    sources = [
        *("tservice/seal.c", "tservice/key.c", "tservice/report.c", "tstdc/safecrt.c"),
        *("trts/bounds.c", "trts/random.c"),
    ]
    folders = [INCLUDE, TRUSTED / "trts", TRUSTED / "tservice"]
    subprocess.run(
        ["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        + ["-Wl,--gc-sections,--exclude-libs,ALL"]
        + [f"-I{folder}" for folder in folders]
        + ["-o", str(folder / "services.so"), *(str(TRUSTED / source) for source in sources)]
        + [str(_NATIVE / "processor.c"), str(crypto)],
        check=True,
    )
    found = ctypes.CDLL(str(folder / "services.so"))
    # All of this process is the enclave.
    ctypes.c_uint64.in_dll(found, "tee_base").value = 4096
    ctypes.c_uint64.in_dll(found, "tee_size").value = 1 << 47
    return found


def _u32(value: int) -> ctypes.c_uint32:
    return ctypes.c_uint32(value)


def _seal(services: ctypes.CDLL, secret: bytes, extra: bytes) -> bytes:
    size = services.sgx_calc_sealed_data_size(_u32(len(extra)), _u32(len(secret)))
    assert size == _HEADER + len(extra) + len(secret)
    blob = ctypes.create_string_buffer(size)
    if secret:
        arguments = (_u32(len(extra)), extra, _u32(len(secret)), secret, _u32(size), blob)
        status = services.sgx_seal_data(*arguments)
    else:
        status = services.sgx_mac_aadata(_u32(len(extra)), extra, _u32(size), blob)
    assert status == 0
    return blob.raw


def _unseal(services: ctypes.CDLL, blob: bytes, room: int) -> tuple[int, bytes, bytes]:
    """Return status, secret and additional text; `room` bytes are there for each."""
    sealed = ctypes.create_string_buffer(blob, max(len(blob), _HEADER))
    texts = [ctypes.create_string_buffer(room + 1) for _ in range(2)]
    sizes = [_u32(room), _u32(room)]
    status = services.sgx_unseal_data(
        sealed, texts[0], ctypes.byref(sizes[0]), texts[1], ctypes.byref(sizes[1])
    )
    extra, secret = (text.raw[: size.value] for text, size in zip(texts, sizes, strict=True))
    return status, secret, extra


@given(secret=st.binary(min_size=1, max_size=100), extra=st.binary(max_size=50))
def test_what_was_sealed_comes_back(services: ctypes.CDLL, secret: bytes, extra: bytes) -> None:
    blob = _seal(services, secret, extra)
    assert _unseal(services, blob, 100) == (0, secret, extra)
    assert blob[_HEADER + len(secret) :] == extra
    assert len(secret) < 8 or blob[_HEADER : _HEADER + len(secret)] != secret


@given(secret=st.binary(min_size=1, max_size=40), extra=st.binary(max_size=20), data=st.data())
def test_a_blob_that_was_changed_anywhere_does_not_open(
    services: ctypes.CDLL, secret: bytes, extra: bytes, data: st.DataObject
) -> None:
    blob = bytearray(_seal(services, secret, extra))
    # Reserved words of the blob itself are not looked at.
    where = st.integers(0, len(blob) - 1).filter(
        lambda at: not (516 <= at < 528 or 532 <= at < 544)
    )
    blob[data.draw(where)] ^= data.draw(st.integers(1, 255))
    status, opened, _ = _unseal(services, bytes(blob), 100)
    assert status != 0
    assert not any(opened)


@given(secret=st.binary(min_size=1, max_size=20), offset=st.integers(0, 2**32 - 1),
       payload=st.integers(0, 2**32 - 1))  # fmt: skip
def test_lengths_that_a_host_made_up_are_refused(
    services: ctypes.CDLL, secret: bytes, offset: int, payload: int
) -> None:
    blob = bytearray(_seal(services, secret, b""))
    struct.pack_into("<I", blob, 512, offset)
    struct.pack_into("<I", blob, 528, payload)
    if (offset, payload) != (len(secret), len(secret)):
        assert _unseal(services, bytes(blob), 100)[0] in (_INVALID_PARAMETER, _MAC_MISMATCH)


def test_text_that_is_only_authenticated_is_checked(services: ctypes.CDLL) -> None:
    blob = bytearray(_seal(services, b"", b"for all to read"))
    text, size = ctypes.create_string_buffer(32), _u32(32)
    arguments = (ctypes.c_char_p(bytes(blob)), text, ctypes.byref(size))
    assert services.sgx_unmac_aadata(*arguments) == 0
    assert text.raw[: size.value] == b"for all to read"
    blob[_HEADER] ^= 1
    size.value = 32
    arguments = (ctypes.c_char_p(bytes(blob)), text, ctypes.byref(size))
    assert services.sgx_unmac_aadata(*arguments) == _MAC_MISMATCH


def test_each_blob_has_a_key_of_its_own(services: ctypes.CDLL) -> None:
    blobs = [_seal(services, b"the same secret", b"") for _ in range(8)]
    assert len({blob[40:72] for blob in blobs}) == 8
    assert len({blob[_HEADER:] for blob in blobs}) == 8


def test_a_blob_of_a_later_version_says_so(services: ctypes.CDLL) -> None:
    blob = bytearray(_seal(services, b"secret", b""))
    assert struct.unpack_from("<HHH", blob) == (4, 2, _ISV_SVN)
    struct.pack_into("<H", blob, 4, _ISV_SVN + 1)
    assert _unseal(services, bytes(blob), 100)[0] == _INVALID_ISVSVN


def test_too_little_room_is_refused(services: ctypes.CDLL) -> None:
    blob = _seal(services, b"secret", b"extra")
    assert _unseal(services, blob, 5)[0] == _INVALID_PARAMETER
    assert _unseal(services, blob, 6)[0] == 0


def test_sizes_that_overflow_are_refused(services: ctypes.CDLL) -> None:
    largest = 2**32 - 1
    for extra, secret in ((largest, 1), (1, largest), (largest - _HEADER, 0), (2**31, 2**31)):
        size = services.sgx_calc_sealed_data_size(_u32(extra), _u32(secret))
        assert size & largest == largest
    size = services.sgx_calc_sealed_data_size(_u32(largest - _HEADER - 1), _u32(0))
    assert size & largest == largest - 1
