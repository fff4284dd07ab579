# SPDX-License-Identifier: Apache-2.0
"""The walk from an enclave to its verifier names the first link that is broken."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from tests.dcap.corpus import CORPUS, needs_corpus, quote_of, time_of
from tests.dcap.serving import Pccs

from ensconce.dcap import Policy, parse_policy
from ensconce.dcap.client import Answer, PckId
from ensconce.errors import ConfigError, DeviceError, ServiceError
from ensconce.platform.attestation import NoPck, Verifier, explain, read_pckid, walk
from ensconce.platform.checks import Check, State

_URL = "https://pccs.example/sgx/certification/v4"
_CASE = CORPUS / "sgx-v3-00606a000000-268c0681-eval17-2025-08-15"
_ID = PckId("ab" * 384, "0000", "00" * 16, "0d00", "11" * 16)
_TAKEN = parse_policy('[tcb]\nstatuses = ["SWHardeningNeeded"]\n')


def _verifier(policy: Policy = _TAKEN, *, ahead: timedelta = timedelta()) -> Verifier:
    now = time_of(_CASE)
    pccs = Pccs(_CASE, format_datetime(now))
    return Verifier(_URL, pccs, lambda: now + ahead, policy=policy)


def _walk(verifier: Verifier, quote: Callable[[], bytes] | None = None) -> list[Check]:
    return list(walk(quote or (lambda: quote_of(_CASE)), verifier))


def _refusing(status: int) -> Callable[[str], Answer]:
    def get(url: str) -> Answer:
        raise ServiceError(f"{url} answered {status}", status=status)

    return get


@needs_corpus
def test_a_whole_chain_has_no_broken_link() -> None:
    checks = _walk(_verifier())
    assert [check.name for check in checks] == [
        "quote",
        "pck",
        "pccs",
        "clock",
        "genuine",
        "policy",
    ]
    assert {check.state for check in checks} == {State.OK}


@needs_corpus
def test_collateral_that_is_issued_when_asked_for_is_not_of_the_future() -> None:
    verifier = _verifier()
    issued = time_of(_CASE)
    asked = []

    def get(url: str) -> Answer:
        asked.append(url)
        return verifier.get(url)

    def clock() -> datetime:
        return issued if asked else issued - timedelta(days=4000)

    assert _walk(replace(verifier, get=get, clock=clock))[-1].state is State.OK


@needs_corpus
def test_a_policy_that_wants_more_is_the_last_link() -> None:
    *_, last = _walk(_verifier(Policy()))
    assert (last.name, last.state) == ("policy", State.MISSING)
    assert "SWHardeningNeeded" in last.detail


@needs_corpus
def test_a_clock_that_is_wrong_is_found_before_it_makes_collateral_look_old() -> None:
    *_, last = _walk(_verifier(ahead=timedelta(days=400)))
    assert (last.name, last.state) == ("clock", State.MISSING)
    assert "NTP" in last.mend


@needs_corpus
def test_a_forged_quote_breaks_the_link_of_its_signature() -> None:
    quote = bytearray(quote_of(_CASE))
    quote[112] ^= 1
    *_, last = _walk(_verifier(), lambda: bytes(quote))
    assert (last.name, last.state) == ("genuine", State.MISSING)
    assert "quote_signature" in last.detail


@needs_corpus
@pytest.mark.parametrize(("status", "mend"), [(0, "start the PCCS"), (404, "refresh"), (410, "v4")])
def test_a_pccs_that_does_not_help_is_told_from_one_that_is_not_there(
    status: int, mend: str
) -> None:
    *_, last = _walk(replace(_verifier(), get=_refusing(status)))
    assert (last.name, last.state) == ("pccs", State.MISSING)
    assert mend in last.mend


def _fails() -> bytes:
    raise DeviceError("sgx_qe_get_quote_size answers SGX_QL_NO_PLATFORM_CERT_DATA (0xe011)")


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (404, NoPck.NOT_REGISTERED),
        (461, NoPck.NOT_REGISTERED),
        (462, NoPck.TCB_NOT_LISTED),
        (401, NoPck.API_KEY),
        (502, NoPck.API_KEY),
    ],
)
def test_a_missing_pck_is_traced_to_its_cause(status: int, cause: NoPck) -> None:
    assert explain(_ID, _URL, _refusing(status)) is cause


def test_a_pck_that_the_pccs_has_means_that_the_nodes_own_cache_is_stale() -> None:
    asked = []

    def get(url: str) -> Answer:
        asked.append(url)
        return Answer(b"-----BEGIN CERTIFICATE-----", {})

    assert explain(_ID, _URL + "/", get) is NoPck.STALE_CACHE
    assert asked[0].startswith(f"{_URL}/pckcert?qeid={'11' * 16}&encrypted_ppid=abab")


def test_a_ppid_of_zeros_is_a_platform_of_several_packages_whatever_the_pccs_says() -> None:
    zeros = replace(_ID, enc_ppid="0" * 768)
    assert explain(zeros, _URL, _refusing(404)) is NoPck.MULTI_PACKAGE


@needs_corpus
def test_the_walk_names_the_cause_of_a_missing_pck_and_asks_for_what_it_needs_to() -> None:
    verifier = replace(_verifier(), get=_refusing(462))
    (only,) = _walk(verifier, _fails)
    assert "--pckid" in only.mend
    (only,) = _walk(replace(verifier, pck_id=_ID), _fails)
    assert only.name == "pck (tcb_not_listed)"
    assert only.mend == NoPck.TCB_NOT_LISTED.value


def test_the_retrieval_tools_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "pckid_retrieval.csv"
    file.write_text(
        ",".join((_ID.enc_ppid, _ID.pce_id, _ID.cpu_svn, _ID.pce_svn, _ID.qe_id)) + "\n"
    )
    assert read_pckid(file) == _ID


@pytest.mark.parametrize("content", ["", "\n", "a,b\n", "ab,00,zz,0d,11\n", "ab,,00,0d,11\n"])
def test_a_file_that_is_none_of_the_tools_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pckid_retrieval.csv"
    file.write_text(content)
    with pytest.raises(ConfigError, match="PCKIDRetrievalTool"):
        read_pckid(file)
