# SPDX-License-Identifier: Apache-2.0
"""The primitives that SGX fixes, against published vectors."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ensconce.crypto import (
    aes_cmac,
    generate_signing_key,
    p256_key,
    p256_point,
    p256_sign,
    rsa3072_quotients,
    rsa3072_sign,
    rsa3072_verify,
)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return generate_signing_key()


@pytest.mark.parametrize(
    ("length", "tag"),
    [
        (0, "bb1d6929e95937287fa37d129b756746"),
        (16, "070a16b46b4d4144f79bdd9dd04a287c"),
        (40, "dfa66747de9ae63030ca32611497c827"),
    ],
)
def test_aes_cmac_gives_the_tags_of_rfc_4493(length: int, tag: str) -> None:
    message = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411"
    )
    assert aes_cmac(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), message[:length]) == (
        bytes.fromhex(tag)
    )


def test_a_signature_verifies_and_a_changed_one_does_not(key: rsa.RSAPrivateKey) -> None:
    modulus = key.public_key().public_numbers().n
    signature = rsa3072_sign(key, b"message")
    assert rsa3072_verify(modulus, signature, b"message")
    assert not rsa3072_verify(modulus, signature, b"massage")
    assert not rsa3072_verify(modulus, bytes([signature[0] ^ 1]) + signature[1:], b"message")


@pytest.mark.parametrize("modulus", [0, 1, 1 << 3071, (1 << 3072) - 2, 1 << 5000])
def test_a_modulus_that_is_none_is_refused(modulus: int) -> None:
    assert not rsa3072_verify(modulus, bytes(384), b"")


def test_the_quotients_are_those_of_the_manual(key: rsa.RSAPrivateKey) -> None:
    modulus = key.public_key().public_numbers().n
    signature = int.from_bytes(rsa3072_sign(key, b"message"))
    q1, q2 = rsa3072_quotients(modulus, signature)
    remainder = signature**2 - q1 * modulus
    assert 0 <= remainder < modulus
    assert 0 <= remainder * signature - q2 * modulus < modulus


def test_a_p256_signature_is_that_of_rfc_6979() -> None:
    private = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    key = ec.derive_private_key(private, ec.SECP256R1())
    assert p256_sign(key, b"sample") == bytes.fromhex(
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    )
    assert p256_point(key.public_key()) == bytes.fromhex(
        "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    )


def test_every_secret_is_a_p256_key() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    keys = [p256_key(number.to_bytes(40, "big")) for number in (0, order - 2, order - 1, order)]
    values = [key.private_numbers().private_value for key in keys]
    assert values == [1, order - 1, 1, 2]
    with pytest.raises(ValueError, match="40 bytes"):
        p256_key(bytes(39))
