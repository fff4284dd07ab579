# SPDX-License-Identifier: Apache-2.0
"""The test PCS over HTTP: the part of PCS API v4 that a PCCS asks for, of one emulated platform.

An ASGI application; needs the extra `server`. What is announced (TCB recoveries, revocations) is
looked up for every request, and everything is issued anew each time.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

from cryptography import x509
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ensconce.dcap.chain import PckCa
from ensconce.dcap.pck import PckExtension
from ensconce.platform.certificates import pem
from ensconce.platform.ledger import word
from ensconce.platform.quoting import EmulatedPlatform

__all__ = ["PREFIX", "emulated_ppid", "pcs_application"]

PREFIX = "/sgx/certification/v4"
_PPID_DIGITS = 768
_MAX_BODY = 1 << 16
_JSON = "application/json"


def emulated_ppid(found: EmulatedPlatform) -> str:
    """Return what stands for a platform's encrypted PPID, in hex: nothing is encrypted here."""
    return found.identity.platform_id.hex().upper().ljust(_PPID_DIGITS, "0")


def pcs_application(
    load: Callable[[], EmulatedPlatform], clock: Callable[[], datetime]
) -> Starlette:
    """Return the test PCS of the platform that `load` returns, as an ASGI application."""
    face = _Face(load, clock)
    answers: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/pckcerts": face.pcks,
        "/pckcrl": face.pck_crl,
        "/rootcacrl": face.root_crl,
        "/tcb": face.tcb,
        "/qe/identity": face.qe_identity,
        "/tcbevaluationdatanumbers": face.numbers,
    }
    return Starlette(
        routes=[
            Route(
                PREFIX + path, answer, methods=["GET", "POST"] if path == "/pckcerts" else ["GET"]
            )
            for path, answer in answers.items()
        ]
    )


class _Face:
    """The endpoints."""

    def __init__(self, load: Callable[[], EmulatedPlatform], clock: Callable[[], datetime]) -> None:
        self._load, self._clock = load, clock

    async def pcks(self, request: Request) -> Response:
        """Answer with the platform's PCK certificates, by PPID or manifest; 404 for any other."""
        found = self._load()
        if request.method == "POST":
            given = await _manifest(request)
        else:
            given = (
                request.query_params.get("encrypted_ppid", ""),
                request.query_params.get("pceid"),
            )
        mine = found.identity.platform_id.hex().upper()
        if not given[0].upper().startswith(mine) or given[1] != found.pcs.pce_id.hex():
            return Response(status_code=404)
        says = PckExtension.parse(found.pck.sgx_extension or b"")
        entry = {
            "tcbm": (says.cpu_svn + says.pce_svn.to_bytes(2, "little")).hex().upper(),
            "cert": quote(pem([found.pck.certificate()]), safe=""),
        }
        return Response(
            json.dumps([entry]),
            media_type=_JSON,
            headers={
                "SGX-FMSPC": found.pcs.fmspc.hex().upper(),
                "SGX-PCK-Certificate-CA-Type": found.pcs.ca.name.lower(),
                "SGX-PCK-Certificate-Issuer-Chain": _chain(
                    found.pcs.authorities[found.pcs.ca].chain()
                ),
            },
        )

    async def pck_crl(self, request: Request) -> Response:
        """Answer with a PCK CA's CRL in DER."""
        pcs = self._load().pcs
        try:
            ca = PckCa[request.query_params.get("ca", "").upper()]
        except KeyError:
            return Response(status_code=400)
        headers = {"SGX-PCK-CRL-Issuer-Chain": _chain(pcs.authorities[ca].chain())}
        body = pcs.pck_crl(self._clock(), ca)
        return Response(body, media_type="application/pkix-crl", headers=headers)

    async def root_crl(self, _request: Request) -> Response:
        """Answer with the root's CRL in DER."""
        body = self._load().pcs.root_crl(self._clock())
        return Response(body, media_type="application/pkix-crl")

    async def tcb(self, request: Request) -> Response:
        """Answer with TCB info."""
        pcs = self._load().pcs
        if request.query_params.get("fmspc", "").lower() != pcs.fmspc.hex():
            return Response(status_code=404)
        fields = pcs.tcb_info(self._clock())
        return self._signed(request, "tcbInfo", "TCB-Info-Issuer-Chain", fields)

    async def qe_identity(self, request: Request) -> Response:
        """Answer with the QE's identity."""
        fields = self._load().pcs.qe_identity(self._clock())
        return self._signed(request, "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain", fields)

    async def numbers(self, request: Request) -> Response:
        """Answer with the one TCB evaluation data number there is: old ones are not kept."""
        pcs, now = self._load().pcs, self._clock()
        since = word(pcs.ledger.levels[0].date)
        number = pcs.ledger.evaluation
        fields = {
            "id": "SGX",
            "version": 1,
            "issueDate": word(now),
            "nextUpdate": word(now + pcs.valid),
            "tcbEvalNumbers": [
                {
                    "tcbEvaluationDataNumber": number,
                    "tcbRecoveryEventDate": since,
                    "tcbDate": since,
                }
            ],
        }
        header = "TCB-Evaluation-Data-Numbers-Issuer-Chain"
        return self._signed(request, "tcbEvaluationDataNumbers", header, fields)

    def _signed(
        self, request: Request, wrapper: str, header: str, fields: dict[str, Any]
    ) -> Response:
        """Answer with a signed text, unless another TCB evaluation is asked for."""
        wanted = request.query_params.get("tcbEvaluationDataNumber")
        if wanted is not None and wanted != str(fields.get("tcbEvaluationDataNumber")):
            return Response(status_code=404)
        pcs = self._load().pcs
        signed = pcs.sign(fields)
        body = f'{{"{wrapper}":{signed.text},"signature":"{signed.signature.hex()}"}}'
        headers = {header: _chain(pcs.tcb_signing.chain())}
        return Response(body, media_type=_JSON, headers=headers)


async def _manifest(request: Request) -> tuple[str, str | None]:
    """Return the manifest and PCE-ID that are posted, empty if there are none to be read."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            return "", None
    try:
        posted = json.loads(body)
        return str(posted["platformManifest"]), str(posted["pceid"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", None


def _chain(certificates: list[x509.Certificate]) -> str:
    """Return a chain as headers carry it."""
    return quote(pem(certificates), safe="")
