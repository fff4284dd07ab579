# SPDX-License-Identifier: Apache-2.0
"""Which TCB level a platform is at, and what platform, TDX module and QE come to together.

Source: Intel PCS API v4, "Get TCB Info", the enumerated algorithm; Intel's TD relaunch rule.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from ensconce.dcap.pck import PckExtension
from ensconce.dcap.quote import TdReport, TdReport15
from ensconce.dcap.tcb_info import IsvLevel, TcbInfo, TcbLevel, TdxModuleIdentity
from ensconce.dcap.verdict import Reason, Refusal, TcbStatus

__all__ = ["Standing", "at_least", "converge", "isv_level", "sgx_standing", "tdx_standing"]

_STEP = 19

_OUT_OF_DATE_BESIDE: dict[TcbStatus, TcbStatus] = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.OUT_OF_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.TD_RELAUNCH_ADVISED: TcbStatus.OUT_OF_DATE,
    TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED: (
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    ),
    TcbStatus.REVOKED: TcbStatus.REVOKED,
}
"""What a status becomes beside a QE or TDX module that is out of date."""

_NEEDS_CONFIGURATION = (
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
)
_CURRENT_PLATFORM = (
    TcbStatus.UP_TO_DATE,
    TcbStatus.SW_HARDENING_NEEDED,
    TcbStatus.CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a platform stands: its status, its level's advisories and date."""

    status: TcbStatus
    advisory_ids: tuple[str, ...]
    date: datetime


def at_least(svns: Iterable[int], wanted: Iterable[int]) -> bool:
    """Return whether each SVN reaches the one wanted; ValueError if they are not as many."""
    return all(svn >= least for svn, least in zip(svns, wanted, strict=True))


def converge(platform: TcbStatus, part: TcbStatus) -> TcbStatus:
    """Return what a platform's status comes to beside that of its QE or TDX module."""
    if part is TcbStatus.UP_TO_DATE:
        return platform
    if part is TcbStatus.OUT_OF_DATE:
        return _OUT_OF_DATE_BESIDE[platform]
    return TcbStatus.REVOKED


def isv_level(levels: Iterable[IsvLevel], isv_svn: int) -> IsvLevel | None:
    """Return the best level that an ISVSVN reaches, None if it reaches none."""
    return next((level for level in levels if isv_svn >= level.isv_svn), None)


def sgx_standing(info: TcbInfo, pck: PckExtension) -> Standing:
    """Return where an SGX platform stands (step 19)."""
    level = next(_levels_of(info, pck), None)
    if level is None:
        raise _no_level(pck)
    return Standing(level.status, level.advisory_ids, level.date)


def tdx_standing(
    info: TcbInfo, pck: PckExtension, body: TdReport | TdReport15, qe_status: TcbStatus
) -> Standing:
    """Return where a TDX platform stands, its module included (step 19).

    TEE_TCB_SVN is of the module that the trust domain was launched under. TDX 1.5 adds that of
    the module that runs now, which has to stand on its own.
    """
    td = body.td if isinstance(body, TdReport15) else body
    _check_module(_module_of(info, td.tee_tcb_svn[1]), td)
    launched = _standing_of(info, pck, td.tee_tcb_svn)
    if not isinstance(body, TdReport15):
        return launched
    running = _standing_of(info, pck, body.tee_tcb_svn2)
    return Standing(
        _relaunched(launched.status, running.status, qe_status),
        tuple(dict.fromkeys((*launched.advisory_ids, *running.advisory_ids))),
        min(launched.date, running.date),
    )


def _standing_of(info: TcbInfo, pck: PckExtension, svns: bytes) -> Standing:
    """Return where a TDX platform stands with a module of these SVNs."""
    sgx_level = next(_levels_of(info, pck), None)
    if sgx_level is None:
        raise _no_level(pck)
    level = next((one for one in _levels_of(info, pck) if _reaches(svns, one)), None)
    if level is None:
        raise Refusal(_STEP, Reason.TCB_LEVEL_NOT_FOUND, f"{_words(pck)}, TEE_TCB_SVN {svns.hex()}")
    status, advisories, date = level.status, level.advisory_ids, level.date
    module = _module_of(info, svns[1])
    if module.version:
        found = isv_level(module.levels, svns[0])
        if found is None:
            raise Refusal(
                _STEP,
                Reason.TDX_MODULE_LEVEL_NOT_FOUND,
                f"TDX module {module.version} has the ISVSVN {svns[0]}",
            )
        status = converge(status, found.status)
        advisories, date = (*advisories, *found.advisory_ids), min(date, found.date)
    if sgx_level.status is TcbStatus.REVOKED:
        status = TcbStatus.REVOKED
    return Standing(status, advisories, date)


def _levels_of(info: TcbInfo, pck: PckExtension) -> Iterator[TcbLevel]:
    """Yield the levels that a platform's certified SVNs reach, best first."""
    return (
        level
        for level in info.levels
        if pck.pce_svn >= level.pce_svn and at_least(pck.components, level.sgx_components)
    )


def _reaches(svns: bytes, level: TcbLevel) -> bool:
    """Return whether TEE_TCB_SVN reaches a level.

    The first two bytes of a versioned module are its ISVSVN and its version, which the module's
    own identity judges.
    """
    first = 2 if svns[1] else 0
    return at_least(svns[first:], level.tdx_components[first:])


def _module_of(info: TcbInfo, version: int) -> TdxModuleIdentity:
    """Return what a TDX module of a version must be."""
    for module in info.tdx_modules:
        if module.version == version:
            return module
    raise Refusal(_STEP, Reason.TDX_MODULE_UNKNOWN, f"TDX_{version:02X}")


def _check_module(module: TdxModuleIdentity, td: TdReport) -> None:
    """Refuse a TDX module of another signer or with other attributes."""
    if td.mr_signer_seam != module.mr_signer:
        raise Refusal(_STEP, Reason.TDX_MODULE_MR_SIGNER, td.mr_signer_seam.hex())
    # no attribute is defined, so none may be set, masked or not
    masked = td.seam_attributes & module.attributes_mask
    if td.seam_attributes or masked != module.attributes & module.attributes_mask:
        raise Refusal(_STEP, Reason.TDX_MODULE_ATTRIBUTES, f"{td.seam_attributes:#018x}")


def _relaunched(launched: TcbStatus, running: TcbStatus, qe_status: TcbStatus) -> TcbStatus:
    """Return the status of a TD whose module may have been updated under it after its launch.

    Where only what it was launched with is old, it is to be relaunched.
    """
    if running is TcbStatus.REVOKED:
        return running
    if launched not in (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED):
        return launched
    if qe_status is not TcbStatus.UP_TO_DATE or running not in _CURRENT_PLATFORM:
        return launched
    if launched in _NEEDS_CONFIGURATION or running in _NEEDS_CONFIGURATION:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def _words(pck: PckExtension) -> str:
    """Return a platform's certified SVNs in words."""
    return f"components {bytes(pck.components).hex()}, PCESVN {pck.pce_svn}"


def _no_level(pck: PckExtension) -> Refusal:
    """Return the refusal of a platform below every level."""
    return Refusal(_STEP, Reason.TCB_LEVEL_NOT_FOUND, _words(pck))
