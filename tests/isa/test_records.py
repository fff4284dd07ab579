# SPDX-License-Identifier: Apache-2.0
"""Every architectural structure: its size, its exact round trip, where its fields lie."""

from random import Random
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.errors import FormatError
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.keyrequest import KeyRequest
from ensconce.isa.paging import Pcmd
from ensconce.isa.record import U8, U16, Record, Reserved, record
from ensconce.isa.report import Report, ReportBody, TargetInfo
from ensconce.isa.secinfo import PageInfo, SecInfo
from ensconce.isa.secs import Secs
from ensconce.isa.sigstruct import SigStruct
from ensconce.isa.ssa import ExInfo, GprSgx
from ensconce.isa.tcs import Tcs
from ensconce.isa.token import EInitToken

# sizes as SDM vol. 3D chapter 38 states them
SIZES: dict[type[Record], int] = {
    Attributes: 16,
    Secs: 4096,
    Tcs: 4096,
    GprSgx: 184,
    ExInfo: 16,
    SecInfo: 64,
    PageInfo: 32,
    Pcmd: 128,
    SigStruct: 1808,
    EInitToken: 304,
    ReportBody: 384,
    Report: 432,
    TargetInfo: 512,
    KeyRequest: 512,
}
EVERY_RECORD = pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.__name__)


@EVERY_RECORD
def test_a_record_has_the_size_of_the_manual(kind: type[Record]) -> None:
    assert SIZES[kind] == kind.SIZE


@EVERY_RECORD
@given(seed=st.integers(0, 1 << 64))
def test_any_bytes_round_trip_exactly(kind: type[Record], seed: int) -> None:
    raw = Random(seed).randbytes(kind.SIZE)  # noqa: S311 # bytes for a test
    parsed = kind.parse(raw)
    assert bytes(parsed) == raw
    assert kind.parse(bytes(parsed)) == parsed


@EVERY_RECORD
@given(length=st.integers(0, 5000))
def test_a_record_of_another_length_is_refused(kind: type[Record], length: int) -> None:
    if length == kind.SIZE:
        return
    with pytest.raises(FormatError, match=f"takes {kind.SIZE}"):
        kind.parse(bytes(length), source="input")


@pytest.mark.parametrize(
    ("kind", "name", "offset"),
    [
        (Secs, "misc_select", 20),
        (Secs, "attributes", 48),
        (Secs, "mr_signer", 128),
        (Secs, "config_svn", 260),
        (Tcs, "ossa", 16),
        (Tcs, "oentry", 32),
        (Tcs, "gs_limit", 68),
        (Tcs, "prev_ssp", 80),
        (GprSgx, "rip", 136),
        (GprSgx, "exit_info", 160),
        (GprSgx, "aex_notify", 167),
        (GprSgx, "gs_base", 176),
        (SigStruct, "modulus", 128),
        (SigStruct, "misc_select", 900),
        (SigStruct, "enclave_hash", 960),
        (SigStruct, "isv_svn", 1026),
        (SigStruct, "q2", 1424),
        (EInitToken, "cpu_svn_le", 192),
        (EInitToken, "masked_misc_select_le", 236),
        (EInitToken, "mac", 288),
        (ReportBody, "isv_ext_prod_id", 32),
        (ReportBody, "isv_prod_id", 256),
        (ReportBody, "report_data", 320),
        (TargetInfo, "config_svn", 50),
        (TargetInfo, "config_id", 64),
        (KeyRequest, "cpu_svn", 8),
        (KeyRequest, "misc_mask", 72),
        (Pcmd, "mac", 112),
    ],
)
def test_a_field_lies_where_the_manual_puts_it(kind: type[Record], name: str, offset: int) -> None:
    assert kind.offset_of(name) == offset


def test_reserved_bytes_are_kept_and_named() -> None:
    raw = bytearray(Report.SIZE)
    raw[21] = raw[300] = 1
    report = Report.parse(raw)
    assert report.reserved_nonzero() == ("body.reserved1", "body.reserved4")
    assert bytes(report) == raw


def test_sizes_that_do_not_add_up_fail_at_import() -> None:
    with pytest.raises(TypeError, match="adds up to 3 bytes, not 4"):

        @record(4)
        class Wrong(Record):
            one: U8
            two: U16


def test_a_byte_field_of_another_length_is_refused_rather_than_padded() -> None:
    @record(4)
    class Small(Record):
        body: Annotated[bytes, 2]
        reserved: Annotated[bytes, Reserved(2)] = bytes(2)

    with pytest.raises(ValueError, match="body takes 2 bytes, not 1"):
        bytes(Small(b"x"))


def test_a_record_inside_a_larger_buffer_is_read_at_its_offset() -> None:
    inner = SecInfo()
    assert SecInfo.parse_at(bytes(10) + bytes(inner), 10) == inner
    with pytest.raises(FormatError):
        SecInfo.parse_at(bytes(73), 10)
    with pytest.raises(FormatError, match="negative"):
        SecInfo.parse_at(bytes(73), -1)


def test_unknown_flags_are_kept() -> None:
    flags = AttributeFlags(1 << 63 | 1)
    assert flags.reserved == 1 << 63
    assert Attributes.parse(bytes(Attributes(flags))).flags == flags


LEGAL_XFRM = (3, 7, 0xE7, 0x1B, 0x60003)
ILLEGAL_XFRM = (0, 1, 0x83, 0xE3, 0x0B, 0x20003)


@pytest.mark.parametrize("value", LEGAL_XFRM + ILLEGAL_XFRM)
def test_xfrm_is_legal_where_xcr0_would_be(value: int) -> None:
    assert Xfrm(value).legal is (value in LEGAL_XFRM)


def test_the_signature_covers_the_two_ranges_of_the_manual() -> None:
    raw = bytes(index % 251 for index in range(SigStruct.SIZE))
    assert SigStruct.parse(raw).signed_bytes() == raw[:128] + raw[900:1028]
