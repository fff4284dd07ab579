# SPDX-License-Identifier: Apache-2.0
"""CPUSVN and keys: lower levels are derivable, higher ones never."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.errors import Fault
from ensconce.isa.leaves import ErrorCode
from ensconce.machine.identity import Identity
from ensconce.machine.keys import KeyHierarchy

IDENTITY = Identity.generate(bytes(range(100, 116)))
KEYS = KeyHierarchy(IDENTITY)


@given(lower=st.lists(st.integers(0, 100), min_size=16, max_size=16))
def test_a_level_keeps_its_key_through_a_recovery(lower: list[int]) -> None:
    level = bytes(lower)
    recovered = KeyHierarchy(IDENTITY.recovered(bytes(range(101, 117))))
    assert recovered.level_key(level) == KEYS.level_key(level)


@given(component=st.integers(0, 15), above=st.integers(1, 50))
def test_a_level_with_one_higher_component_is_refused(component: int, above: int) -> None:
    level = bytearray(16)
    level[component] = IDENTITY.cpu_svn[component] + above
    with pytest.raises(Fault) as caught:
        KEYS.level_key(bytes(level))
    assert caught.value.code is ErrorCode.INVALID_CPUSVN


def test_a_recovered_level_has_a_key_of_its_own() -> None:
    recovered = IDENTITY.recovered()
    assert KeyHierarchy(recovered).level_key(recovered.cpu_svn) != KEYS.level_key(IDENTITY.cpu_svn)


def test_every_component_has_a_chain_of_its_own() -> None:
    one, other = bytearray(16), bytearray(16)
    one[0] = other[1] = 5
    assert KEYS.level_key(bytes(one)) != KEYS.level_key(bytes(other))


CHANGES: dict[str, object] = {
    "attributes": b"\1" * 16,
    "attributes_mask": b"\1" * 16,
    "owner": False,
    "seal": False,
    **dict.fromkeys(("policy", "isv_prod_id", "isv_svn", "config_svn"), 1),
    **dict.fromkeys(("cet_attributes", "cet_attributes_mask", "misc_select", "misc_mask"), 1),
    **dict.fromkeys(("mr_enclave", "mr_signer", "key_id"), b"\1" * 32),
    **dict.fromkeys(("isv_family_id", "isv_ext_prod_id"), b"\1" * 16),
    "config_id": b"\1" * 64,
}


def test_every_field_enters_the_key() -> None:
    made = {
        KEYS.key(
            name,
            IDENTITY.cpu_svn,
            **{"attributes": bytes(16), **change},  # type: ignore[arg-type]  # by name
        )
        for change in ({}, *({field: value} for field, value in CHANGES.items()))
        for name in range(5)
    }
    assert len(made) == 5 * (len(CHANGES) + 1)


def test_two_platforms_share_no_key() -> None:
    other = KeyHierarchy(Identity.generate(IDENTITY.cpu_svn))
    svn = IDENTITY.cpu_svn
    assert other.key(4, svn, attributes=bytes(16)) != KEYS.key(4, svn, attributes=bytes(16))


def test_derivation_never_changes_or_sealed_data_would_be_lost() -> None:
    identity = Identity(*(bytes([at]) * size for at, size in enumerate((16, 16, 16, 32, 16))))
    keys = KeyHierarchy(identity)
    made = keys.key(
        4, bytes(16), attributes=b"\5" * 16, mr_signer=b"\6" * 32, isv_svn=7, misc_mask=8
    )
    assert made.hex() == "f294ff1c5d26e8f251da791f8aae6e92"
    assert identity.secret(b"label").hex()[:32] == "0048a487f17c8e98cfbb987e4a63781b"
