# SPDX-License-Identifier: Apache-2.0
"""The protocol's rules, with the emulated platform behind them."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from ensconce.aesm.answers import answer
from ensconce.aesm.codes import Code, Refusal, code_name, explain, from_quote_library
from ensconce.aesm.emulated import EmulatedBackend
from ensconce.aesm.keyid import QeReportInfo
from ensconce.aesm.messages import KINDS, Family
from ensconce.aesm.wire import parse_request, request
from ensconce.dcap.keyid import VENDOR_QE_KEY, Algorithm, KeyBase, KeyId
from ensconce.dcap.quote import Quote
from ensconce.isa.report import Report, TargetInfo
from ensconce.platform.vendor_quoting import QlError
from ensconce.platform.witness import Witness

EPID_KEY = bytes(KeyId(KeyBase(algorithm=Algorithm.EPID_LINKABLE)))


@pytest.fixture(scope="module")
def key(backend: EmulatedBackend) -> bytes:
    return bytes(backend.key_ids()[0])


def ask(backend: EmulatedBackend, kind: str, **fields: object) -> dict[str, Any]:
    return answer(parse_request(request(kind, **fields)), backend)


def refusal(backend: EmulatedBackend, kind: str, **fields: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        ask(backend, kind, **fields)
    return caught.value


def listed(*keys: bytes, kind: int = 0, count: int | None = None) -> bytes:
    number = len(keys) if count is None else count
    return kind.to_bytes(2, "little") + bytes(2) + number.to_bytes(4, "little") + b"".join(keys)


def test_the_supported_keys_fill_a_buffer_of_just_their_size(
    backend: EmulatedBackend, key: bytes
) -> None:
    assert ask(backend, "get_supported_att_key_id_num") == {"att_key_id_num": 1}
    assert ask(backend, "get_supported_att_key_ids", buf_size=256) == {"att_key_ids": key}
    assert KeyId.parse(key).base.algorithm == Algorithm.ECDSA_P256


@pytest.mark.parametrize("size", [0, 255, 257, 512, 2**32 - 1])
def test_a_buffer_of_another_size_is_refused(backend: EmulatedBackend, size: int) -> None:
    error = refusal(backend, "get_supported_att_key_ids", buf_size=size)
    assert error.code == Code.PARAMETER_ERROR


def test_without_a_list_the_service_chooses(backend: EmulatedBackend, key: bytes) -> None:
    assert ask(backend, "select_att_key_id") == {"selected_att_key_id": key}


def test_the_first_key_of_a_list_that_is_here_is_chosen_as_the_client_wrote_it(
    backend: EmulatedBackend, key: bytes
) -> None:
    own = key[:158] + b"\7" * 98
    found = ask(backend, "select_att_key_id", att_key_id_list=listed(EPID_KEY, own, key))
    assert found == {"selected_att_key_id": own}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(263),
        listed(EPID_KEY, kind=1),
        listed(EPID_KEY, count=2),
        listed(EPID_KEY, count=0),
        listed(EPID_KEY, count=2**32 - 1),
        listed(*[EPID_KEY] * 11),
        listed(EPID_KEY) + b"\0",
    ],
)
def test_a_list_that_is_none_is_refused(backend: EmulatedBackend, data: bytes) -> None:
    error = refusal(backend, "select_att_key_id", att_key_id_list=data)
    assert error.code == Code.PARAMETER_ERROR


def test_a_list_of_epid_keys_is_unsupported_and_dcap_is_named(backend: EmulatedBackend) -> None:
    error = refusal(backend, "select_att_key_id", att_key_id_list=listed(EPID_KEY))
    assert error.code == Code.UNSUPPORTED_ATT_KEY_ID
    assert "DCAP" in str(error)


def test_init_tells_size_target_and_then_the_keys_id(backend: EmulatedBackend, key: bytes) -> None:
    first = ask(backend, "init_quote_ex", att_key_id=key, b_pub_key_id=False)
    assert first["pub_key_id_size"] == 32
    assert "pub_key_id" not in first
    second = ask(backend, "init_quote_ex", att_key_id=key, b_pub_key_id=True, buf_size=32)
    assert second["target_info"] == first["target_info"]
    assert len(second["target_info"]) == TargetInfo.SIZE
    assert len(second["pub_key_id"]) == 32


@pytest.mark.parametrize("size", [None, 31, 33, 2**64 - 1])
def test_the_buffer_for_the_keys_id_has_its_size(
    backend: EmulatedBackend, key: bytes, size: int | None
) -> None:
    error = refusal(backend, "init_quote_ex", att_key_id=key, b_pub_key_id=True, buf_size=size)
    assert error.code == Code.PARAMETER_ERROR


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("init_quote_ex", {"b_pub_key_id": False}),
        ("get_quote_size_ex", {}),
        ("get_quote_ex", {"report": bytes(432), "buf_size": 8192}),
    ],
)
@pytest.mark.parametrize(
    ("named", "code"),
    [
        (None, Code.PARAMETER_ERROR),
        (b"", Code.PARAMETER_ERROR),
        (bytes(255), Code.PARAMETER_ERROR),
        (EPID_KEY, Code.UNSUPPORTED_ATT_KEY_ID),
        (bytes(256), Code.UNSUPPORTED_ATT_KEY_ID),
    ],
)
def test_only_keys_that_are_here_are_served(
    backend: EmulatedBackend,
    kind: str,
    fields: dict[str, object],
    named: bytes | None,
    code: Code,
) -> None:
    assert refusal(backend, kind, att_key_id=named, **fields).code == code


def test_a_quote_fills_its_buffer_and_is_of_the_report(
    backend: EmulatedBackend, key: bytes, report: Report
) -> None:
    size = ask(backend, "get_quote_size_ex", att_key_id=key)["quote_size"]
    exact = ask(backend, "get_quote_ex", att_key_id=key, report=bytes(report), buf_size=size)
    larger = ask(backend, "get_quote_ex", att_key_id=key, report=bytes(report), buf_size=8192)
    assert Quote.parse(exact["quote"]).body == report.body
    assert larger["quote"] == exact["quote"].ljust(8192, b"\0")
    assert "qe_report_info" not in exact


@pytest.mark.parametrize("size", [0, 4096, 1 << 20, 2**32 - 1])
def test_a_buffer_that_is_too_small_or_absurd_is_refused(
    backend: EmulatedBackend, key: bytes, report: Report, size: int
) -> None:
    error = refusal(backend, "get_quote_ex", att_key_id=key, report=bytes(report), buf_size=size)
    assert error.code == Code.PARAMETER_ERROR


@pytest.mark.parametrize("size", [0, 384, 431, 433])
def test_a_report_has_432_bytes(backend: EmulatedBackend, key: bytes, size: int) -> None:
    error = refusal(backend, "get_quote_ex", att_key_id=key, report=bytes(size), buf_size=8192)
    assert error.code == Code.PARAMETER_ERROR


@pytest.mark.parametrize("size", [0, 959, 961])
def test_qe_report_info_has_960_bytes(
    backend: EmulatedBackend, key: bytes, report: Report, size: int
) -> None:
    error = refusal(
        backend,
        "get_quote_ex",
        att_key_id=key,
        report=bytes(report),
        qe_report_info=bytes(size),
        buf_size=8192,
    )
    assert error.code == Code.PARAMETER_ERROR


def test_an_altered_report_is_invalid(backend: EmulatedBackend, key: bytes, report: Report) -> None:
    altered = bytes(replace(report, mac=bytes(16)))
    error = refusal(backend, "get_quote_ex", att_key_id=key, report=altered, buf_size=8192)
    assert error.code == Code.INVALID_REPORT
    assert "init_quote_ex" in str(error)


def test_the_quoting_enclave_vouches_for_its_quote(
    backend: EmulatedBackend, key: bytes, report: Report, witness: Witness
) -> None:
    target = TargetInfo(measurement=witness.mr_enclave)
    info = QeReportInfo(b"n" * 16, target, report)
    size = backend.quote_size()
    made = ask(
        backend,
        "get_quote_ex",
        att_key_id=key,
        report=bytes(report),
        qe_report_info=bytes(info),
        buf_size=size,
    )
    back = QeReportInfo.parse(made["qe_report_info"])
    assert (back.nonce, back.target) == (info.nonce, target)
    bound = hashlib.sha256(info.nonce + made["quote"]).digest()
    assert back.report.body.report_data == bound + bytes(32)


def test_a_client_that_has_the_vendors_key_built_in_is_served(
    backend: EmulatedBackend, report: Report
) -> None:
    """Gramine's way: no selection, the key id in its code, 8192 bytes, cut by the quote itself."""
    vendor = bytes(VENDOR_QE_KEY)
    ask(backend, "init_quote_ex", att_key_id=vendor, b_pub_key_id=True, buf_size=32)
    made = ask(backend, "get_quote_ex", att_key_id=vendor, report=bytes(report), buf_size=8192)
    length = 436 + int.from_bytes(made["quote"][432:436], "little")
    assert Quote.parse(made["quote"][:length]).body == report.body
    assert VENDOR_QE_KEY not in backend.key_ids()


FILLED: dict[str, dict[str, object]] = {
    "get_launch_token": {"mr_enclave": b"", "mr_signer": b"", "se_attributes": b""},
    "get_quote": {"report": bytes(432), "quote_type": 1, "spid": bytes(16), "buf_size": 2048},
    "report_attestation_status": {
        "platform_info": b"",
        "attestation_error_code": 1,
        "update_info_size": 12,
    },
    "check_update_status": {"update_info_size": 12, "config": 0},
    "register_whitelist": {"buf": b"", "data_type": 1},
}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.family is not Family.DCAP], ids=lambda kind: kind.name
)
def test_epid_and_launch_tokens_are_unavailable_and_the_reason_names_dcap(
    backend: EmulatedBackend, kind: Any
) -> None:
    error = refusal(backend, kind.name, **FILLED.get(kind.name, {}))
    assert error.code == Code.SERVICE_UNAVAILABLE
    assert "DCAP" in error.reason


@pytest.mark.parametrize("code", list(Code)[1:])
def test_every_code_has_a_cause_and_a_mend(code: Code) -> None:
    cause, mend = explain(code)
    assert cause
    assert mend
    assert code.name in code_name(code)


def test_codes_of_attestation_are_explained_each_in_its_own_way() -> None:
    dcap = {*range(29, 33), *range(34, 36), *range(37, 51), 1, 2, 3, 12, 18, 21, 22, 24}
    assert len({explain(code).cause for code in dcap}) == len(dcap)


@pytest.mark.parametrize(
    ("status", "name", "code"),
    [
        (0xE001, "SGX_QL_UNEXPECTED", Code.UNEXPECTED_ERROR),
        (0xE00B, "SGX_QL_UNSUPPORTED_ATT_KEY_ID", Code.UNSUPPORTED_ATT_KEY_ID),
        (0xE011, "SGX_QL_NO_PLATFORM_CERT_DATA", Code.NO_PLATFORM_CERT_DATA),
        (0xE019, "SGX_QL_NETWORK_ERROR", Code.NETWORK_ERROR),
        (0xE046, "no code of its own", Code.UNEXPECTED_ERROR),
    ],
)
def test_a_quoting_librarys_hex_code_is_named_with_cause_and_mend(
    status: int, name: str, code: Code
) -> None:
    error = from_quote_library(status, "sgx_ql_get_quote")
    assert error.code == code
    for part in (f"{status:#06x}", name, *explain(code)):
        assert part in str(error)


def test_every_code_of_a_quoting_library_has_one_of_the_protocol() -> None:
    codes = {from_quote_library(error, "f").code for error in QlError}
    assert len(codes) == len(QlError)
