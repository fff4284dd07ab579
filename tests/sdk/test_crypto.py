# SPDX-License-Identifier: Apache-2.0
"""The enclave's cryptography, on the emulated processor, against vectors and another library."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from ensconce import enclave
from ensconce.image.config import EnclaveConfig
from ensconce.sdk.build import build
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Toolchain

_FOLDER = Path(__file__).parent / "crypto"
_VECTORS: dict[str, list[dict[str, Any]]] = json.loads((_FOLDER / "vectors.json").read_text())
_MAC_MISMATCH, _UNEXPECTED = 0x3001, 1
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_VALID, _INVALID_SIGNATURE = 0, 17
_HASHES: dict[int, tuple[hashes.HashAlgorithm, int]] = {
    1: (hashes.SHA1(), 20),  # noqa: S303 (what the enclave offers, for old protocols)
    256: (hashes.SHA256(), 32),
    384: (hashes.SHA384(), 48),
}


@pytest.fixture(scope="module")
def image(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("crypto") / "crypto.so"
    return build([_FOLDER / "crypto.c"], _FOLDER / "crypto.edl", output, toolchain=toolchain)


@pytest.fixture(scope="module")
def crypto(image: Path, signing_key: SigningKey) -> Iterator[Any]:
    signed = image.with_name("crypto.signed.so")
    sign(image, signed, signing_key, config=EnclaveConfig())
    with enclave.load(signed, edl=_FOLDER / "crypto.edl") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


def test_an_enclave_that_only_hashes_has_nothing_of_the_ciphers(
    image: Path, toolchain: Toolchain, tmp_path: Path
) -> None:
    (tmp_path / "hash.edl").write_text(
        "enclave { trusted { public int go([in, out, size=32] uint8_t* text); }; };"
    )
    source = tmp_path / "hash.c"
    source.write_text(
        '#include "hash_t.h"\n#include "sgx_tcrypto.h"\n'
        "int go(uint8_t *text) { return (int)sgx_sha256_msg(text, 32, (void *)text); }\n"
    )
    small = build([source], tmp_path / "hash.edl", tmp_path / "hash.so", toolchain=toolchain)
    assert small.stat().st_size < image.stat().st_size // 5


_TEXT = st.binary(min_size=2, max_size=300)
_KEY = st.binary(min_size=16, max_size=16)
_NONCE = st.binary(min_size=12, max_size=12)


@pytest.mark.parametrize("vector", _VECTORS["hash"], ids=lambda each: each["name"])
def test_hashes_give_the_standards_answers(crypto: Any, vector: dict[str, Any]) -> None:
    whole, parts = bytearray(48), bytearray(48)
    text = bytes.fromhex(vector["text"])
    assert crypto.hash(vector["bits"], text, len(text), 1, whole, parts) == 0
    expected = bytes.fromhex(vector["sum"])
    assert whole[: len(expected)] == parts[: len(expected)] == expected


@pytest.mark.parametrize("bits", [1, 256, 384])
@given(text=_TEXT, data=st.data())
def test_hashes_agree_with_another_library(
    crypto: Any, bits: int, text: bytes, data: st.DataObject
) -> None:
    algorithm, size = _HASHES[bits]
    peer = hashes.Hash(algorithm)
    peer.update(text)
    whole, parts = bytearray(48), bytearray(48)
    split = data.draw(st.integers(0, len(text)))
    assert crypto.hash(bits, text, len(text), split, whole, parts) == 0
    assert whole[:size] == parts[:size] == peer.finalize()


@pytest.mark.parametrize("vector", _VECTORS["gcm"], ids=lambda each: each["name"])
def test_gcm_gives_the_standards_answers(crypto: Any, vector: dict[str, Any]) -> None:
    key, nonce, text, extra, sealed = (
        bytes.fromhex(vector[name]) for name in ("key", "nonce", "text", "extra", "sealed")
    )
    if len(key) == 16:
        assert _encrypt(crypto, key, nonce, text, extra) == sealed
    result = bytearray(len(text))
    arguments = (key, len(key), nonce, sealed[:-16], len(text), extra, len(extra), result)
    assert crypto.gcm_decrypt(*arguments, sealed[-16:]) == 0
    assert result == text


def _encrypt(crypto: Any, key: bytes, nonce: bytes, text: bytes, extra: bytes) -> bytes:
    result, tag = bytearray(len(text)), bytearray(16)
    arguments = (key, len(key), nonce, text, len(text), extra, len(extra), result, tag)
    assert crypto.gcm_encrypt(*arguments) == 0
    return bytes(result + tag)


@given(key=_KEY, nonce=_NONCE, text=st.binary(min_size=1, max_size=2000), extra=_TEXT)
def test_gcm_agrees_with_another_library(
    crypto: Any, key: bytes, nonce: bytes, text: bytes, extra: bytes
) -> None:
    sealed = AESGCM(key).encrypt(nonce, text, extra)
    assert _encrypt(crypto, key, nonce, text, extra) == sealed
    result = bytearray(b"\xaa" * len(text))
    arguments = (key, 16, nonce, sealed[:-16], len(text), extra, len(extra), result)
    assert crypto.gcm_decrypt(*arguments, sealed[-16:]) == 0
    assert result == text
    result[:] = b"\xaa" * len(text)
    assert crypto.gcm_decrypt(*arguments, bytes([sealed[-16] ^ 1]) + sealed[-15:]) == _MAC_MISMATCH
    assert result == bytes(len(text))


@given(key=_KEY, nonce=_NONCE, text=_TEXT, extra=_TEXT, data=st.data())
def test_gcm_in_parts_gives_the_same(
    crypto: Any, key: bytes, nonce: bytes, text: bytes, extra: bytes, data: st.DataObject
) -> None:
    split = data.draw(st.integers(1, len(text) - 1))
    result, early, tag = bytearray(len(text)), bytearray(16), bytearray(16)
    arguments = (key, nonce, text, len(text), split, extra, len(extra), result, early, tag)
    assert crypto.gcm_parts(*arguments) == 0
    assert result + tag == AESGCM(key).encrypt(nonce, text, extra)
    assert early == AESGCM(key).encrypt(nonce, text[:split], extra)[-16:]


@pytest.mark.parametrize("size", [16, 32])
def test_gcm_makes_its_own_nonce_for_keys_of_two_sizes(crypto: Any, size: int) -> None:
    key, text = bytes(range(size)), b"what nobody may see"
    nonces = set()
    for _ in range(4):
        result, nonce, tag = bytearray(len(text)), bytearray(12), bytearray(16)
        assert crypto.gcm_own_nonce(key, size, text, len(text), result, nonce, tag) == 0
        assert AESGCM(key).decrypt(bytes(nonce), bytes(result + tag), None) == text
        nonces.add(bytes(nonce))
    assert len(nonces) == 4


@pytest.mark.parametrize("vector", _VECTORS["cmac"], ids=lambda each: each["name"])
def test_cmac_gives_the_standards_answers(crypto: Any, vector: dict[str, Any]) -> None:
    key, text, tag = (bytes.fromhex(vector[name]) for name in ("key", "text", "tag"))
    whole, parts = bytearray(16), bytearray(16)
    assert crypto.cmac(key, text, len(text), 7, whole, parts) == 0
    assert whole == parts == tag


@given(key=_KEY, text=_TEXT, data=st.data())
def test_cmac_agrees_with_another_library(
    crypto: Any, key: bytes, text: bytes, data: st.DataObject
) -> None:
    peer = CMAC(AES128(key))
    peer.update(text)
    whole, parts = bytearray(16), bytearray(16)
    split = data.draw(st.integers(0, len(text)))
    assert crypto.cmac(key, text, len(text), split, whole, parts) == 0
    assert whole == parts == peer.finalize()


@given(key=st.binary(min_size=1, max_size=100), text=_TEXT, data=st.data())
def test_hmac_agrees_with_another_library(
    crypto: Any, key: bytes, text: bytes, data: st.DataObject
) -> None:
    peer = hmac.HMAC(key, hashes.SHA256())
    peer.update(text)
    whole, parts = bytearray(32), bytearray(32)
    split = data.draw(st.integers(1, len(text) - 1))
    assert crypto.hmac(key, len(key), text, len(text), split, whole, parts) == 0
    assert whole == parts == peer.finalize()


def _counters(start: int, bits: int, blocks: int) -> Iterator[int]:
    mask = (1 << bits) - 1
    for number in range(blocks):
        yield (start & ~mask) | (start + number & mask)


@given(
    key=_KEY,
    text=_TEXT,
    bits=st.integers(1, 128),
    start=st.one_of(st.integers(0, 2**128 - 1), st.integers(2**128 - 9, 2**128 - 1)),
)
def test_ctr_counts_in_as_many_bits_as_it_is_told(
    crypto: Any, key: bytes, text: bytes, bits: int, start: int
) -> None:
    blocks = -(-len(text) // 16)
    *counters, following = _counters(start, bits, blocks + 1)
    peer = Cipher(AES128(key), modes.ECB()).encryptor()  # noqa: S305 (one block per counter)
    stream = peer.update(b"".join(each.to_bytes(16) for each in counters))
    counter, result = bytearray(start.to_bytes(16)), bytearray(len(text))
    assert crypto.ctr(key, text, len(text), counter, bits, result, 0) == 0
    assert result == bytes(a ^ b for a, b in zip(text, stream, strict=False))
    assert counter == following.to_bytes(16)
    counter, back = bytearray(start.to_bytes(16)), bytearray(len(text))
    assert crypto.ctr(key, bytes(result), len(text), counter, bits, back, 1) == 0
    assert back == text


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(key, "little"), ec.SECP256R1())


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32, "little") + numbers.y.to_bytes(32, "little")


def test_a_key_pair_is_one_in_another_library_too(crypto: Any) -> None:
    keys = set()
    for _ in range(4):
        key, point, again = bytearray(32), bytearray(64), bytearray(64)
        assert crypto.new_key(key, point) == crypto.point_of(bytes(key), again) == 0
        assert point == again == _point(_private(bytes(key)).public_key())
        keys.add(bytes(key))
    assert len(keys) == 4


def test_only_points_of_the_curve_pass(crypto: Any) -> None:
    point = _point(ec.generate_private_key(ec.SECP256R1()).public_key())
    swapped = point[32:] + point[:32]
    for candidate, expected in ((point, 1), (swapped, 0), (bytes(64), 0), (b"\xff" * 64, 0)):
        valid = bytearray(4)
        assert crypto.is_point(candidate, valid) == 0
        assert valid[0] == expected
    shared = bytearray(32)
    assert crypto.agree(bytes([5, *bytes(31)]), swapped, shared) == _UNEXPECTED
    assert shared == bytes(32)


def test_two_sides_agree_on_a_secret(crypto: Any) -> None:
    key, point, shared = bytearray(32), bytearray(64), bytearray(32)
    assert crypto.new_key(key, point) == 0
    other = ec.generate_private_key(ec.SECP256R1())
    assert crypto.agree(bytes(key), _point(other.public_key()), shared) == 0
    assert shared[::-1] == other.exchange(ec.ECDH(), _private(bytes(key)).public_key())


def test_ecdsa_signatures_cross_libraries_and_a_changed_one_fails(crypto: Any) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    scalar = own.private_numbers().private_value.to_bytes(32, "little")
    text, made = b"a text that is signed", bytearray(64)
    assert crypto.sign_text(scalar, text, len(text), made) == 0
    r, s = (int.from_bytes(made[at : at + 32], "little") for at in (0, 32))
    own.public_key().verify(encode_dss_signature(r, s), text, ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(own.sign(text, ec.ECDSA(hashes.SHA256())))
    theirs = r.to_bytes(32, "little") + s.to_bytes(32, "little")
    result = bytearray(1)
    for signature, expected in ((bytes(made), 0), (theirs, 0), (theirs[::-1], 17), (bytes(64), 17)):
        point = _point(own.public_key())
        assert crypto.verify_text(point, text, len(text), signature, result) == 0
        assert result[0] == expected


@given(seed=st.binary(min_size=1, max_size=64))
def test_a_key_out_of_random_bytes_is_in_the_curves_order(crypto: Any, seed: bytes) -> None:
    key = bytearray(32)
    order = (_ORDER - 1).to_bytes(32, "little")
    assert crypto.derive_key(seed, len(seed), order, key) == 0
    assert int.from_bytes(key) == int.from_bytes(seed, "little") % (_ORDER - 1) + 1


def _little(value: int, size: int = 384) -> bytes:
    return value.to_bytes(size, "little")


def _factors(key: rsa.RSAPrivateKey) -> bytes:
    numbers = key.private_numbers()
    parts = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    return b"".join(_little(part, 192) for part in parts)


@pytest.mark.parametrize(("e", "check"), [(65537, 0), (65537, 1), (0, 0)])
def test_rsa_signatures_are_another_librarys(
    crypto: Any, rsa_key: rsa.RSAPrivateKey, e: int, check: int
) -> None:
    text, made = b"a text that is signed", bytearray(384)
    n, d = rsa_key.public_key().public_numbers().n, rsa_key.private_numbers().d
    assert crypto.rsa_sign(_little(n), _little(d), e, check, text, len(text), made) == 0
    assert made == rsa_key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    for signed, expected in ((text, 0), (text[1:], 1)):
        result = bytearray(4)
        status = crypto.rsa_verify(_little(n), 65537, signed, len(signed), bytes(made), result)
        assert (status, result[0]) == (0, expected)


@pytest.mark.parametrize("form", [1, 2, 3])
def test_rsa_encryption_crosses_libraries(
    crypto: Any, rsa_key: rsa.RSAPrivateKey, form: int
) -> None:
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    n, d = rsa_key.public_key().public_numbers().n, rsa_key.private_numbers().d
    text, result = b"a secret", bytearray(384)
    assert crypto.rsa_encrypt(_little(n), 65537, text, len(text), result) == 0
    assert rsa_key.decrypt(bytes(result), oaep) == text
    sealed = rsa_key.public_key().encrypt(text, oaep)
    opened, size = bytearray(384), bytearray(8)
    arguments = (_little(n), 65537, _little(d), _factors(rsa_key), form)
    assert crypto.rsa_decrypt(*arguments, sealed, opened, size) == 0
    assert opened[: int.from_bytes(size, "little")] == text
    assert crypto.rsa_decrypt(*arguments, sealed[::-1], opened, size) == _UNEXPECTED


def test_an_rsa_key_made_inside_works_outside(crypto: Any) -> None:
    n, d, factors = bytearray(384), bytearray(384), bytearray(960)
    assert crypto.rsa_key_pair(65537, n, d, factors) == 0
    p, q, dmp1, dmq1, iqmp = (
        int.from_bytes(factors[at : at + 192], "little") for at in range(0, 960, 192)
    )
    public = rsa.RSAPublicNumbers(65537, int.from_bytes(n, "little"))
    numbers = rsa.RSAPrivateNumbers(p, q, int.from_bytes(d, "little"), dmp1, dmq1, iqmp, public)
    key = numbers.private_key()
    assert key.key_size == 3072
    signature = key.sign(b"text", padding.PKCS1v15(), hashes.SHA256())
    key.public_key().verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, b"test", padding.PKCS1v15(), hashes.SHA256())


def test_what_is_missing_or_too_large_is_refused(crypto: Any) -> None:
    assert crypto.refusals() == 0


def test_no_function_claims_to_be_validated(crypto: Any) -> None:
    assert {crypto.approved(number) for number in (*range(1, 28), -0xFF)} == {0}
