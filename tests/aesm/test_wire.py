# SPDX-License-Identifier: Apache-2.0
"""Messages: bytes as the protocol has them, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.aesm.codes import Code
from ensconce.aesm.messages import KINDS, Kind, Request
from ensconce.aesm.wire import (
    MOST_ANSWER,
    code_of,
    frame,
    make_answer,
    parse_answer,
    parse_request,
    request,
)
from ensconce.errors import ProtocolError

BY_NAME = {kind.name: kind for kind in KINDS}

# Written by hand from the numbers of the protocol: tag (number << 3 | 2), length, fields.
REQUESTS = [
    ("get_supported_att_key_id_num", {"timeout": 30_000_000}, "aa0105 488087a70e"),
    ("get_supported_att_key_ids", {"buf_size": 256}, "b20103 088002"),
    ("select_att_key_id", {"timeout": 5}, "9a0102 1005"),
    (
        "init_quote_ex",
        {"att_key_id": b"\xaa\xbb", "b_pub_key_id": True, "buf_size": 32},
        "7a08 0a02aabb 1801 2020",
    ),
    ("get_quote_size_ex", {"att_key_id": b"\xaa"}, "820103 0a01aa"),
    (
        "get_quote_ex",
        {"report": b"\x01", "att_key_id": b"\x02", "qe_report_info": b"\x03", "buf_size": 300},
        "8a010c 0a0101 120102 1a0103 20ac02",
    ),
    ("init_quote", {"timeout": 1}, "0a02 4801"),
    ("get_extended_epid_group_id", {}, "6200"),
]
ANSWERS = [
    ("get_supported_att_key_id_num", 0, {"att_key_id_num": 1}, "aa0104 0800 1001"),
    ("get_quote_size_ex", 0, {"quote_size": 4685}, "820105 0800 10cd24"),
    ("select_att_key_id", 38, {}, "9a0102 0826"),
    ("init_quote", 30, {}, "0a02 081e"),
    (
        "init_quote_ex",
        0,
        {"target_info": b"\x09", "pub_key_id_size": 32, "pub_key_id": b"\x08"},
        "7a0a 0800 120109 1820 220108",
    ),
]


@pytest.mark.parametrize(("kind", "fields", "expected"), REQUESTS)
def test_a_request_has_the_protocols_bytes(
    kind: str, fields: dict[str, object], expected: str
) -> None:
    data = request(kind, **fields)
    assert data.hex() == expected.replace(" ", "")
    question = parse_request(data)
    assert question.kind.name == kind
    assert {name: getattr(question.body, name) for name in fields} == fields


@pytest.mark.parametrize(("kind", "code", "fields", "expected"), ANSWERS)
def test_an_answer_has_the_protocols_bytes(
    kind: str, code: int, fields: dict[str, object], expected: str
) -> None:
    data = make_answer(BY_NAME[kind], code, **fields)
    assert data.hex() == expected.replace(" ", "")
    assert code_of(data, BY_NAME[kind]) == code


def test_a_length_is_four_bytes_little_endian() -> None:
    assert frame(bytes(0x1234))[:5] == b"\x34\x12\0\0\0"


def test_of_several_requests_the_vendors_first_one_counts() -> None:
    order = [3, 1, 2, 4, 18, 10, 11, 12, 13, 14, 15, 16, 17, 19, 21, 22]
    assert [kind.number for kind in KINDS] == order
    both = request("init_quote_ex", b_pub_key_id=False) + request("init_quote")
    assert parse_request(both).kind.name == "init_quote"
    assert parse_request(request("get_quote_size_ex") + both).kind.name == "init_quote"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("", "asks for nothing"),
        ("ff", "not a message"),
        ("7a08 0a02aabb", "not a message"),
        ("7a04 0a02aabb", "lacks a field"),
        ("a20100", "asks for nothing"),
        ("0801", "asks for nothing"),
        ("8a0103 0a0101", "lacks a field"),
        ("13" * 200, "not a message"),
    ],
)
def test_what_is_no_request_is_refused(data: str, fault: str) -> None:
    with pytest.raises(ProtocolError, match=fault):
        parse_request(bytes.fromhex(data.replace(" ", "")))


def test_an_answer_to_another_request_is_refused() -> None:
    with pytest.raises(ProtocolError, match="none to get_quote_ex"):
        parse_answer(make_answer(BY_NAME["init_quote_ex"], 0), "get_quote_ex")


def test_an_answer_is_never_too_long() -> None:
    kind = BY_NAME["get_quote_ex"]
    data = make_answer(kind, 0, quote=bytes(MOST_ANSWER))
    assert code_of(data, kind) == Code.PARAMETER_ERROR


def test_an_answer_without_a_code_is_an_unexpected_error() -> None:
    body = parse_answer(bytes.fromhex("0a020801"), "init_quote")
    assert body.error_code == Code.UNEXPECTED_ERROR


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    try:
        question = parse_request(data)
    except ProtocolError:
        return
    assert question.raw == data
    assert question.timeout >= 0


@given(st.sampled_from(KINDS), st.data())
def test_requests_survive_the_way_there(kind: Kind, data: st.DataObject) -> None:
    values: dict[str, st.SearchStrategy[object]] = {
        "bytes": st.binary(max_size=64),
        "uint32": st.integers(0, 2**32 - 1),
        "uint64": st.integers(0, 2**64 - 1),
        "bool": st.booleans(),
    }
    fields = {}
    for text in kind.asks.split():
        name, _, type_ = text.split(":")
        if type_.endswith("!") or data.draw(st.booleans()):
            fields[name] = data.draw(values[type_.rstrip("!")])
    body = parse_request(request(kind.name, **fields)).body
    assert {name: getattr(body, name) for name in fields} == fields
    assert isinstance(Request.FromString(request(kind.name, **fields)), Request)
