# SPDX-License-Identifier: Apache-2.0
"""PCCSs to order: over a database in a folder, at a time of choice, asked without a socket."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
from tests.dcap.corpus import CORPUS, quote_of, time_of

from ensconce.dcap import INTEL_ROOT, Quote, Root
from ensconce.dcap.certificate import parse_chain
from ensconce.dcap.pck import PckExtension
from ensconce.pccs import (
    Application,
    Bundle,
    Key,
    Kind,
    Known,
    Mode,
    PckCertificate,
    PckList,
    Platform,
    Service,
    Store,
    TcbKey,
    TokenHash,
    Upstream,
    hash_token,
    preset,
    read_bundle,
)

USER, ADMIN = "user-0f3a9c5d7e21b846", "admin-7b1d2e8f4a6c9035"
USER_HASH, ADMIN_HASH = hash_token(USER), hash_token(ADMIN)
SGX, TDX = "/sgx/certification/v4", "/tdx/certification/v4"
QE_ID, PPID = "0123456789ABCDEF0123456789ABCDEF", "AB" * 384
CASE = CORPUS / "sgx-v3-00606a000000-268c0681-eval17-2025-08-15"
NEWER = CORPUS / "sgx-v3-00606a000000-268c0681-eval21-2026-07-30"
FMSPC = "00606A000000"


@dataclass
class Clock:
    """A clock that stands until it is set."""

    time: datetime

    def __call__(self) -> datetime:
        return self.time


def collateral_bundle(case: Path) -> Bundle:
    """Return a case's collateral as a bundle."""
    return read_bundle((case / "collateral.json").read_bytes())


def platform_bundle(case: Path) -> Bundle:
    """Return a case's collateral, and the PCK certificate in its quote as its platform's list."""
    bundle = collateral_bundle(case)
    pem = Quote.parse(quote_of(case)).certification.data.decode().rstrip("\0")
    leaf, *_ = parse_chain(pem.encode(), "quote")
    extension = PckExtension.parse(leaf.sgx_extension or b"")
    tcb = TcbKey(
        extension.cpu_svn.hex().upper(), extension.pce_svn.to_bytes(2, "little").hex().upper()
    )
    first, rest = pem.split("-----END CERTIFICATE-----\n", 1)
    one = PckCertificate(tcb.cpu_svn + tcb.pce_svn, first + "-----END CERTIFICATE-----\n")
    known = Known(
        Platform(QE_ID, "0000", *tcb, PPID), PckList("", "", rest, (one,)), {tcb: one.tcbm}
    )
    return Bundle(bundle.items, [known], [])


def service(
    folder: Path,
    clock: Clock,
    *,
    mode: Mode = Mode.OFFLINE,
    upstream: Upstream | None = None,
    root: Root = INTEL_ROOT,
    name: str = "pccs",
) -> Service:
    """Return a PCCS over a database in a folder."""
    store = Store.open(f"sqlite:///{folder / name}.db")
    return Service(store, root, mode, upstream, clock=clock)


async def filled(folder: Path, case: Path, name: str = "pccs") -> Service:
    """Return an offline PCCS that has a case's collateral and platform."""
    made = service(folder, Clock(time_of(case)), name=name)
    bundle = platform_bundle(case)
    await made.keep(bundle.items, bundle.platforms)
    return made


def application(made: Service) -> Application:
    """Return a PCCS's HTTP face."""
    return Application(
        made, user=TokenHash(USER_HASH, "user"), admin=TokenHash(ADMIN_HASH, "admin")
    )


@asynccontextmanager
async def asking(app: object) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of an ASGI application."""
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # any ASGI application
    async with httpx.AsyncClient(transport=transport, base_url="http://pccs.test") as client:
        yield client


class Counting:
    """An ASGI application that counts what another one is asked, and can fail first."""

    def __init__(self, app: object, failures: Iterable[int] = ()) -> None:
        self._app = app
        self.paths: list[str] = []
        self.failures = list(failures)

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        self.paths.append(scope["path"])
        if self.failures:
            status = self.failures.pop(0)
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._app(scope, receive, send)  # type: ignore[operator]


async def no_pause(_seconds: float) -> None:
    """Not wait between attempts."""


def upstream_of(app: object, kind: str = "pccs") -> Upstream:
    """Return another PCCS, or a PCS, as an upstream without a socket."""
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # any ASGI application
    chosen = preset(kind, url="http://upstream.test/sgx/certification/v4/")
    return Upstream(chosen, httpx.AsyncClient(transport=transport), pause=no_pause)


TCB_KEY = Key(Kind.TCB, f"sgx/{FMSPC}/standard")
