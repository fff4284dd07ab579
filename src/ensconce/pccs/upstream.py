# SPDX-License-Identifier: Apache-2.0
"""Ask a PCS or another PCCS. Nothing is believed here: `checks` judges what comes back."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx

from ensconce.dcap.collateral import crl_in
from ensconce.errors import FormatError
from ensconce.pccs.items import Key, Kind, PckCertificate, Platform
from ensconce.pccs.presets import Preset
from ensconce.pccs.statuses import Status, StatusError

__all__ = ["Answered", "PckAnswer", "Upstream"]

_LOG = logging.getLogger(__name__)
_MAX_BODY = 4 << 20
_MOST_AT_ONCE = 16
_ATTEMPTS = 4
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
_UNAVAILABLE = "Not available"
_KEY_HEADER = "Ocp-Apim-Subscription-Key"
_CHAINS = {
    Kind.PCK_CRL: ("SGX-PCK-CRL-Issuer-Chain",),
    Kind.TCB: ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"),
    Kind.IDENTITY: ("SGX-Enclave-Identity-Issuer-Chain",),
    Kind.NUMBERS: ("TCB-Evaluation-Data-Numbers-Issuer-Chain",),
}
_PCK_CHAIN = "SGX-PCK-Certificate-Issuer-Chain"


@dataclass(frozen=True, slots=True)
class Answered:
    """What an upstream says an item is: body, and issuer chain in PEM."""

    body: bytes
    chain: str


@dataclass(frozen=True, slots=True)
class PckAnswer:
    """What an upstream says a platform's PCK certificates are.

    `missing` are TCBs for which it has none although they exist (a platform to register anew).
    """

    certificates: tuple[PckCertificate, ...]
    chain: str
    missing: tuple[str, ...]
    complete: bool


class Upstream:
    """An upstream behind an HTTP client. `pause` sleeps; tests pass another one."""

    def __init__(
        self,
        preset: Preset,
        client: httpx.AsyncClient,
        *,
        api_key: str = "",
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.preset = preset
        self._client = client
        self._api_key = api_key
        self._pause = pause
        self._limit = asyncio.Semaphore(_MOST_AT_ONCE)
        self.outcomes: dict[str, int] = {}

    async def item(self, key: Key) -> Answered:
        """Return an item. Raises StatusError (404, 410 or 502)."""
        url, query = self._place(key)
        response = await self._ask("GET", url, query)
        body = response.content
        if key.kind in (Kind.ROOT_CRL, Kind.PCK_CRL):
            body = _der(body, str(key))
        return Answered(body, _chain(response.headers, _CHAINS.get(key.kind, ())))

    async def pcks(self, platform: Platform) -> PckAnswer:
        """Return a platform's PCK certificates. Raises StatusError (404 or 502)."""
        if self.preset.lists_pcks:
            return await self._all_pcks(platform)
        if platform.tcb is None:
            raise StatusError(
                Status.INVALID_REQUEST,
                f"the upstream {self.preset.name} is a PCCS and tells PCK certificates only by "
                "TCB; register the platform with the upstream by its manifest, and ask by TCB here",
            )
        query = {
            "qeid": platform.qe_id,
            "encrypted_ppid": platform.enc_ppid,
            "cpusvn": platform.cpu_svn,
            "pcesvn": platform.pce_svn,
            "pceid": platform.pce_id,
        }
        query = {name: value for name, value in query.items() if value}
        response = await self._ask("GET", self.preset.url + "pckcert", query)
        one = PckCertificate(response.headers.get("SGX-TCBm", "").upper(), _text(response.content))
        return PckAnswer((one,), _chain(response.headers, (_PCK_CHAIN,)), (), complete=False)

    async def _all_pcks(self, platform: Platform) -> PckAnswer:
        """Return all PCK certificates that a PCS has for a platform."""
        url = self.preset.url + "pckcerts"
        if platform.platform_manifest:
            asked = {"platformManifest": platform.platform_manifest, "pceid": platform.pce_id}
            response = await self._ask("POST", url, {}, asked)
        elif not platform.enc_ppid.strip("0"):
            raise StatusError(
                Status.NO_CACHE_DATA,
                "the encrypted PPID is all zeros: the platform has several packages and was not "
                "registered, or lost its keys; register it by its manifest",
            )
        else:
            query = {"encrypted_ppid": platform.enc_ppid, "pceid": platform.pce_id}
            response = await self._ask("GET", url, query)
        try:
            entries = json.loads(response.content)
            told = [(str(each["tcbm"]).upper(), unquote(str(each["cert"]))) for each in entries]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _broken("a list of PCK certificates that can't be read") from error
        return PckAnswer(
            tuple(PckCertificate(tcbm, pem) for tcbm, pem in told if pem != _UNAVAILABLE),
            _chain(response.headers, (_PCK_CHAIN,)),
            tuple(tcbm for tcbm, pem in told if pem == _UNAVAILABLE),
            complete=True,
        )

    def _place(self, key: Key) -> tuple[str, dict[str, str]]:
        """Return the URL and query of an item."""
        first, _, rest = key.name.partition("/")
        base = self.preset.url
        if first.startswith("td") and "/sgx/" in base:
            base = base.replace("/sgx/certification/", "/tdx/certification/")
        match key.kind:
            case Kind.ROOT_CRL:
                return str(httpx.URL(base).join(self.preset.root_crl)), {}
            case Kind.PCK_CRL:
                return base + "pckcrl", {"ca": key.name, "encoding": "der"}
            case Kind.TCB:
                fmspc, _, release = rest.partition("/")
                return base + "tcb", {"fmspc": fmspc} | _release(release)
            case Kind.IDENTITY:
                enclave = "qve" if first == "qve" else "qe"
                return f"{base}{enclave}/identity", _release(rest)
            case Kind.NUMBERS:
                return base + "tcbevaluationdatanumbers", {}

    async def _ask(
        self, method: str, url: str, query: Mapping[str, str], body: Any = None
    ) -> httpx.Response:
        """Return an answer of 200; ask again, ever later, where that may help."""
        pause = _FIRST_PAUSE
        for attempt in range(1, _ATTEMPTS + 1):
            why, wanted = "", 0.0
            try:
                async with self._limit:
                    response = await self._once(method, url, query, body)
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            else:
                code = response.status_code
                self._count(str(code))
                if code == httpx.codes.OK:
                    return response
                if (
                    code != httpx.codes.TOO_MANY_REQUESTS
                    and code < httpx.codes.INTERNAL_SERVER_ERROR
                ):
                    raise _refused(url, response)
                why, wanted = f"status {code}", _retry_after(response.headers)
            if attempt < _ATTEMPTS:
                _LOG.warning("upstream=%s attempt=%d failed=%r", url, attempt, why)
                await self._pause(min(max(pause, wanted), _LONGEST_PAUSE))
                pause *= 2
        self._count("unreachable")
        raise StatusError(
            Status.UPSTREAM, f"{url} gave no answer in {_ATTEMPTS} attempts, at last {why}"
        )

    async def _once(
        self, method: str, url: str, query: Mapping[str, str], body: Any
    ) -> httpx.Response:
        """Ask once; an answer that is too large is none."""
        headers = {_KEY_HEADER: self._api_key} if self._api_key and "pckcert" in url else {}
        request = self._client.build_request(
            method, url, params=dict(query) or None, json=body, headers=headers, timeout=_TIMEOUT
        )
        response = await self._client.send(request, stream=True)
        try:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _MAX_BODY:
                    raise _broken(f"more than {_MAX_BODY} bytes")
        finally:
            await response.aclose()
        kept = httpx.Headers(
            [(n, v) for n, v in response.headers.multi_items() if n != "content-encoding"]
        )
        return httpx.Response(response.status_code, headers=kept, content=bytes(content))

    def _count(self, outcome: str) -> None:
        """Count an outcome, for the metrics."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


def _release(word: str) -> dict[str, str]:
    """Return the query of a release or of a TCB evaluation's number."""
    return {"tcbEvaluationDataNumber" if word.isdigit() else "update": word}


def _refused(url: str, response: httpx.Response) -> StatusError:
    """Return what an answer that asking again won't better means."""
    code, told = response.status_code, response.headers.get("Error-Message", "")[:200]
    match code:
        case 404 | 461 | 462:
            why, status = "has none", Status.NO_CACHE_DATA
        case 410:
            why, status = "no longer has it", Status.EVALUATION_GONE
        case 401 | 403:
            why, status = "wants an API key, or another one", Status.UPSTREAM
        case _:
            why, status = f"answered {code}", Status.UPSTREAM
    return StatusError(status, f"{url} {why} {told}".rstrip())


def _broken(what: str) -> StatusError:
    """Return the error of an answer that can't be used."""
    return StatusError(Status.UPSTREAM, f"the upstream answered {what}")


def _retry_after(headers: httpx.Headers) -> float:
    """Return how many seconds an upstream asks to wait."""
    word = headers.get("Retry-After", "")
    return float(word) if word.isdigit() and len(word) < 6 else 0.0


def _chain(headers: httpx.Headers, names: tuple[str, ...]) -> str:
    """Return the PEM chain in one of some headers, empty if none is there."""
    return next((unquote(headers[name]) for name in names if name in headers), "")


def _text(body: bytes) -> str:
    """Return a body as text."""
    try:
        return body.decode("ascii")
    except UnicodeDecodeError as error:
        raise _broken("a certificate that is no PEM") from error


def _der(body: bytes, what: str) -> bytes:
    """Return a CRL that may be in DER or, as a PCCS answers, in hex."""
    try:
        return crl_in(body, what)
    except FormatError as error:
        raise _broken(f"what is no CRL: {error}") from error
