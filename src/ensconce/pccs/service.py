# SPDX-License-Identifier: Apache-2.0
"""What a PCCS does, without HTTP: find collateral in the cache or upstream, and keep it right.

Rules:
- Nothing is kept before `checks` has found it genuine, and nothing older replaces what is kept.
- Requests that miss the same thing at the same time make one request upstream; what an upstream
  did not have is not asked for again for a minute.
- What has expired is fetched anew; where that fails it is served all the same, for the verifier
  judges it, and the answer says that it is stale.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from ensconce.dcap.certificate import Crl
from ensconce.dcap.roots import Root
from ensconce.errors import ConfigError, EnsconceError, FormatError, VerificationError
from ensconce.pccs.checks import Trust, check_item, check_pcks, tcb_info_of
from ensconce.pccs.items import (
    ROOT_CRL,
    Item,
    Key,
    Kind,
    PckCertificate,
    PckList,
    Platform,
    Release,
    TcbKey,
)
from ensconce.pccs.selection import select_pck
from ensconce.pccs.statuses import Status, StatusError
from ensconce.pccs.store import Known, Policy, Store, Transaction
from ensconce.pccs.upstream import Upstream

__all__ = ["Mode", "Pck", "Refreshed", "Service"]

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_ABSENT_FOR = 60.0
_MOST_ABSENT = 4096
_ABSENT = (Status.NO_CACHE_DATA, Status.EVALUATION_GONE, Status.CERTS_UNAVAILABLE)
_NEW, _NOT_AVAILABLE = "new", "not_available"


class Mode(StrEnum):
    """When the upstream is asked: at a miss, at a platform's registration, or never."""

    LAZY = "lazy"
    REQUEST = "request"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Pck:
    """The PCK certificate for a platform's TCB, and the list it is from."""

    certificate: PckCertificate
    pcks: PckList


@dataclass(slots=True)
class Refreshed:
    """What a refresh came to; `failed` has the reason by item or platform."""

    renewed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class Service:
    """A PCCS. Time comes from `clock`, the upstream is None in offline mode."""

    def __init__(
        self,
        store: Store,
        root: Root,
        mode: Mode,
        upstream: Upstream | None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if (upstream is None) != (mode is Mode.OFFLINE):
            raise ConfigError("a PCCS has an upstream unless it is offline; set one or the other")
        self.store, self.root, self.mode, self.upstream = store, root, mode, upstream
        self.clock = clock
        self.changed = 0
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}
        self._absent: dict[Hashable, float] = {}

    def check_root(self) -> None:
        """Refuse a database whose collateral is of another root than the trusted one."""
        with self.store.reading() as rows:
            kept = rows.item(ROOT_CRL)
        if kept is not None and not Crl.parse(kept.body, "root_ca_crl").signed_by(
            self.root.certificate
        ):
            raise ConfigError(
                "the database holds collateral of another root than the one trusted now; use "
                "another database for another root"
            )

    def now(self) -> int:
        """Return the time in Unix seconds."""
        return int(self.clock().timestamp())

    async def item(self, key: Key) -> Item:
        """Return an item, from the cache or from upstream. Raises StatusError."""
        kept = await self.read(lambda rows: rows.item(key))
        if kept is None and key.number is not None:
            kept = await self._by_number(key)
        if kept is not None and kept.expires > self.now():
            return kept
        if self.mode is Mode.LAZY and not key.name.startswith("v3/"):
            try:
                return await self._once(key, lambda: self._fetch(key))
            except StatusError as error:
                if kept is None:
                    raise
                _LOG.warning("item=%r stale=yes reason=%r", str(key), str(error))
        if kept is None:
            raise StatusError(Status.NO_CACHE_DATA, f"{key} is not in the cache")
        return kept

    async def pck(self, asked: Platform) -> Pck:
        """Return the best PCK certificate for the TCB that a platform has. Raises StatusError."""
        tcb = asked.tcb
        if tcb is None:
            raise StatusError(Status.INVALID_REQUEST, "a PCK certificate is for a TCB; give it")
        known = await self.read(lambda rows: rows.known(asked.qe_id, asked.pce_id))
        if known is None and self.mode is not Mode.LAZY:
            raise StatusError(
                Status.PLATFORM_UNKNOWN,
                f"platform {asked.qe_id} never registered here; register it by POST /platforms",
            )
        if known is None and not asked.enc_ppid:
            raise StatusError(
                Status.INVALID_REQUEST,
                f"platform {asked.qe_id} is new and gave no encrypted PPID to ask upstream with",
            )
        found = None if known is None else await self._best(known, tcb)
        if found is None and self.mode is Mode.LAZY:
            asked = _with_kept(asked, known)
            known = await self._once(asked, lambda: self._fetch_pcks(asked))
            found = await self._best(known, tcb)
        if found is None or known is None:
            raise StatusError(
                Status.NO_CACHE_DATA,
                f"platform {asked.qe_id} has no certificate for CPUSVN {tcb.cpu_svn} and PCESVN "
                f"{tcb.pce_value} or below; register it anew after a change of its firmware",
            )
        return Pck(found, known.pcks)

    async def register(self, platform: Platform, releases: Iterable[Release]) -> None:
        """Take over a platform's registration: fetch what it needs, or queue it when offline."""
        known = await self.read(lambda rows: rows.known(platform.qe_id, platform.pce_id))
        cached = known is not None and await self._covers(known, platform)
        if self.mode is Mode.OFFLINE:
            if not cached:
                await self.write(lambda rows: rows.put_registration(platform, _NEW))
            return
        if not cached:
            if self.mode is Mode.REQUEST:
                await self.write(lambda rows: rows.put_registration(platform, _NEW))
            wanted = _with_kept(platform, known)
            self._absent.pop(wanted, None)  # it may be registered upstream by now
            known = await self._once(wanted, lambda: self._fetch_pcks(wanted))
            await self.write(lambda rows: rows.drop_registration(platform))
        if known is not None:
            await self._collect(known.pcks, list(releases))

    async def take_registrations(self, *, not_available: bool) -> list[Platform]:
        """Return the platforms that wait for certificates, and forget them."""
        state = _NOT_AVAILABLE if not_available else _NEW

        def take(rows: Transaction) -> list[Platform]:
            found = rows.registrations(state)
            rows.drop_registrations(state)
            return found

        return await self.write(take)

    async def refresh(self, *, certificates: bool = False, fmspcs: Iterable[str] = ()) -> Refreshed:
        """Fetch all collateral anew, or the PCK certificates of some FMSPCs (none: of all)."""
        if self.upstream is None:
            raise StatusError(Status.UNAVAILABLE, "an offline PCCS has nowhere to refresh from")
        result = Refreshed()
        if certificates:
            chosen = list(fmspcs)
            known = await self.read(lambda rows: rows.all_known(chosen))
            await asyncio.gather(*(self._refresh_pcks(each, result) for each in known))
            return result
        kept = await self.read(lambda rows: rows.items())
        for each in [one for one in kept if one.key == ROOT_CRL]:  # the others are checked with it
            await self._refresh_item(each, result)
        rest = [one for one in kept if one.key != ROOT_CRL and not one.key.name.startswith("v3/")]
        await asyncio.gather(*(self._refresh_item(each, result) for each in rest))
        return result

    async def keep(
        self,
        raw: Iterable[tuple[Key, bytes, str]],
        lists: Iterable[Known] = (),
        policies: Iterable[Policy] = (),
    ) -> int:
        """Check items and PCK lists from elsewhere, keep all of them or none, and count the news.

        Raises Refusal, FormatError.
        """
        now, trust = self.clock(), await self._kept_trust()
        checked: list[Item] = []
        for key, body, chain in sorted(raw, key=lambda one: one[0] != ROOT_CRL):
            checked.append(await asyncio.to_thread(check_item, key, body, chain, trust, now))
            if key == ROOT_CRL:
                trust = Trust(self.root, Crl.parse(body, str(key)))
        genuine = [await asyncio.to_thread(_check_known, each, trust, now) for each in lists]
        added = list(policies)

        def put(rows: Transaction) -> int:
            news = sum(rows.put(item) for item in checked)
            for known in genuine:
                news += rows.known(known.platform.qe_id, known.platform.pce_id) != known
                rows.put_known(known)
            for policy in added:
                rows.put_policy(policy)
            return news

        return await self.write(put)

    async def read(self, action: Callable[[Transaction], _T]) -> _T:
        """Do something with the database in a thread."""

        def run() -> _T:
            with self.store.reading() as rows:
                return action(rows)

        return await asyncio.to_thread(run)

    async def write(self, action: Callable[[Transaction], _T]) -> _T:
        """Change the database in a thread."""

        def run() -> _T:
            with self.store.writing() as rows:
                return action(rows)

        try:
            return await asyncio.to_thread(run)
        finally:
            self.changed += 1

    async def _by_number(self, key: Key) -> Item | None:
        """Return the item of a release that happens to be of the evaluation asked for."""
        keys = [key.of(release) for release in Release]
        for kept in await self.read(lambda rows: [rows.item(each) for each in keys]):
            if kept is not None and kept.number == key.number and kept.expires > self.now():
                return kept
        return None

    async def _best(self, known: Known, tcb: TcbKey) -> PckCertificate | None:
        """Return the best certificate that is kept for a TCB, None if there is none."""
        if not known.pcks.complete:
            tcbm = known.answered.get(tcb)
            return next((one for one in known.pcks.certificates if one.tcbm == tcbm), None)
        standard = Key(Kind.TCB, f"sgx/{known.pcks.fmspc}/{Release.STANDARD}")
        early = standard.of(Release.EARLY)
        item = await self.read(lambda rows: rows.item(early)) or await self.item(standard)
        return select_pck(known.pcks.certificates, tcb, tcb_info_of(item))

    async def _covers(self, known: Known, platform: Platform) -> bool:
        """Return whether what is kept of a platform answers its registration."""
        manifest = platform.platform_manifest
        if manifest and manifest != known.platform.platform_manifest:
            return False
        return platform.tcb is None or await self._best(known, platform.tcb) is not None

    async def _fetch(self, key: Key) -> Item:
        """Fetch an item from upstream, check it and keep it."""
        trust = Trust(self.root, None) if key == ROOT_CRL else await self._trust()
        answer = await self._upstream.item(key)
        try:
            item = await asyncio.to_thread(
                check_item, key, answer.body, answer.chain, trust, self.clock()
            )
            await self.write(lambda rows: rows.put(item))
        except (FormatError, VerificationError) as error:
            raise _not_genuine(error) from error
        return item

    async def _fetch_pcks(self, platform: Platform) -> Known:
        """Fetch a platform's PCK certificates from upstream, check them and keep them."""
        trust = await self._trust()
        answer = await self._upstream.pcks(platform)
        if not answer.certificates:
            raise StatusError(
                Status.CERTS_UNAVAILABLE,
                f"the upstream has no PCK certificate of platform {platform.qe_id} ready, and "
                f"{len(answer.missing)} TCBs without one; register the platform anew",
            )
        try:
            pcks = await asyncio.to_thread(
                check_pcks,
                answer.certificates,
                answer.chain,
                platform.pce_id,
                trust,
                self.clock(),
            )
        except (FormatError, VerificationError) as error:
            raise _not_genuine(error) from error
        pcks = replace(pcks, complete=answer.complete)
        if pcks.complete:  # the best one is chosen by it
            await self._want(Key(Kind.TCB, f"sgx/{pcks.fmspc}/{Release.STANDARD}"))

        def put(rows: Transaction) -> Known | None:
            answered = {} if platform.tcb is None else {platform.tcb: answer.certificates[0].tcbm}
            rows.put_known(Known(platform, pcks, answered))
            if self.mode is Mode.REQUEST:
                for tcbm in answer.missing:
                    waits = replace(platform, cpu_svn=tcbm[:32], pce_svn=tcbm[32:36])
                    rows.put_registration(waits, _NOT_AVAILABLE)
            return rows.known(platform.qe_id, platform.pce_id)

        known = await self.write(put)
        if known is None:
            raise StatusError(Status.INTERNAL, "the platform just written is not there")
        return known

    async def _want(self, key: Key) -> Item:
        """Return an item that is kept and of this time, or fetch it whatever the mode."""
        kept = await self.read(lambda rows: rows.item(key))
        if kept is not None and kept.expires > self.now():
            return kept
        return await self._once(key, lambda: self._fetch(key))

    async def _collect(self, pcks: PckList, releases: list[Release]) -> None:
        """Fetch what a verifier of a platform's quotes needs; not every upstream has it all."""
        sgx = f"sgx/{pcks.fmspc}/"
        must = [
            ROOT_CRL,
            Key(Kind.PCK_CRL, pcks.ca),
            Key(Kind.TCB, sgx + "standard"),
            Key(Kind.IDENTITY, "qe/standard"),
        ]
        may = [Key(Kind.PCK_CRL, "processor" if pcks.ca == "platform" else "platform")]
        for release in releases:
            may += [Key(Kind.TCB, sgx + release), Key(Kind.TCB, f"tdx/{pcks.fmspc}/{release}")]
            may += [Key(Kind.IDENTITY, f"{name}/{release}") for name in ("qe", "tdqe", "qve")]
        await self._want(ROOT_CRL)
        await asyncio.gather(*map(self._want, must))
        for result in await asyncio.gather(*map(self._want, may), return_exceptions=True):
            if isinstance(result, EnsconceError):
                _LOG.info("optional=yes missing=%r", str(result))
            elif isinstance(result, BaseException):
                raise result

    async def _refresh_item(self, kept: Item, result: Refreshed) -> None:
        """Fetch an item anew and note what came of it."""
        try:
            fresh = await self._fetch(kept.key)
        except EnsconceError as error:
            gone = isinstance(error, StatusError) and error.status is Status.EVALUATION_GONE
            if not (gone and kept.key.number is not None):
                _LOG.error("refresh=%r failed=%r", str(kept.key), str(error))
                result.failed[str(kept.key)] = str(error)
            return
        (result.unchanged if fresh == kept else result.renewed).append(str(kept.key))

    async def _refresh_pcks(self, known: Known, result: Refreshed) -> None:
        """Fetch a platform's PCK certificates anew and note what came of it."""
        tcbs: list[TcbKey | None] = [None] if known.pcks.complete else [*known.answered]
        name = f"platform {known.platform.qe_id}"
        for tcb in tcbs:
            asked = known.platform
            if tcb is not None:
                asked = replace(asked, cpu_svn=tcb.cpu_svn, pce_svn=tcb.pce_svn)
            try:
                await self._fetch_pcks(asked)
            except EnsconceError as error:
                _LOG.error("refresh=%r failed=%r", name, str(error))
                result.failed[name] = str(error)
                return
        result.renewed.append(name)

    async def _kept_trust(self) -> Trust:
        """Return what genuine means, with the root's CRL that is kept, if one is."""
        kept = await self.read(lambda rows: rows.item(ROOT_CRL))
        return Trust(self.root, None if kept is None else Crl.parse(kept.body, str(ROOT_CRL)))

    async def _trust(self) -> Trust:
        """Return what genuine means, with the root's CRL of now."""
        item = await self._want(ROOT_CRL)
        return Trust(self.root, Crl.parse(item.body, str(ROOT_CRL)))

    async def _once(self, what: Hashable, make: Callable[[], Awaitable[_T]]) -> _T:
        """Do something once for all who ask at the same time."""
        if time.monotonic() < self._absent.get(what, 0.0):
            raise StatusError(Status.NO_CACHE_DATA, f"the upstream had no {what} a moment ago")
        task = self._flights.get(what)
        if task is None:
            task = asyncio.ensure_future(self._note_absence(what, make))
            self._flights[what] = task
            task.add_done_callback(lambda done: self._land(what, done))
        result: _T = await asyncio.shield(task)
        return result

    async def _note_absence(self, what: Hashable, make: Callable[[], Awaitable[_T]]) -> _T:
        """Do something, and remember if the upstream had nothing."""
        try:
            return await make()
        except StatusError as error:
            if error.status in _ABSENT:
                if len(self._absent) >= _MOST_ABSENT:
                    self._absent.clear()
                self._absent[what] = time.monotonic() + _ABSENT_FOR
            raise

    def _land(self, what: Hashable, done: "asyncio.Task[Any]") -> None:
        """Forget a request upstream that has ended; its waiters have its result."""
        self._flights.pop(what, None)
        if not done.cancelled():
            done.exception()

    @property
    def _upstream(self) -> Upstream:
        """The upstream, which only an offline PCCS has not."""
        if self.upstream is None:
            raise StatusError(Status.NO_CACHE_DATA, "an offline PCCS never asks upstream")
        return self.upstream


def _with_kept(asked: Platform, known: Known | None) -> Platform:
    """Return a platform with the identifiers that it gave before, where it gives none now."""
    if known is None:
        return asked
    kept = known.platform
    return replace(
        asked,
        enc_ppid=asked.enc_ppid or kept.enc_ppid,
        platform_manifest=asked.platform_manifest or kept.platform_manifest,
    )


def _check_known(known: Known, trust: Trust, now: datetime) -> Known:
    """Return a platform from elsewhere once its certificates are genuine."""
    pcks = check_pcks(known.pcks.certificates, known.pcks.chain, known.platform.pce_id, trust, now)
    return replace(known, pcks=replace(pcks, complete=known.pcks.complete))


def _not_genuine(error: EnsconceError) -> StatusError:
    """Return the status of an upstream that serves what is not genuine; nothing of it is kept."""
    _LOG.error("upstream=refused reason=%r", str(error))
    return StatusError(Status.UPSTREAM, f"the upstream's answer was refused: {error}")
