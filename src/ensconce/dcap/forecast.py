# SPDX-License-Identifier: Apache-2.0
"""How a platform will fare under a policy: with the collateral of today, and then of tomorrow.

A verdict changes at few moments: when the newer collateral takes over, and when a grace ends.
Between them it is taken to stay, as it does as long as collateral is fetched anew in time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ensconce.dcap.certificate import Crl
from ensconce.dcap.collateral import Collateral
from ensconce.dcap.epoch import Epoch, check_collateral
from ensconce.dcap.policy import Policy
from ensconce.dcap.roots import INTEL_ROOT, Root
from ensconce.dcap.tcb_info import QeIdentity, TcbInfo
from ensconce.dcap.validate import validate
from ensconce.dcap.verdict import Reason, TcbStatus, Verdict
from ensconce.dcap.verify import verify
from ensconce.errors import ConfigError

__all__ = ["Outlook", "forecast"]

_FOREIGN = (Reason.FMSPC_DIFFERS, Reason.PCK_CA_DIFFERS, Reason.TCB_INFO_TEE)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What becomes of a platform from a time on, until the next outlook begins.

    `why` has the verdict's reason or the mismatches with the policy; it is empty if the platform
    is accepted. `latest` is when the older collateral expires, if it is the newer one that makes
    the change: until then a verifier may still hold the older one.
    """

    begins: datetime
    accepted: bool
    tcb_status: TcbStatus | None
    advisory_ids: tuple[str, ...]
    why: tuple[str, ...]
    latest: datetime | None = None


def forecast(
    quote: bytes,
    policy: Policy,
    today: Iterable[Collateral],
    tomorrow: Iterable[Collateral],
    now: datetime,
    *,
    roots: Iterable[Root] = (INTEL_ROOT,),
) -> list[Outlook]:
    """Return what becomes of a quote's platform, from now on, one outlook for each change.

    Of both sets of collateral the one for the quote's platform is taken; ConfigError if there is
    none. Collateral that can't be used is a Refusal, whatever can't be read a FormatError.
    """
    trusted = tuple(roots)
    first = _of_platform(quote, today, now, trusted, "today")
    second = _of_platform(quote, tomorrow, now, trusted, "tomorrow")
    takes_over = max(now, second.begins)
    outlooks = [
        *_outlooks(quote, policy, first, max(now, first.begins), trusted, takes_over),
        *_outlooks(quote, policy, second, takes_over, trusted, None),
    ]
    changes = outlooks[:1]
    for outlook in outlooks[1:]:
        last = changes[-1]
        if (outlook.accepted, outlook.tcb_status, outlook.why) != (
            last.accepted,
            last.tcb_status,
            last.why,
        ):
            overlap = outlook.begins == takes_over < first.expires
            changes.append(replace(outlook, latest=first.expires if overlap else None))
    return changes


def _of_platform(
    quote: bytes,
    collaterals: Iterable[Collateral],
    now: datetime,
    roots: tuple[Root, ...],
    name: str,
) -> Epoch:
    """Return the collateral that is for a quote's platform, checked as of its own time."""
    for collateral in collaterals:
        epoch = _checked(collateral, now, roots)
        if verify(quote, epoch, epoch.begins, roots=roots).reason not in _FOREIGN:
            return epoch
    raise ConfigError(
        f"no collateral of {name} is for this quote's platform; add that of its FMSPC and CA"
    )


def _checked(collateral: Collateral, now: datetime, roots: tuple[Root, ...]) -> Epoch:
    """Return collateral checked as of now, or as of when it is issued if that is to come."""
    issued = max(
        TcbInfo.parse(collateral.tcb_info).issue_date,
        QeIdentity.parse(collateral.qe_identity).issue_date,
        Crl.parse(collateral.root_ca_crl, "root_ca_crl").this_update,
        Crl.parse(collateral.pck_crl, "pck_crl").this_update,
    )
    return check_collateral(collateral, max(now, issued), roots=roots)


def _outlooks(
    quote: bytes,
    policy: Policy,
    epoch: Epoch,
    begins: datetime,
    roots: tuple[Root, ...],
    ends: datetime | None,
) -> Iterable[Outlook]:
    """Yield an outlook for the time that collateral takes over, and for each end of a grace."""
    verdict = verify(quote, epoch, min(begins, epoch.expires), roots=roots)
    moments = {begins} | {until + _SECOND for _, until in policy.tcb.grace}
    for moment in sorted(moments):
        if moment >= begins and (ends is None or moment < ends):
            yield _outlook(verdict, policy, moment)


def _outlook(verdict: Verdict, policy: Policy, moment: datetime) -> Outlook:
    """Return what a verdict means under a policy at a moment."""
    if verdict.claims is None:
        why: tuple[str, ...] = (f"{verdict.reason.value}: {verdict.value}; {verdict.advice}",)
    else:
        why = tuple(map(str, validate(replace(verdict.claims, verified_at=moment), policy)))
    return Outlook(moment, not why, verdict.tcb_status, verdict.advisory_ids, why)
