# SPDX-License-Identifier: Apache-2.0
"""EINIT: every check of SIGSTRUCT and EINITTOKEN (SDM vol. 3D, 40.3)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.machine.building import BASIC, bare, basic_parts, initialize, signed

from ensconce.crypto import aes_cmac
from ensconce.errors import Fault
from ensconce.isa.attributes import AttributeFlags, Attributes, CetAttributes, MiscSelect, Xfrm
from ensconce.isa.keyrequest import KeyName
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.ssa import Vector
from ensconce.isa.token import EInitToken
from ensconce.machine.encls_init import einit
from ensconce.machine.processor import Processor
from ensconce.machine.secs_page import SecsPage

ALL = Attributes(AttributeFlags((1 << 64) - 1), Xfrm((1 << 64) - 1))


@pytest.fixture
def secs(cpu: Processor) -> Iterator[SecsPage]:
    with bare(cpu, basic_parts()) as secs:
        yield secs


def answer(cpu: Processor, secs: SecsPage, sigstruct: SigStruct, *token: EInitToken) -> object:
    try:
        einit(cpu, secs, sigstruct, *token)
    except Fault as fault:
        assert not secs.initialized
        return fault.code
    return ErrorCode.SUCCESS


def test_an_initialised_enclave_has_the_identity_of_its_sigstruct(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    sigstruct = initialize(cpu, secs, key, isv_svn=5, isv_prod_id=6)
    assert secs.initialized
    assert secs.attributes & AttributeFlags.INIT
    assert (secs.secs.isv_svn, secs.secs.isv_prod_id) == (5, 6)
    assert secs.secs.mr_signer == sigstruct.mr_signer
    assert secs.secs.mr_enclave == sigstruct.enclave_hash


def test_an_enclave_initialises_once(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    sigstruct = initialize(cpu, secs, key)
    with pytest.raises(Fault) as caught:
        einit(cpu, secs, sigstruct)
    assert caught.value.code is Vector.GP


@pytest.mark.parametrize(
    "fields",
    [
        {"header": bytes(16)},
        {"header2": bytes(16)},
        {"vendor": 1},
        {"reserved1": b"\1" * 84},
        {"reserved2": b"\1" * 2},
        {"reserved3": b"\1" * 16},
        {"reserved4": b"\1" * 12},
        {"exponent": 65537},
        {"isv_family_id": b"\1" * 16},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_malformed_sigstruct_is_refused(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey, fields: dict[str, object]
) -> None:
    sigstruct = signed(key, secs.measurement.digest(), **fields)
    assert answer(cpu, secs, sigstruct) is ErrorCode.INVALID_SIG_STRUCT


@pytest.mark.parametrize("field", ["signature", "q1", "q2", "modulus"])
def test_an_invalid_signature_is_refused(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey, field: str
) -> None:
    sigstruct = signed(key, secs.measurement.digest())
    value = bytearray(getattr(sigstruct, field))
    value[7] ^= 1
    changed = replace(sigstruct, **{field: bytes(value)})  # type: ignore[arg-type]  # by name
    assert answer(cpu, secs, changed) is ErrorCode.INVALID_SIGNATURE


def test_a_field_changed_after_signing_is_refused(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    sigstruct = replace(signed(key, secs.measurement.digest()), isv_svn=9)
    assert answer(cpu, secs, sigstruct) is ErrorCode.INVALID_SIGNATURE


def test_another_enclaves_sigstruct_is_refused(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    assert answer(cpu, secs, signed(key, b"\1" * 32)) is ErrorCode.INVALID_MEASUREMENT


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": Attributes(BASIC, Xfrm.LEGACY | Xfrm.AVX), "attribute_mask": ALL},
        {
            "attributes": Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY),
            "attribute_mask": Attributes(AttributeFlags.DEBUG, Xfrm(0)),
        },
        {"misc_select": MiscSelect(0), "misc_mask": MiscSelect.EXINFO},
        {
            "cet_attributes": CetAttributes.ENDBR_EN,
            "cet_attributes_mask": CetAttributes.ENDBR_EN,
        },
    ],
)
def test_attributes_that_sigstruct_does_not_allow_are_refused(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey, fields: dict[str, object]
) -> None:
    sigstruct = signed(key, secs.measurement.digest(), **fields)
    assert answer(cpu, secs, sigstruct) is ErrorCode.INVALID_ATTRIBUTE


def test_without_a_token_the_signer_must_be_the_launch_key(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    sigstruct = signed(key, secs.measurement.digest())
    assert answer(cpu, secs, sigstruct) is ErrorCode.INVALID_EINITTOKEN
    cpu.launch_hash = sigstruct.mr_signer
    assert answer(cpu, secs, sigstruct) is ErrorCode.SUCCESS


def test_the_token_key_is_for_enclaves_of_the_launch_key(
    cpu: Processor, key: rsa.RSAPrivateKey
) -> None:
    attributes = Attributes(BASIC | AttributeFlags.EINITTOKENKEY, Xfrm.LEGACY)
    with bare(cpu, basic_parts(), attributes=attributes) as secs:
        sigstruct = signed(key, secs.measurement.digest())
        assert answer(cpu, secs, sigstruct) is ErrorCode.INVALID_ATTRIBUTE
        cpu.launch_hash = sigstruct.mr_signer
        assert answer(cpu, secs, sigstruct) is ErrorCode.SUCCESS


LAUNCHER = b"\7" * 32


def token(cpu: Processor, secs: SecsPage, sigstruct: SigStruct, **fields: object) -> EInitToken:
    """Return what a launch enclave would sign, changed by `fields` before the MAC is made."""
    made = replace(
        EInitToken(
            valid=1,
            attributes=Attributes(AttributeFlags(secs.attributes), Xfrm(secs.xfrm)),
            mr_enclave=sigstruct.enclave_hash,
            mr_signer=sigstruct.mr_signer,
            cpu_svn_le=cpu.cpu_svn,
            masked_attributes_le=Attributes(BASIC | AttributeFlags.INIT, Xfrm.LEGACY),
            key_id=b"\3" * 32,
        ),
        **fields,  # type: ignore[arg-type]  # by name
    )
    try:
        mac_key = cpu.keys.key(
            KeyName.EINITTOKEN,
            made.cpu_svn_le,
            attributes=bytes(made.masked_attributes_le),
            mr_signer=LAUNCHER,
            key_id=made.key_id,
        )
    except Fault:
        return made
    return replace(made, mac=aes_cmac(mac_key, bytes(made)[:192]))


def test_a_launch_enclaves_token_lets_another_signers_enclave_run(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    cpu.launch_hash = LAUNCHER
    sigstruct = signed(key, secs.measurement.digest())
    assert answer(cpu, secs, sigstruct, token(cpu, secs, sigstruct)) is ErrorCode.SUCCESS


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"reserved1": b"\1" * 44}, ErrorCode.INVALID_EINITTOKEN),
        ({"valid": 3}, ErrorCode.INVALID_EINITTOKEN),
        ({"cpu_svn_le": b"\xff" * 16}, ErrorCode.INVALID_CPUSVN),
        ({"mr_enclave": b"\1" * 32}, ErrorCode.INVALID_MEASUREMENT),
        ({"mr_signer": b"\1" * 32}, ErrorCode.INVALID_MEASUREMENT),
        ({"attributes": Attributes(BASIC, Xfrm(7))}, ErrorCode.INVALID_ATTRIBUTE),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.name,
)
def test_a_token_for_something_else_is_refused(
    cpu: Processor,
    secs: SecsPage,
    key: rsa.RSAPrivateKey,
    fields: dict[str, object],
    code: ErrorCode,
) -> None:
    cpu.launch_hash = LAUNCHER
    sigstruct = signed(key, secs.measurement.digest())
    assert answer(cpu, secs, sigstruct, token(cpu, secs, sigstruct, **fields)) is code


def test_a_token_with_a_wrong_mac_is_refused(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    cpu.launch_hash = LAUNCHER
    sigstruct = signed(key, secs.measurement.digest())
    wrong = replace(token(cpu, secs, sigstruct), mac=bytes(16))
    assert answer(cpu, secs, sigstruct, wrong) is ErrorCode.INVALID_EINITTOKEN


def test_a_debug_launch_enclave_launches_debug_enclaves_only(
    cpu: Processor, key: rsa.RSAPrivateKey
) -> None:
    cpu.launch_hash = LAUNCHER
    production = Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY)
    with bare(cpu, basic_parts(), attributes=production) as secs:
        sigstruct = signed(key, secs.measurement.digest())
        made = token(cpu, secs, sigstruct)
        assert answer(cpu, secs, sigstruct, made) is ErrorCode.INVALID_EINITTOKEN
        launcher = Attributes(AttributeFlags.MODE64BIT, Xfrm.LEGACY)
        made = token(cpu, secs, sigstruct, masked_attributes_le=launcher)
        assert answer(cpu, secs, sigstruct, made) is ErrorCode.SUCCESS
