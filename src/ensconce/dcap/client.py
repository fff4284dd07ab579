# SPDX-License-Identifier: Apache-2.0
"""Fetch a quote's collateral from a PCCS or PCS: the one module here that talks to anybody.

Nothing that comes back is believed: `verify` judges it. TLS keeps secret which platforms are asked
about, and no more, so a PCCS with a self-signed certificate is as good as any.
Source: Intel PCS API v4, and its PCCS.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlencode, urlsplit
from urllib.request import HTTPSHandler, Request, build_opener

from ensconce.dcap.certificate import Certificate, parse_chain
from ensconce.dcap.chain import PckCa
from ensconce.dcap.collateral import Collateral, crl_in, signed_in
from ensconce.dcap.pck import PckExtension
from ensconce.dcap.quote import CertificationKind, Quote, TeeType
from ensconce.errors import FormatError, ServiceError

__all__ = ["Answer", "Get", "PckId", "fetch_collateral", "web"]

_MAX_ANSWER = 2 << 20  # bytes
_SECONDS = 30
# A PPID encrypted for Intel, CPUSVN, PCESVN, PCE-ID
_PPID_SIZES = {CertificationKind.PPID_RSA2048: 256, CertificationKind.PPID_RSA3072: 384}
_QE_ID = slice(0, 16)  # of the header's user data


@dataclass(frozen=True, slots=True)
class Answer:
    """A body with the headers, whose names are in lower case."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PckId:
    """What a platform's PCK certificate is looked up by, in hex as PCKIDRetrievalTool writes it."""

    enc_ppid: str
    pce_id: str
    cpu_svn: str
    pce_svn: str
    qe_id: str

    def url(self, base: str) -> str:
        """Return the address of the certificate at a PCCS."""
        asked = {
            "qeid": self.qe_id,
            "encrypted_ppid": self.enc_ppid,
            "cpusvn": self.cpu_svn,
            "pcesvn": self.pce_svn,
            "pceid": self.pce_id,
        }
        return f"{base.rstrip('/')}/pckcert?{urlencode(asked)}"


Get = Callable[[str], Answer]
"""Fetch a URL; raise ServiceError where there is no answer of status 200."""


def fetch_collateral(quote: bytes, url: str, get: Get | None = None) -> Collateral:
    """Return the collateral that a quote needs, from the PCCS at a URL.

    The URL ends in `/sgx/certification/v4`; that for TDX is found beside it. `get` fetches, `web`
    if it is not given. Raises ServiceError, and FormatError for what can't be read.
    """
    get = web() if get is None else get
    base = url.rstrip("/")
    parsed = Quote.parse(quote)
    chain = b""
    if parsed.certification.kind in (CertificationKind.PCK_LEAF, CertificationKind.PCK_CHAIN):
        leaf = parse_chain(parsed.certification.data, "the quote's PCK chain")[0]
    else:
        chain = _pck_chain(parsed, base, get)
        leaf = parse_chain(chain, "the PCK chain")[0]
    pck = PckExtension.parse(leaf.sgx_extension or b"")
    tee = base.replace("/sgx/", "/tdx/") if parsed.header.tee_type == TeeType.TDX else base
    crl = get(f"{base}/pckcrl?{urlencode({'ca': _ca(leaf), 'encoding': 'der'})}")
    tcb = get(f"{tee}/tcb?{urlencode({'fmspc': pck.fmspc.hex().upper()})}")
    identity = get(f"{tee}/qe/identity")
    root_crl = get(f"{base}/rootcacrl")
    tcb_info, tcb_signature = signed_in(tcb.body, "tcbInfo", "the PCCS")
    qe_identity, qe_signature = signed_in(identity.body, "enclaveIdentity", "the PCCS")
    return Collateral(
        _chain(crl, "sgx-pck-crl-issuer-chain"),
        crl_in(root_crl.body, "the PCCS"),
        crl_in(crl.body, "the PCCS"),
        _chain(tcb, "tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"),
        tcb_info,
        tcb_signature,
        _chain(identity, "sgx-enclave-identity-issuer-chain"),
        qe_identity,
        qe_signature,
        chain,
    )


def web(*, check_tls: bool = True) -> Get:
    """Return a fetcher over HTTP(S); redirects are followed within HTTP(S) only."""
    context = ssl.create_default_context()
    if not check_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    opener = build_opener(HTTPSHandler(context=context))

    def get(url: str) -> Answer:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ServiceError(f"{url} is no address of a PCCS; give one with https://")
        try:
            with opener.open(Request(url), timeout=_SECONDS) as response:  # noqa: S310 (checked)
                body = response.read(_MAX_ANSWER + 1)
                headers = {name.lower(): value for name, value in response.headers.items()}
        except HTTPError as error:
            error.close()
            said = f"{url} answered {error.code} {error.reason}"
            raise ServiceError(said, status=error.code) from error
        except (URLError, HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ServiceError(f"{url} gave no answer: {reason}; is the PCCS up?") from error
        if len(body) > _MAX_ANSWER:
            raise ServiceError(f"{url} answered more than {_MAX_ANSWER} bytes; it is no PCCS")
        return Answer(body, headers)

    return get


def _ca(leaf: Certificate) -> str:
    """Return which CA's CRL a PCK certificate needs, as PCS has it."""
    issuer = leaf.issuer.decode("latin-1")
    return "processor" if PckCa.PROCESSOR.value in issuer else "platform"


def _pck_chain(quote: Quote, base: str, get: Get) -> bytes:
    """Return the PCK chain for a quote that names its platform by an encrypted PPID only."""
    kind, data = quote.certification.kind, quote.certification.data
    size = _PPID_SIZES.get(kind)
    if size is None or len(data) != size + 20:
        raise FormatError(
            f"the quote has certification data of type {int(kind)}, for which no PCCS can find the "
            "PCK certificate; give the collateral with its pck_certificate_chain",
            source="quote",
        )
    pck_id = PckId(
        enc_ppid=data[:size].hex().upper(),
        pce_id=data[size + 18 :].hex().upper(),
        cpu_svn=data[size : size + 16].hex().upper(),
        pce_svn=data[size + 16 : size + 18].hex().upper(),
        qe_id=quote.header.user_data[_QE_ID].hex().upper(),
    )
    answer = get(pck_id.url(base))
    return answer.body.rstrip() + b"\n" + _chain(answer, "sgx-pck-certificate-issuer-chain")


def _chain(answer: Answer, *names: str) -> bytes:
    """Return the issuer chain in one of an answer's headers, where it is URL-encoded PEM."""
    for name in names:
        if name in answer.headers:
            return unquote(answer.headers[name]).encode()
    raise FormatError(f"the PCCS's answer has no header {names[0]}; it is no PCCS", source="PCCS")
