# SPDX-License-Identifier: Apache-2.0
"""What becomes of real platforms when Intel's next TCB evaluation takes over."""

from datetime import timedelta

import pytest
from tests.dcap.corpus import CORPUS, collateral_of, needs_corpus, quote_of, time_of

from ensconce.dcap import Outlook, Policy, TcbStatus, forecast, parse_policy
from ensconce.errors import ConfigError

pytestmark = needs_corpus

_TODAY = CORPUS / "sgx-v3-00606a000000-268c0681-eval17-2025-08-15"
_TOMORROW = CORPUS / "sgx-v3-00606a000000-268c0681-eval21-2026-07-30"
_TAKES_STATUS = '[tcb]\nstatuses = ["SWHardeningNeeded"]\n'


def _forecast(policy: str) -> list[Outlook]:
    return forecast(
        quote_of(_TODAY),
        parse_policy(policy),
        [collateral_of(_TODAY)],
        [collateral_of(_TOMORROW)],
        time_of(_TODAY),
    )


def test_a_platform_fails_from_the_day_that_the_next_evaluation_is_issued() -> None:
    now, then = _forecast(_TAKES_STATUS)
    assert now.accepted
    assert (now.tcb_status, then.tcb_status) == (
        TcbStatus.SW_HARDENING_NEEDED,
        TcbStatus.OUT_OF_DATE,
    )
    assert not then.accepted
    assert then.begins > time_of(_TODAY)
    assert then.begins <= time_of(_TOMORROW)
    assert then.latest is None  # by then the older collateral has long expired
    assert "OutOfDate" in then.why[0]


def test_a_grace_puts_the_failure_off_and_no_further() -> None:
    until = time_of(_TOMORROW) + timedelta(days=30)
    grace = f"grace = {{OutOfDate = {until.isoformat()}}}\n"
    now, then, late = _forecast(_TAKES_STATUS + grace)
    assert (now.accepted, then.accepted, late.accepted) == (True, True, False)
    assert late.begins == until + timedelta(seconds=1)
    assert late.latest is None


def test_a_platform_that_no_change_touches_has_one_outlook() -> None:
    found = forecast(
        quote_of(_TODAY),
        Policy(),
        [collateral_of(_TODAY)],
        [collateral_of(_TODAY)],
        time_of(_TODAY),
    )
    assert [outlook.accepted for outlook in found] == [False]


def test_collateral_of_other_platforms_is_passed_over_and_named_if_there_is_no_more() -> None:
    with pytest.raises(ConfigError, match="no collateral of tomorrow is for this quote"):
        forecast(
            quote_of(_TODAY),
            Policy(),
            [collateral_of(_TODAY)],
            [],
            time_of(_TODAY),
        )
