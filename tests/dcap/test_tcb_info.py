# SPDX-License-Identifier: Apache-2.0
"""TCB infos and QE identities are read from their very bytes, and strictly."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dcap.corpus import CORPUS, needs_corpus

from ensconce.dcap import Collateral, TcbStatus
from ensconce.dcap.quote import TeeType
from ensconce.dcap.tcb_info import QeIdentity, TcbInfo
from ensconce.errors import FormatError

Json = dict[str, Any]
DATES = {"issueDate": "2026-11-01T00:00:00Z", "nextUpdate": "2026-12-01T00:00:00Z"}


def level_of(svn: int, pce_svn: int = 10, status: str = "UpToDate") -> Json:
    components = [{"svn": svn}] * 16
    tcb = {"sgxtcbcomponents": components, "tdxtcbcomponents": components, "pcesvn": pce_svn}
    return {"tcb": tcb, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": status}


def tcb_info_of(**changes: Any) -> Json:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    isv = {"tcb": {"isvsvn": 3}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "UpToDate"}
    return {
        "id": "TDX",
        "version": 3,
        **DATES,
        "fmspc": "00A067110000",
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 17,
        "tdxModule": module,
        "tdxModuleIdentities": [module | {"id": "TDX_01", "tcbLevels": [isv]}],
        "tcbLevels": [level_of(2), level_of(1, status="OutOfDate")],
    } | changes


def identity_of(**changes: Any) -> Json:
    level = {"tcb": {"isvsvn": 8}, "tcbDate": "2026-01-01T00:00:00Z", "tcbStatus": "UpToDate"}
    return {
        "id": "QE",
        "version": 2,
        **DATES,
        "tcbEvaluationDataNumber": 17,
        "miscselect": "01000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11" + "00" * 15,
        "attributesMask": "FB" + "FF" * 15,
        "mrsigner": "8C" * 32,
        "isvprodid": 1,
        "tcbLevels": [level],
    } | changes


def text_of(values: Json) -> bytes:
    return json.dumps(values).encode()


def without(values: Json, key: str) -> Json:
    return {name: value for name, value in values.items() if name != key}


def test_a_tcb_info_of_version_3_is_read() -> None:
    info = TcbInfo.parse(text_of(tcb_info_of()))
    assert (info.tee, info.version, info.tcb_evaluation_data_number) == (TeeType.TDX, 3, 17)
    assert info.fmspc == bytes.fromhex("00a067110000")
    assert info.next_update == datetime(2026, 12, 1, tzinfo=UTC)
    assert [module.version for module in info.tdx_modules] == [0, 1]
    assert info.levels[1].status is TcbStatus.OUT_OF_DATE
    assert info.levels[0].sgx_components == info.levels[0].tdx_components == (2,) * 16


def test_a_tcb_info_of_version_2_is_read() -> None:
    tcb = {f"sgxtcbcomp{n:02}svn": n for n in range(1, 17)} | {"pcesvn": 10}
    levels = [level_of(0) | {"tcb": tcb}]
    values = without(tcb_info_of(version=2, tcbLevels=levels), "id")
    info = TcbInfo.parse(text_of(values))
    assert info.tee is TeeType.SGX
    assert info.levels[0].sgx_components == tuple(range(1, 17))
    assert info.levels[0].tdx_components == ()


def test_levels_are_taken_best_first_whatever_their_order() -> None:
    levels = [level_of(1), level_of(2, 9), level_of(3), level_of(2, 10)]
    info = TcbInfo.parse(text_of(tcb_info_of(tcbLevels=levels)))
    found = [(level.sgx_components[0], level.pce_svn) for level in info.levels]
    assert found == [(3, 10), (2, 10), (2, 9), (1, 10)]


def test_identities_of_version_2_and_1_are_read() -> None:
    identity = QeIdentity.parse(text_of(identity_of()))
    assert (identity.misc_select, identity.isv_prod_id) == (1, 1)
    assert (identity.tee, identity.tcb_evaluation_data_number) == (TeeType.SGX, 17)
    old = QeIdentity.parse(text_of(without(identity_of(version=1, isvsvn=4), "tcbLevels")))
    assert (old.tee, old.tcb_evaluation_data_number) == (TeeType.SGX, None)
    assert [level.isv_svn for level in old.levels] == [4, 0]
    assert old.levels[1].status is TcbStatus.OUT_OF_DATE


@pytest.mark.parametrize("key", [key for key in tcb_info_of() if key != "tdxModuleIdentities"])
def test_a_tcb_info_without_a_key_is_refused(key: str) -> None:
    with pytest.raises(FormatError, match=key):
        TcbInfo.parse(text_of(without(tcb_info_of(), key)))


@pytest.mark.parametrize("key", identity_of())
def test_an_identity_without_a_key_is_refused(key: str) -> None:
    with pytest.raises(FormatError, match=key):
        QeIdentity.parse(text_of(without(identity_of(), key)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 1),
        ("version", 4),
        ("version", True),
        ("id", "QE"),
        ("id", None),
        ("issueDate", "2026-11-01"),
        ("nextUpdate", "2026-12-01T00:00:00+01:00"),
        ("fmspc", "00A06711000"),
        ("fmspc", "00A0671100 0"),
        ("pceId", 0),
        ("tcbType", 1),
        ("tcbEvaluationDataNumber", -1),
        ("tcbEvaluationDataNumber", "17"),
        ("tcbLevels", []),
        ("tcbLevels", [1]),
        ("tcbLevels", {}),
        ("tdxModule", []),
        ("tdxModuleIdentities", [{"id": "TDX_01"}]),
        ("tcbLevels", [level_of(1, status="Fine")]),
        ("tcbLevels", [level_of(1, status="TDRelaunchAdvised")]),
        ("tcbLevels", [level_of(256)]),
        ("tcbLevels", [level_of(1, pce_svn=1 << 16)]),
        ("tcbLevels", [level_of(1) | {"advisoryIDs": [1]}]),
        ("tcbLevels", [level_of(1) | {"advisoryIDs": "INTEL-SA-1"}]),
    ],
)
def test_a_tcb_info_with_a_wrong_value_is_refused(key: str, value: Any) -> None:
    with pytest.raises(FormatError):
        TcbInfo.parse(text_of(tcb_info_of(**{key: value})))


@pytest.mark.parametrize("key", ["sgxtcbcomponents", "tdxtcbcomponents"])
@pytest.mark.parametrize("count", [0, 15, 17])
def test_a_level_with_fewer_or_more_components_is_refused(key: str, count: int) -> None:
    level = level_of(1)
    level["tcb"] = level["tcb"] | {key: [{"svn": 1}] * count}
    with pytest.raises(FormatError, match="16 objects"):
        TcbInfo.parse(text_of(tcb_info_of(tcbLevels=[level])))


def test_keys_given_twice_are_refused_at_any_depth() -> None:
    text = text_of(tcb_info_of())
    for once in (b'"version": 3', b'"isvsvn": 3', b'"pcesvn": 10', b'"svn": 2'):
        with pytest.raises(FormatError, match="twice"):
            TcbInfo.parse(text.replace(once, once + b", " + once, 1))


@pytest.mark.parametrize("name", ["TDX_00", "TDX_1", "TDX_GG", "SGX_01", "TDX_001"])
def test_a_module_identity_of_another_name_is_refused(name: str) -> None:
    values = tcb_info_of()
    values["tdxModuleIdentities"][0]["id"] = name
    with pytest.raises(FormatError, match="TDX_01"):
        TcbInfo.parse(text_of(values))


def test_two_levels_of_one_isv_svn_are_refused() -> None:
    values = identity_of()
    values["tcbLevels"] *= 2
    with pytest.raises(FormatError, match="two levels"):
        QeIdentity.parse(text_of(values))


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b'{"version": 3.0}', b'{"version": NaN}', b"[" * 100_000, b"\xff",
     b'{"a":' * 50_000, b"{} {}", b" " * (1 << 20) + b"{}"],
)  # fmt: skip
def test_texts_that_are_no_object_of_integers_are_refused(text: bytes) -> None:
    for parse in (TcbInfo.parse, QeIdentity.parse, Collateral.parse):
        with pytest.raises(FormatError):
            parse(text)


KEYS = st.sampled_from([*tcb_info_of(), *identity_of()])
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.integers())


@given(st.dictionaries(KEYS, VALUES))
def test_values_of_any_type_raise_no_other_error(changes: Json) -> None:
    for parse, values in ((TcbInfo.parse, tcb_info_of()), (QeIdentity.parse, identity_of())):
        with contextlib.suppress(FormatError):
            assert parse(text_of(values | changes)).version


@needs_corpus
def test_what_pcs_answered_to_others_is_read() -> None:
    for name in ("00606a000000-17.tcb", "00906ed50000-19.tcb"):
        raw = json.loads((CORPUS / "pcs" / name).read_bytes())["raw_tcb_info"].encode()
        assert TcbInfo.parse(raw).fmspc.hex() == name.split("-", maxsplit=1)[0]
    old = json.loads((CORPUS / "pcs" / "00906ea10000.tcb").read_bytes())["raw_tcb_info"].encode()
    assert TcbInfo.parse(old).version == 2
    raw = json.loads((CORPUS / "pcs" / "qe3_identity-17.id").read_bytes())["raw_enclave_identity"]
    assert QeIdentity.parse(raw.encode()).tcb_evaluation_data_number == 17
    signed = json.loads((CORPUS / "intel-sampleapp-testca" / "tcbInfo.json").read_bytes())
    assert TcbInfo.parse(text_of(signed["tcbInfo"])).tcb_evaluation_data_number
