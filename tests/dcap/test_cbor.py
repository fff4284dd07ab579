# SPDX-License-Identifier: Apache-2.0
"""The CBOR of evidence: what is written comes back; what is not of the few kinds is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.dcap.cbor import Tagged, Value, decode, encode
from ensconce.errors import FormatError

_NUMBERS = st.integers(0, 2**64 - 1)
_SCALARS = _NUMBERS | st.binary(max_size=300) | st.text(max_size=30)
_VALUES: st.SearchStrategy[Value] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.builds(Tagged, _NUMBERS, inner)
    ),
    max_leaves=6,
)


def depth(value: Value) -> int:
    if isinstance(value, Tagged):
        return 1 + depth(value.value)
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(inner, (int, bytes, str)):
        return 1
    return 1 + max(map(depth, inner), default=0)


@given(_VALUES.filter(lambda value: depth(value) <= 6))
def test_what_is_written_comes_back(value: Value) -> None:
    assert decode(encode(value), "a value") == value


@given(st.binary(max_size=60))
def test_what_can_be_read_is_written_the_same(data: bytes) -> None:
    try:
        value = decode(data, "bytes")
    except FormatError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    "example",
    [
        ("00", 0),
        ("1818", 24),
        ("19ffff", 65535),
        ("1affffffff", 2**32 - 1),
        ("4401020304", b"\1\2\3\4"),
        ("6449455446", "IETF"),
        ("83010203", (1, 2, 3)),
        ("a26161016162820203", {"a": 1, "b": (2, 3)}),
        ("d9ea60820041ff", Tagged(60000, (0, b"\xff"))),
    ],
)
def test_examples_of_the_standard_are_read(example: tuple[str, Value]) -> None:
    assert decode(bytes.fromhex(example[0]), "an example") == example[1]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("", "1 bytes announced"),
        ("0000", "after its end"),
        ("20", "major type 1"),
        ("f5", "major type 7"),
        ("5f4101ff", "indefinite length"),
        ("1c", "indefinite length"),
        ("1817", "shortest form"),
        ("190018", "shortest form"),
        ("1b00000000ffffffff", "shortest form"),
        ("5bffffffffffffffff", "that are not there"),
        ("9bffffffffffffffff", "items announced"),
        ("98ff00", "items announced"),
        ("61ff", "not UTF-8"),
        ("a10101", "no text"),
        ("a2616101616102", "twice"),
        ("81" * 7 + "00", "too many levels"),
        ("c1" * 2000 + "00", "too many levels"),
        ("8418" + "64" * 40, "announced|after its end"),
        ("85" + ("98fa" + "00" * 250) * 5, "too many"),
    ],
)
def test_other_cbor_is_refused(data: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        decode(bytes.fromhex(data), "a value")
