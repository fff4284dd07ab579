# SPDX-License-Identifier: Apache-2.0
"""Walk from an enclave to its verifier, and find the first link that is broken.

The links: a quote can be made; it carries a PCK certificate; the PCCS answers and has the
collateral; this machine's clock agrees with it; the quote is genuine; its TCB and identity are
what the policy wants. What lies behind a broken link can't be judged, and is not.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from pathlib import Path

from ensconce.dcap import (
    INTEL_ROOT,
    Collateral,
    Policy,
    Quote,
    Root,
    Verdict,
    validate,
    verify,
)
from ensconce.dcap.client import Answer, Get, PckId, fetch_collateral
from ensconce.dcap.quote import CertificationKind
from ensconce.errors import ConfigError, EnsconceError, ServiceError
from ensconce.platform.checks import Check, State

__all__ = ["NoPck", "Verifier", "explain", "read_pckid", "walk"]

_SKEW = timedelta(minutes=5)
_UNKNOWN_PLATFORM, _OTHER_TCBS, _GONE = 461, 462, 410
_REFUSED_KEY = (401, 403, 502)
# The library's "no certificate data for this platform".
_NO_DATA = "0xe011"
_PCKID_COLUMNS = ("enc_ppid", "pce_id", "cpu_svn", "pce_svn", "qe_id")


class NoPck(Enum):
    """Why there is no PCK certificate for a platform (0xe011), each with its mend."""

    MULTI_PACKAGE = (
        "the encrypted PPID is all zeros: the platform has several packages, and was not "
        "registered since its keys were made; register its manifest (mpa_registration, or "
        "PCKIDRetrievalTool with a manifest), or reset SGX in the firmware and register anew"
    )
    NOT_REGISTERED = (
        "the PCCS does not know the platform; register it (PCKIDRetrievalTool with the user "
        "token), or let the PCCS fill itself (lazy mode)"
    )
    TCB_NOT_LISTED = (
        "the PCCS knows the platform, and has no certificate for its CPUSVN: the firmware is newer "
        "than what was registered; refresh the PCCS, or register the platform anew"
    )
    API_KEY = (
        "the PCCS was refused by the PCS: renew its API key, and see that it reaches its upstream"
    )
    STALE_CACHE = (
        "the PCCS has the certificate, so what this node keeps of earlier answers is stale; delete "
        "the .dcap-qcnl folder in the home of who quotes (or of aesmd), and restart aesmd"
    )


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a verifier would use: PCCS, roots, policy, and a clock.

    The clock is looked at once the collateral is there: it may be issued on demand.
    """

    url: str
    get: Get
    clock: Callable[[], datetime]
    roots: tuple[Root, ...] = (INTEL_ROOT,)
    policy: Policy = field(default_factory=Policy)
    pck_id: PckId | None = None


def read_pckid(path: Path) -> PckId:
    """Return the platform in a file of PCKIDRetrievalTool's, pckid_retrieval.csv."""
    try:
        with path.open(newline="", encoding="ascii") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is no table of PCKIDRetrievalTool: {error}") from error
    values = [value.strip() for value in rows[-1]] if rows else []
    found = values[: len(_PCKID_COLUMNS)]
    if len(found) < len(_PCKID_COLUMNS) or not all(map(_is_hex, found)):
        raise ConfigError(
            f"{path} has no row of {', '.join(_PCKID_COLUMNS)} in hex; let PCKIDRetrievalTool "
            "write it (-f)"
        )
    return PckId(*found)


def _is_hex(value: str) -> bool:
    return bool(value) and all(digit in "0123456789abcdefABCDEF" for digit in value)


def explain(pck_id: PckId, url: str, get: Get) -> NoPck:
    """Return why a node has no PCK certificate, by asking its PCCS as the node does.

    Raises ServiceError where the PCCS does not answer at all.
    """
    if not pck_id.enc_ppid.strip("0"):
        return NoPck.MULTI_PACKAGE
    try:
        get(pck_id.url(url))
    except ServiceError as error:
        if error.status == _OTHER_TCBS:
            return NoPck.TCB_NOT_LISTED
        if error.status in _REFUSED_KEY:
            return NoPck.API_KEY
        if error.status in (404, _UNKNOWN_PLATFORM):
            return NoPck.NOT_REGISTERED
        raise
    return NoPck.STALE_CACHE


def walk(quote: Callable[[], bytes], verifier: Verifier) -> Iterator[Check]:
    """Yield a check for each link, the broken one last.

    `quote` makes a quote, or gives one that was made.
    """
    try:
        evidence = quote()
        parsed = Quote.parse(evidence)
    except EnsconceError as error:
        yield _no_quote(error, verifier)
        return
    yield Check("quote", State.OK, f"version {parsed.header.version}, {len(evidence)} bytes")
    kind = parsed.certification.kind
    if kind is CertificationKind.PCK_CHAIN:
        yield Check("pck", State.OK, "the quote carries the PCK certificate chain")
    else:
        yield Check("pck", State.ABSENT, "the quote names its platform; the PCCS has to know it")
    heard = _Hearing(verifier.get)
    try:
        collateral = fetch_collateral(evidence, verifier.url, heard)
    except EnsconceError as error:
        yield Check("pccs", State.MISSING, str(error), _pccs_mend(error))
        return
    yield Check("pccs", State.OK, f"{verifier.url} has the collateral")
    yield from _judge(evidence, collateral, verifier, heard.time)


class _Hearing:
    """A fetcher that notes what time the other side says it is."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self.time: datetime | None = None

    def __call__(self, url: str) -> Answer:
        answer = self._get(url)
        try:
            told = parsedate_to_datetime(answer.headers["date"])
        except (KeyError, ValueError):
            return answer
        self.time = told if told.tzinfo else told.replace(tzinfo=UTC)
        return answer


def _judge(
    evidence: bytes, collateral: Collateral, verifier: Verifier, told: datetime | None
) -> Iterator[Check]:
    """Yield the links that need no more than what was fetched: clock, quote, TCB and policy."""
    now = verifier.clock()
    skew = abs(told - now) if told else timedelta()
    if skew > _SKEW:
        yield Check(
            "clock",
            State.MISSING,
            f"it is {now.isoformat()} here and {told} at the PCCS",
            "set the clock that is wrong (timedatectl, or the node's NTP)",
        )
        return
    state, detail = (State.OK, "as the PCCS's") if told else (State.ABSENT, "the PCCS tells none")
    yield Check("clock", state, detail)
    verdict = verify(evidence, collateral, now, roots=verifier.roots)
    if verdict.claims is None:
        yield Check("genuine", State.MISSING, _words(verdict), verdict.advice)
        return
    yield Check("genuine", State.OK, f"under the root {verdict.claims.root.fingerprint.hex()}")
    mismatches = validate(verdict.claims, verifier.policy)
    status = verdict.claims.tcb_status.value
    if mismatches:
        why = "; ".join(map(str, mismatches))
        yield Check("policy", State.MISSING, why, "mend the platform, or what the policy wants")
        return
    yield Check("policy", State.OK, f"accepted, the platform is {status}")


def _words(verdict: Verdict) -> str:
    """Return why a quote is not genuine."""
    return f"step {verdict.step}, {verdict.reason.value}: {verdict.value}"


def _pccs_mend(error: EnsconceError) -> str:
    """Return what to do about a PCCS that does not give the collateral."""
    status = error.status if isinstance(error, ServiceError) else 0
    if status == _GONE:
        return "ask by version 4 of the interface: the URL ends in /sgx/certification/v4"
    if status:
        return "let the PCCS fetch what it lacks (ensconce pccs refresh), or import a bundle"
    return "start the PCCS, and see that its address and port can be reached from here"


def _no_quote(error: EnsconceError, verifier: Verifier) -> Check:
    """Return the check for a quote that can't be made, and why its PCK is missing if that is it."""
    detail = str(error)
    if _NO_DATA not in detail.lower():
        return Check("quote", State.MISSING, detail, "mend what the message names, and try again")
    if verifier.pck_id is None:
        return Check(
            "quote",
            State.MISSING,
            detail,
            "to learn which of its five causes it is, give what PCKIDRetrievalTool writes: --pckid",
        )
    try:
        cause = explain(verifier.pck_id, verifier.url, verifier.get)
    except ServiceError as fault:
        return Check("pccs", State.MISSING, str(fault), _pccs_mend(fault))
    return Check(f"pck ({cause.name.lower()})", State.MISSING, detail, cause.value)
