# SPDX-License-Identifier: Apache-2.0
"""SIGSTRUCT: what EINIT would refuse, and signatures that are made elsewhere."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.image.building import DATE

from ensconce.crypto import rsa3072_sign
from ensconce.errors import ConfigError, VerificationError
from ensconce.image import (
    finish_sigstruct,
    key_signer,
    sign_sigstruct,
    sigstruct_fault,
    verify_sigstruct,
)
from ensconce.image.sigstruct import DEBUG_HEADER, check_signing_key
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.sigstruct import SigStruct

UNSIGNED = SigStruct(
    date=DATE,
    attributes=Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY),
    enclave_hash=bytes(range(32)),
    isv_prod_id=1,
)


@pytest.fixture(scope="module")
def good(key: rsa.RSAPrivateKey) -> SigStruct:
    return sign_sigstruct(UNSIGNED, key.public_key(), key_signer(key))


def test_a_signature_made_here_is_what_einit_takes(good: SigStruct) -> None:
    assert sigstruct_fault(good) == ""
    verify_sigstruct(good, source="e.so")


def test_the_key_s_numbers_are_little_endian(good: SigStruct, key: rsa.RSAPrivateKey) -> None:
    modulus = key.public_key().public_numbers().n
    signature = int.from_bytes(good.signature, "little")
    assert int.from_bytes(good.modulus, "little") == modulus
    assert int.from_bytes(good.q1, "little") == signature**2 // modulus
    q2 = (signature**3 - signature**2 // modulus * signature * modulus) // modulus
    assert int.from_bytes(good.q2, "little") == q2


def test_a_debug_release_has_a_header_of_its_own(key: rsa.RSAPrivateKey) -> None:
    debug = replace(UNSIGNED, header=DEBUG_HEADER)
    assert not sigstruct_fault(sign_sigstruct(debug, key.public_key(), key_signer(key)))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"header": bytes(16)}, "header constants"),
        ({"header2": bytes(16)}, "header constants"),
        ({"vendor": 1}, "vendor 0x1"),
        ({"reserved1": b"\1" + bytes(83)}, "reserved1"),
        ({"reserved4": b"\1" + bytes(11)}, "reserved4"),
        ({"exponent": 65537}, "exponent is 65537"),
        ({"signature": b"\xff" * 384}, "not smaller than its modulus"),
        ({"isv_svn": 9}, "does not verify"),
        ({"modulus": b"\xff" * 384}, "does not verify"),
        ({"modulus": bytes(384)}, "not smaller than its modulus"),
        ({"q1": bytes(384)}, "Q1 or Q2"),
        ({"q2": bytes(384)}, "Q1 or Q2"),
    ],
)
def test_each_fault_is_named(good: SigStruct, change: dict[str, bytes | int], fault: str) -> None:
    broken = replace(good, **change)  # type: ignore[arg-type]  # fields by name
    assert fault in sigstruct_fault(broken)
    with pytest.raises(VerificationError, match=r"the SIGSTRUCT of e\.so is not valid"):
        verify_sigstruct(broken, source="e.so")


def test_the_private_key_can_live_elsewhere(key: rsa.RSAPrivateKey) -> None:
    asked: list[bytes] = []

    def vault(message: bytes) -> bytes:
        asked.append(message)
        return rsa3072_sign(key, message)

    assert not sigstruct_fault(sign_sigstruct(UNSIGNED, key.public_key(), vault))
    assert asked == [UNSIGNED.signed_bytes()]
    assert len(asked[0]) == 256


def test_a_signature_over_something_else_is_refused(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(VerificationError, match="not the signing key's"):
        finish_sigstruct(UNSIGNED, key.public_key(), rsa3072_sign(key, b"something else"))


@pytest.mark.parametrize(("bits", "exponent"), [(2048, 3), (3072, 65537)])
def test_only_rsa_3072_with_exponent_3_signs(bits: int, exponent: int) -> None:
    other = rsa.generate_private_key(public_exponent=exponent, key_size=bits)
    with pytest.raises(ConfigError, match=f"RSA-{bits} key with exponent {exponent}"):
        check_signing_key(other, source="key.pem")
