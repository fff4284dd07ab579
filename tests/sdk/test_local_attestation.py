# SPDX-License-Identifier: Apache-2.0
"""Two enclaves in one process attest each other and agree on a key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ensconce import enclave
from ensconce.image.config import EnclaveConfig
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_FOLDER = Path(__file__).parent / "attestation"
_INITIATOR, _RESPONDER = 0, 1
_UNEXPECTED, _INVALID_PARAMETER, _INVALID_STATE, _KDF_MISMATCH = 1, 2, 5, 0x4011
_MESSAGE_1, _MESSAGE_2, _MESSAGE_3 = 576, 512, 452
_PROD_ID_AT = 256


@pytest.fixture(scope="module")
def sides(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Any]]:
    """Return initiator and responder: of one image, and told apart by their product numbers."""
    folder, edl = tmp_path_factory.mktemp("attestation"), _FOLDER / "attestation.edl"
    image = build([_FOLDER / "attestation.c"], edl, folder / "side.so", toolchain=toolchain)
    for product in (_INITIATOR, _RESPONDER):
        config = EnclaveConfig(isv_prod_id=product)
        sign(image, folder / f"{product}.so", signing_key, config=config)
    with (
        enclave.load(folder / "0.so", edl=edl) as initiator,
        enclave.load(folder / "1.so", edl=edl) as responder,
    ):
        yield initiator, responder


def _to_message_2(sides: tuple[Any, Any], version: int) -> bytearray:
    """Go as far as message 2, in a buffer as large as message 1."""
    initiator, responder = sides
    first, second = bytearray(_MESSAGE_1), bytearray(_MESSAGE_1)
    assert initiator.start(_INITIATOR) == responder.start(_RESPONDER) == 0
    assert responder.make_1(first) == 0
    assert initiator.answer_1(version, bytes(first), second) == 0
    return second


def _respond(responder: Any, second: bytes, extra: int = 0) -> tuple[int, bytes, bytes, bytes]:
    third, key, identity = bytearray(512), bytearray(16), bytearray(260)
    status = responder.answer_2(second, extra, third, key, identity)
    return status, bytes(third), bytes(key), bytes(identity)


def _end(initiator: Any, version: int, third: bytes) -> tuple[int, bytes, bytes]:
    key, identity = bytearray(16), bytearray(260)
    status = initiator.end(version, third, key, identity)
    return status, bytes(key), bytes(identity)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("extra", [0, 33])
def test_both_end_with_one_key_and_know_each_other(
    sides: tuple[Any, Any], version: int, extra: int
) -> None:
    second = _to_message_2(sides, version)
    status, third, key, initiator = _respond(sides[1], bytes(second), extra)
    assert status == 0
    status, same, responder = _end(sides[0], version, third)
    assert (status, same) == (0, key)
    assert key != bytes(16)
    assert int.from_bytes(initiator[_PROD_ID_AT : _PROD_ID_AT + 2], "little") == _INITIATOR
    assert int.from_bytes(responder[_PROD_ID_AT : _PROD_ID_AT + 2], "little") == _RESPONDER
    assert initiator[64:96] == responder[64:96] != bytes(32)


@pytest.mark.parametrize("version", [1, 2])
def test_each_session_has_a_key_of_its_own(sides: tuple[Any, Any], version: int) -> None:
    keys = {_respond(sides[1], bytes(_to_message_2(sides, version)))[2] for _ in range(3)}
    assert len(keys) == 3


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("at", [0, 63, 64, 64 + 256, 64 + 320, 64 + 352, 64 + 416, 496, 511])
def test_a_changed_second_message_is_refused(sides: tuple[Any, Any], version: int, at: int) -> None:
    second = _to_message_2(sides, version)
    second[at] ^= 1
    status, _, key, _ = _respond(sides[1], bytes(second))
    assert status in (_UNEXPECTED, _KDF_MISMATCH)
    assert key == bytes(16)
    assert _respond(sides[1], bytes(second))[0] == _INVALID_PARAMETER


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("at", [0, 15, 16, 16 + 64, 16 + 320, 16 + 416, 452])
def test_a_changed_third_message_is_refused(sides: tuple[Any, Any], version: int, at: int) -> None:
    second = _to_message_2(sides, version)
    third = bytearray(_respond(sides[1], bytes(second), 10)[1])
    third[at] ^= 1
    status, key, _ = _end(sides[0], version, bytes(third))
    assert (status, key) == (_UNEXPECTED, bytes(16))


def test_the_other_versions_third_message_is_refused(sides: tuple[Any, Any]) -> None:
    for version in (1, 2):
        second = _to_message_2(sides, version)
        third = _respond(sides[1], bytes(second))[1]
        assert _end(sides[0], 3 - version, third)[0] == _UNEXPECTED


def test_steps_out_of_turn_and_buffers_outside_are_refused(sides: tuple[Any, Any]) -> None:
    initiator, responder = sides
    message = bytearray(_MESSAGE_1)
    assert responder.start(_RESPONDER) == initiator.start(_INITIATOR) == 0
    assert _respond(responder, bytes(message))[0] == _INVALID_STATE
    assert _end(initiator, 1, bytes(512))[0] == _INVALID_STATE
    assert initiator.start(_INITIATOR) == 0
    assert initiator.make_1(message) == _INVALID_PARAMETER
    assert initiator.start(2) == _INVALID_PARAMETER
    assert initiator.outside(4096) == _INVALID_PARAMETER
    second = _to_message_2(sides, 1)
    assert _respond(responder, bytes(second), 0xFFFFFFFF)[0] == _INVALID_PARAMETER
