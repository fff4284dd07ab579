# SPDX-License-Identifier: Apache-2.0
"""Policies are TOML that is read strictly."""

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.dcap.policy import Policy, SgxPolicy, TcbPolicy, TdxPolicy, parse_policy
from ensconce.dcap.verdict import TcbStatus
from ensconce.errors import ConfigError

COMPLETE = f"""
report_data = "{"0a" * 64}"
accept_emulated_root = "{"0b" * 32}"

[sgx]
mr_enclave = ["{"01" * 32}", "{"02" * 32}"]
mr_signer = ["{"03" * 32}"]
isv_prod_id = [1, 2]
min_isv_svn = 3
isv_ext_prod_id = ["{"04" * 16}"]
isv_family_id = ["{"05" * 16}"]
config_id = ["{"06" * 64}"]
min_config_svn = 4
allow_debug = true

[tdx]
mr_td = ["{"07" * 48}"]
mr_service_td = ["{"08" * 48}"]
allow_sept_ve = true

[tcb]
statuses = ["UpToDate", "SWHardeningNeeded"]
advisory_ids = ["INTEL-SA-00615"]
min_tcb_evaluation_data_number = 17
grace = {{OutOfDate = 2026-12-01T00:00:00Z}}
"""


def test_a_policy_is_read_whole() -> None:
    assert parse_policy(COMPLETE) == Policy(
        SgxPolicy(
            (b"\1" * 32, b"\2" * 32),
            (b"\3" * 32,),
            (1, 2),
            3,
            (b"\4" * 16,),
            (b"\5" * 16,),
            (b"\6" * 64,),
            4,
            allow_debug=True,
        ),
        TdxPolicy(mr_td=(b"\7" * 48,), mr_service_td=(b"\x08" * 48,), allow_sept_ve=True),
        TcbPolicy(
            (TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED),
            ((TcbStatus.OUT_OF_DATE, datetime(2026, 12, 1, tzinfo=UTC)),),
            ("INTEL-SA-00615",),
            17,
        ),
        b"\n" * 64,
        b"\x0b" * 32,
    )


def test_an_empty_policy_is_the_strict_default() -> None:
    assert parse_policy("") == Policy()


def test_a_policy_for_one_kind_of_enclave_takes_no_other() -> None:
    assert parse_policy("[sgx]").tdx is None
    assert parse_policy("[tdx]").sgx is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mr_enclave = []", "unknown key mr_enclave; known are sgx, tdx, tcb, report_data"),
        ("[sgx]\nmrenclave = []", "unknown key sgx.mrenclave; known are mr_enclave"),
        ("[SGX]", "unknown key SGX"),
        ("sgx = 1", "sgx is not a table"),
        ("report_data = '00'", "report_data is not 64 bytes in hex"),
        (f"report_data = '{'0g' * 64}'", "report_data is not 64 bytes in hex"),
        ("[sgx]\nmr_enclave = []", "at least one value"),
        (f"[sgx]\nmr_enclave = '{'00' * 32}'", "a list of at least one value"),
        ("[sgx]\nmr_enclave = ['00']", "32 bytes in hex"),
        ("[sgx]\nisv_prod_id = [true]", "a number from 0 on"),
        ("[sgx]\nmin_isv_svn = -1", "a number from 0 on"),
        ("[sgx]\nmin_isv_svn = 1.5", "a number from 0 on"),
        ("[sgx]\nallow_debug = 'yes'", "true or false"),
        ("[sgx]\nallow_debug = 1", "true or false"),
        ("[tcb]\nstatuses = ['Revoked']", "'Revoked' is none of them"),
        ("[tcb]\nstatuses = ['uptodate']", "'uptodate' is none of them"),
        ("[tcb]\nstatuses = [1]", "1 is none of them"),
        ("[tcb]\nadvisory_ids = [1]", "a text"),
        ("[tcb]\ngrace = 1", "a table of statuses and times"),
        ("[tcb]\ngrace = {OutOfDate = 2026-12-01}", "times with a zone"),
        ("[tcb]\ngrace = {OutOfDate = 2026-12-01T00:00:00}", "times with a zone"),
        ("[tcb]\ngrace = {Revoked = 2026-12-01T00:00:00Z}", "is none of them"),
        ("[sgx", "not TOML"),
        ("[tcb]\nstatuses = []", "at least one value"),
        ("a = " + "[" * 5000, "not TOML"),
    ],
)
def test_a_policy_that_is_wrong_says_where(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_policy(text)


@given(st.text(max_size=200))
def test_any_other_text_is_refused_or_read(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_policy(text), Policy)
