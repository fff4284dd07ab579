# SPDX-License-Identifier: Apache-2.0
"""A platform's level, its TDX module and its QE come to one status, as Intel's rules have it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ensconce.dcap import Reason, TcbStatus
from ensconce.dcap.pck import PckExtension, SgxType
from ensconce.dcap.quote import TdReport, TdReport15, TeeType
from ensconce.dcap.tcb import Standing, at_least, converge, isv_level, sgx_standing, tdx_standing
from ensconce.dcap.tcb_info import IsvLevel, TcbInfo, TcbLevel, TdxModuleIdentity
from ensconce.dcap.verdict import Refusal

S = TcbStatus
NEW, OLD = datetime(2026, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
SIGNER = b"\2" * 48


def level(svn: int, tdx: tuple[int, ...], status: S, date: datetime = NEW) -> TcbLevel:
    return TcbLevel((svn,) * 16, 10, tdx + (0,) * (16 - len(tdx)), date, status, (f"SA-{svn}",))


MODULE_LEVELS = (
    IsvLevel(5, NEW, S.UP_TO_DATE, ()),
    IsvLevel(3, OLD, S.OUT_OF_DATE, ("SA-module",)),
    IsvLevel(2, OLD, S.REVOKED, ()),
)
INFO = TcbInfo(
    TeeType.TDX,
    3,
    NEW,
    NEW,
    bytes(6),
    bytes(2),
    17,
    (level(2, (5, 0, 7), S.UP_TO_DATE), level(1, (3, 0, 6), S.OUT_OF_DATE, OLD)),
    (
        TdxModuleIdentity(0, SIGNER, 0, (1 << 64) - 1, ()),
        TdxModuleIdentity(1, SIGNER, 0, (1 << 64) - 1, MODULE_LEVELS),
    ),
)


def platform(svn: int = 2, pce_svn: int = 10) -> PckExtension:
    return PckExtension(b"", (svn,) * 16, pce_svn, b"", b"", b"", SgxType.STANDARD)


def td(*svns: int, **changes: object) -> TdReport:
    made = TdReport(bytes(svns).ljust(16, b"\0"), mr_signer_seam=SIGNER)
    return replace(made, **changes)  # type: ignore[arg-type]


def standing(
    body: TdReport | TdReport15, pck: PckExtension | None = None, qe: S = S.UP_TO_DATE
) -> Standing:
    return tdx_standing(INFO, pck or platform(), body, qe)


def reason(body: TdReport, pck: PckExtension | None = None) -> Reason:
    with pytest.raises(Refusal) as refused:
        standing(body, pck)
    assert refused.value.step == 19
    return refused.value.reason


@pytest.mark.parametrize("status", S)
def test_a_part_that_is_up_to_date_changes_nothing_and_a_revoked_one_revokes(status: S) -> None:
    assert converge(status, S.UP_TO_DATE) is status
    assert converge(status, S.REVOKED) is S.REVOKED


@pytest.mark.parametrize(
    ("platform_status", "together"),
    [
        (S.UP_TO_DATE, S.OUT_OF_DATE),
        (S.SW_HARDENING_NEEDED, S.OUT_OF_DATE),
        (S.CONFIGURATION_NEEDED, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.CONFIGURATION_AND_SW_HARDENING_NEEDED, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.OUT_OF_DATE, S.OUT_OF_DATE),
        (S.OUT_OF_DATE_CONFIGURATION_NEEDED, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.TD_RELAUNCH_ADVISED, S.OUT_OF_DATE),
        (S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
        (S.REVOKED, S.REVOKED),
    ],
)
def test_a_part_that_is_out_of_date_makes_the_whole_so(platform_status: S, together: S) -> None:
    assert converge(platform_status, S.OUT_OF_DATE) is together


def test_svns_are_compared_one_by_one_and_must_be_as_many() -> None:
    assert at_least((2, 1), (2, 1))
    assert not at_least((9, 0), (2, 1))
    with pytest.raises(ValueError, match="zip"):
        at_least((1, 1), (1,))


def test_an_sgx_platform_stands_at_the_best_level_it_reaches_in_all_components() -> None:
    assert sgx_standing(INFO, platform(3)).status is S.UP_TO_DATE
    one_low = replace(platform(), components=(2,) * 15 + (1,))
    assert sgx_standing(INFO, one_low) == Standing(S.OUT_OF_DATE, ("SA-1",), OLD)
    for below in (platform(0), platform(pce_svn=9)):
        with pytest.raises(Refusal) as refused:
            sgx_standing(INFO, below)
        assert refused.value.reason is Reason.TCB_LEVEL_NOT_FOUND


def test_a_module_without_a_version_is_judged_by_the_levels_components() -> None:
    assert standing(td(5, 0, 7)).status is S.UP_TO_DATE
    assert standing(td(4, 0, 7)) == Standing(S.OUT_OF_DATE, ("SA-1",), OLD)
    assert reason(td(2, 0, 7)) is Reason.TCB_LEVEL_NOT_FOUND


def test_a_module_with_a_version_is_judged_by_its_own_identity() -> None:
    assert standing(td(5, 1, 7)) == Standing(S.UP_TO_DATE, ("SA-2",), NEW)
    assert standing(td(4, 1, 7)) == Standing(S.OUT_OF_DATE, ("SA-2", "SA-module"), OLD)
    assert standing(td(2, 1, 7)).status is S.REVOKED
    assert reason(td(1, 1, 7)) is Reason.TDX_MODULE_LEVEL_NOT_FOUND
    assert reason(td(5, 2, 7)) is Reason.TDX_MODULE_UNKNOWN


def test_the_other_components_of_a_module_with_a_version_still_count() -> None:
    assert standing(td(5, 1, 6)).status is S.OUT_OF_DATE
    assert reason(td(5, 1, 5)) is Reason.TCB_LEVEL_NOT_FOUND


@pytest.mark.parametrize("version", [0, 1])
def test_a_module_of_another_signer_or_with_attributes_is_refused(version: int) -> None:
    other = td(5, version, 7, mr_signer_seam=bytes(48))
    assert reason(other) is Reason.TDX_MODULE_MR_SIGNER
    for bit in (0, 63):
        changed = td(5, version, 7, seam_attributes=1 << bit)
        assert reason(changed) is Reason.TDX_MODULE_ATTRIBUTES


def test_a_tdx_platform_below_every_sgx_level_is_refused() -> None:
    assert reason(td(5, 0, 7), platform(0)) is Reason.TCB_LEVEL_NOT_FOUND


def test_a_tdx_platform_at_a_revoked_sgx_level_is_revoked() -> None:
    levels = (level(2, (9,), S.REVOKED), level(1, (3, 0, 6), S.UP_TO_DATE))
    found = tdx_standing(replace(INFO, levels=levels), platform(), td(5, 0, 7), S.UP_TO_DATE)
    assert found.status is S.REVOKED


def test_a_domain_whose_module_was_updated_under_it_is_to_be_relaunched() -> None:
    now = bytes((5, 1, 7)).ljust(16, b"\0")
    assert standing(TdReport15(td(4, 1, 7), now)).status is S.TD_RELAUNCH_ADVISED
    unversioned = bytes((5, 0, 7)).ljust(16, b"\0")
    assert standing(TdReport15(td(4, 1, 7), unversioned)).status is S.TD_RELAUNCH_ADVISED


@pytest.mark.parametrize("svns", [(4, 1, 7), (5, 1, 6), (4, 0, 7)])
def test_a_domain_whose_module_is_still_old_is_out_of_date(svns: tuple[int, ...]) -> None:
    now = bytes(svns).ljust(16, b"\0")
    assert standing(TdReport15(td(4, 1, 7), now)).status is S.OUT_OF_DATE


def test_the_module_that_runs_now_stands_on_its_own() -> None:
    def running(*svns: int) -> TdReport15:
        return TdReport15(td(5, 1, 7), bytes(svns).ljust(16, b"\0"))

    assert standing(running(5, 1, 7)) == Standing(S.UP_TO_DATE, ("SA-2",), NEW)
    assert standing(running(2, 1, 7)).status is S.REVOKED
    found = standing(running(4, 1, 7))
    assert (found.status, found.advisory_ids) == (S.UP_TO_DATE, ("SA-2", "SA-module"))
    for svns, expected in (
        ((1, 1, 7), Reason.TDX_MODULE_LEVEL_NOT_FOUND),
        ((5, 2, 7), Reason.TDX_MODULE_UNKNOWN),
        ((5, 1, 5), Reason.TCB_LEVEL_NOT_FOUND),
    ):
        with pytest.raises(Refusal) as refused:
            standing(running(*svns))
        assert refused.value.reason is expected


def test_relaunching_does_not_help_beside_an_old_platform_or_quoting_enclave() -> None:
    body = TdReport15(td(4, 1, 7), bytes((5, 1, 7)).ljust(16, b"\0"))
    assert standing(body, platform(1)).status is S.OUT_OF_DATE
    assert standing(body, qe=S.OUT_OF_DATE).status is S.OUT_OF_DATE


def test_relaunching_with_configuration_needed_says_both() -> None:
    levels = (level(2, (5, 0, 7), S.CONFIGURATION_NEEDED),)
    body = TdReport15(td(4, 1, 7), bytes((5, 1, 7)).ljust(16, b"\0"))
    found = tdx_standing(replace(INFO, levels=levels), platform(), body, S.UP_TO_DATE)
    assert found.status is S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED


def test_an_isv_svn_reaches_the_best_level_at_or_below_it() -> None:
    assert isv_level(MODULE_LEVELS, 9) is MODULE_LEVELS[0]
    assert isv_level(MODULE_LEVELS, 3) is MODULE_LEVELS[1]
    assert isv_level(MODULE_LEVELS, 1) is None
