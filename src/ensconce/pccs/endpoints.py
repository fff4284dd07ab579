# SPDX-License-Identifier: Apache-2.0
"""The REST interface as one table: paths, parameters, who may, and what each does.

The table drives routing, validation and the OpenAPI document alike. Interface: Intel's PCCS of
2026, with what PCS v4 has beyond it (TCB evaluation data numbers).
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from urllib.parse import parse_qs, quote, urlsplit

from ensconce.dcap.roots import Root
from ensconce.errors import VerificationError
from ensconce.pccs.bundle import read_bundle
from ensconce.pccs.documents import read_appraisal_policy, read_registration
from ensconce.pccs.items import ROOT_CRL, Item, Key, Kind, Platform, Release, TcbKey
from ensconce.pccs.service import Service
from ensconce.pccs.statuses import Status, StatusError

__all__ = ["ENDPOINTS", "Asked", "Endpoint", "Parameter", "Reply"]

_JSON, _PEM, _CRL, _TEXT = (
    "application/json",
    "application/x-pem-file",
    "application/pkix-crl",
    "text/plain; charset=utf-8",
)
_STALE = '110 - "Response is Stale"'
_MAX_U32 = 0xFFFFFFFF
_ROOT_CRL_URI = re.compile(
    r"https://(?:[a-zA-Z0-9-]*certificates\.trustedservices\.intel\.com|certprx\.adsdcsp\.com)"
    r"/IntelSGXRootCA\..*"
)
_PCK_CRL_URI = re.compile(
    r"https://(?:(?:[a-zA-Z0-9-]*\.)?api\.trustedservices\.intel\.com"
    r"|[a-zA-Z0-9-]+\.az\.sgx(?:prod|np)\.adsdcsp\.com)/sgx/certification/v[1-9][0-9]*/pckcrl\?.*"
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: a pattern for all of it, ignoring case."""

    name: str
    pattern: str
    about: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """A request once its parameters were found well-formed; hexadecimal ones in upper case."""

    version: int
    tee: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. Until `fresh` (Unix time) the same question has the same one; 0 is never."""

    body: bytes
    media: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()
    fresh: int = 0


Handler = Callable[[Service, Asked], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path below `/sgx|tdx/certification/vN`, with all that is to be known of it."""

    method: str
    path: str
    about: str
    handler: Handler
    parameters: tuple[Parameter, ...] = ()
    media: str = _TEXT
    statuses: tuple[Status, ...] = ()
    token: str = ""
    tees: tuple[str, ...] = ("sgx",)
    versions: tuple[int, ...] = (3, 4)
    takes_body: bool = False

    def paths(self) -> Iterator[tuple[str, int]]:
        """Yield the full paths, each with its API version; TDX has version 4 only."""
        for tee in self.tees:
            for version in self.versions:
                if tee == "sgx" or version == 4:
                    yield f"/{tee}/certification/v{version}{self.path}", version


async def _pckcert(service: Service, asked: Asked) -> Reply:
    """Answer with the best PCK certificate for a platform's TCB."""
    query = asked.query
    platform = Platform(
        query["qeid"],
        query["pceid"],
        query["cpusvn"],
        query["pcesvn"],
        query.get("encrypted_ppid", ""),
    )
    found = await service.pck(platform)
    headers = (
        ("SGX-TCBm", found.certificate.tcbm),
        ("SGX-FMSPC", found.pcks.fmspc),
        ("SGX-PCK-Certificate-CA-Type", found.pcks.ca),
        ("SGX-PCK-Certificate-Issuer-Chain", _escaped(found.pcks.chain)),
    )
    return Reply(found.certificate.pem.encode(), _PEM, headers, service.now() + 60)


async def _pckcrl(service: Service, asked: Asked) -> Reply:
    """Answer with a PCK CRL: DER if asked for, else in hex."""
    item = await service.item(Key(Kind.PCK_CRL, asked.query["ca"].lower()))
    der = asked.query.get("encoding", "").lower() == "der"
    body = item.body if der else item.body.hex().encode()
    media = _CRL if der else _PEM
    return _reply(service, item, body, media, "SGX-PCK-CRL-Issuer-Chain")


async def _tcb(service: Service, asked: Asked) -> Reply:
    """Answer with TCB info, byte for byte as signed."""
    if asked.version == 3:
        if asked.query.get("update", "standard").lower() != Release.STANDARD:
            raise StatusError(Status.V3_END_OF_LIFE, "v3 is kept in its standard release only")
        key = Key(Kind.TCB, f"v3/{asked.query['fmspc']}/standard")
        return await _v3(service, key, "SGX-TCB-Info-Issuer-Chain")
    key = Key(Kind.TCB, f"{asked.tee}/{asked.query['fmspc']}/{_release(asked)}")
    item = await service.item(key)
    return _reply(service, item, item.body, _JSON, "TCB-Info-Issuer-Chain")


async def _identity(service: Service, asked: Asked, enclave: str) -> Reply:
    """Answer with an enclave's identity; its text is the same in v3 and v4."""
    key = Key(Kind.IDENTITY, f"{enclave}/{_release(asked)}")
    if asked.version == 3:
        return await _v3(service, key, "SGX-Enclave-Identity-Issuer-Chain")
    item = await service.item(key)
    return _reply(service, item, item.body, _JSON, "SGX-Enclave-Identity-Issuer-Chain")


async def _qe_identity(service: Service, asked: Asked) -> Reply:
    """Answer with the identity of the quoting enclave, of SGX or TDX."""
    return await _identity(service, asked, "qe" if asked.tee == "sgx" else "tdqe")


async def _qve_identity(service: Service, asked: Asked) -> Reply:
    """Answer with the identity of the quote verification enclave."""
    return await _identity(service, asked, "qve")


async def _numbers(service: Service, asked: Asked) -> Reply:
    """Answer with the TCB evaluation data numbers there are."""
    item = await service.item(Key(Kind.NUMBERS, asked.tee))
    return _reply(service, item, item.body, _JSON, "TCB-Evaluation-Data-Numbers-Issuer-Chain")


async def _root_crl(service: Service, _asked: Asked) -> Reply:
    """Answer with the root's CRL, in hex."""
    item = await service.item(ROOT_CRL)
    return _reply(service, item, item.body.hex().encode(), _PEM, "")


async def _crl(service: Service, asked: Asked) -> Reply:
    """Answer with the CRL at a URI, in DER: the root's or a PCK CA's; there are no others."""
    item = await service.item(_crl_key(asked.query["uri"], service.root))
    return _reply(service, item, item.body, _CRL, "")


async def _post_platforms(service: Service, asked: Asked) -> Reply:
    """Take over a platform's registration."""
    update = asked.query.get("update", "standard").lower()
    releases = tuple(Release) if update == "all" else (Release(update),)
    await service.register(read_registration(asked.body), releases)
    return _success()


async def _get_platforms(service: Service, asked: Asked) -> Reply:
    """Answer with the platforms that wait, or that are kept by FMSPC."""
    source = asked.query.get("source", "reg")
    if source.startswith("["):
        fmspcs = [word.strip().upper() for word in source[1:-1].split(",") if word.strip()]
        known = await service.read(lambda rows: rows.all_known(fmspcs))
        found = [
            asdict(each.platform) | {"cpu_svn": cpu_svn, "pce_svn": pce_svn}
            for each in known
            for cpu_svn, pce_svn in (each.answered or {TcbKey("", ""): ""})
        ]
    else:
        waiting = await service.take_registrations(not_available=source == "reg_na")
        found = [asdict(each) for each in waiting]
    return Reply(json.dumps(found).encode(), _JSON, (("platform-count", str(len(found))),))


async def _put_collateral(service: Service, asked: Asked) -> Reply:
    """Keep the collateral that the vendor's admin tool collected for an offline PCCS."""
    try:
        bundle = read_bundle(asked.body)
        await service.keep(bundle.items, bundle.platforms, bundle.policies)
    except VerificationError as error:
        raise StatusError(Status.INTEGRITY, str(error)) from error
    return _success()


async def _refresh(service: Service, asked: Asked) -> Reply:
    """Fetch the collateral, or PCK certificates, anew."""
    certificates = asked.query.get("type", "").lower() == "certs"
    fmspc = asked.query.get("fmspc")
    if certificates and fmspc is None:
        raise StatusError(Status.INVALID_REQUEST, "type=certs needs an fmspc")
    chosen = [fmspc] if certificates and fmspc else []
    result = await service.refresh(certificates=certificates, fmspcs=chosen)
    if result.failed:
        first = next(iter(result.failed.items()))
        raise StatusError(
            Status.UNAVAILABLE, f"{len(result.failed)} failed, the first {first[0]}: {first[1]}"
        )
    return _success()


async def _put_policy(service: Service, asked: Asked) -> Reply:
    """Keep an appraisal policy; the answer is its identifier."""
    policy = read_appraisal_policy(asked.body)
    await service.write(lambda rows: rows.put_policy(policy))
    return Reply(policy.id.encode())


async def _get_policy(service: Service, asked: Asked) -> Reply:
    """Answer with the default appraisal policies of an FMSPC, comma between."""
    found = await service.read(lambda rows: rows.policies(asked.query["fmspc"]))
    if not found:
        raise StatusError(Status.NO_CACHE_DATA, "there is no default policy of this FMSPC")
    return Reply(",".join(each.policy for each in found).encode())


async def _v3(service: Service, key: Key, header: str) -> Reply:
    """Answer in v3: from the cache, and 410 for what is not there."""
    item = await service.read(lambda rows: rows.item(key))
    if item is None:
        raise StatusError(Status.V3_END_OF_LIFE, f"{key} is not in the cache")
    return _reply(service, item, item.body, _JSON, header)


def _release(asked: Asked) -> str:
    """Return which TCB evaluation is asked for: a release or a number, not both."""
    number, update = asked.query.get("tcbEvaluationDataNumber"), asked.query.get("update")
    if number is None:
        return (update or "standard").lower()
    if update is not None or int(number) > _MAX_U32 or asked.version == 3:
        raise StatusError(
            Status.INVALID_REQUEST, "tcbEvaluationDataNumber goes without update, up to 2^32 - 1"
        )
    return str(int(number))


def _reply(service: Service, item: Item, body: bytes, media: str, chain: str) -> Reply:
    """Return an item as an answer, with the header that its issuer's chain has."""
    headers = ((chain, _escaped(item.chain)),) if chain else ()
    if item.expires <= service.now():
        return Reply(body, media, (*headers, ("Warning", _STALE)))
    return Reply(body, media, headers, item.expires)


def _success() -> Reply:
    """Return the answer of what was done."""
    return Reply(Status.SUCCESS.text.encode())


def _escaped(chain: str) -> str:
    """Return a chain as headers carry it, percent-encoded."""
    return quote(chain, safe="")


def _crl_key(uri: str, root: Root) -> Key:
    """Return which CRL is at a URI: at one of Intel's, or under a test root at one like them.

    Nothing is fetched from there: a URI is but a name for a CRL that the root answers for.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise StatusError(Status.INVALID_REQUEST, f"{uri[:200]!r} is no URI") from error
    test_place = "" if root.production else parts.path.rpartition("/")[2]
    if _ROOT_CRL_URI.fullmatch(uri) or test_place == "rootcacrl":
        return ROOT_CRL
    if _PCK_CRL_URI.fullmatch(uri) or test_place == "pckcrl":
        ca = parse_qs(parts.query).get("ca", [""])[0].lower()
        if ca in ("processor", "platform"):
            return Key(Kind.PCK_CRL, ca)
    raise StatusError(Status.INVALID_REQUEST, f"{uri[:200]!r} is not where such CRLs are")


_FMSPC = Parameter("fmspc", "[0-9a-f]{12}", "The platform family, 6 bytes in hex.")
_UPDATE = Parameter("update", "standard|early", "Which release of TCB evaluations.", required=False)
_NUMBER = Parameter(
    "tcbEvaluationDataNumber", "[0-9]{1,10}", "A TCB evaluation by number; without update.",
    required=False,
)  # fmt: skip
_SOURCE = r"reg|reg_na|\[ *(?:[0-9a-f]{12} *(?:, *[0-9a-f]{12} *){0,200})?\]"
_HAS = (Status.INVALID_REQUEST, Status.NO_CACHE_DATA, Status.V3_END_OF_LIFE, Status.UPSTREAM)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "GET", "/pckcert", "The best PCK certificate for a platform's TCB.", _pckcert,
        (
            Parameter("qeid", "[ -~]{1,260}", "The quoting enclave's identifier."),
            Parameter("cpusvn", "[0-9a-f]{32}", "CPUSVN, 16 bytes in hex."),
            Parameter("pcesvn", "[0-9a-f]{4}", "PCESVN, little-endian, in hex."),
            Parameter("pceid", "[0-9a-f]{4}", "PCE-ID, in hex."),
            Parameter(
                "encrypted_ppid", "[0-9a-f]{768}", "The PPID, encrypted for the PCS, in hex.",
                required=False,
            ),
        ),
        _PEM, (*_HAS, Status.PLATFORM_UNKNOWN, Status.CERTS_UNAVAILABLE),
    ),
    Endpoint(
        "GET", "/pckcrl", "The CRL of a PCK CA, in hex or in DER.", _pckcrl,
        (
            Parameter("ca", "processor|platform", "Which CA."),
            Parameter("encoding", "[a-z]{1,8}", "`der`, or hex for anything else.", required=False),
        ),
        _CRL, _HAS,
    ),
    Endpoint(
        "GET", "/tcb", "TCB info of a platform family, byte for byte as signed.", _tcb,
        (_FMSPC, _UPDATE, _NUMBER), _JSON, _HAS, tees=("sgx", "tdx"),
    ),
    Endpoint(
        "GET", "/qe/identity", "The quoting enclave's identity.", _qe_identity,
        (_UPDATE, _NUMBER), _JSON, _HAS, tees=("sgx", "tdx"),
    ),
    Endpoint(
        "GET", "/qve/identity", "The quote verification enclave's identity.", _qve_identity,
        (_UPDATE, _NUMBER), _JSON, _HAS,
    ),
    Endpoint(
        "GET", "/tcbevaluationdatanumbers", "The TCB evaluation data numbers there are.", _numbers,
        (), _JSON, _HAS, tees=("sgx", "tdx"), versions=(4,),
    ),
    Endpoint("GET", "/rootcacrl", "The root CA's CRL, in hex.", _root_crl, (), _PEM, _HAS),
    Endpoint(
        "GET", "/crl", "The CRL at a distribution point, in DER.", _crl,
        (Parameter("uri", ".{1,2048}", "The distribution point."),), _CRL, _HAS,
    ),
    Endpoint(
        "POST", "/platforms", "Register a platform.", _post_platforms,
        (Parameter("update", "standard|early|all", "Which releases to fetch.", required=False),),
        _TEXT, (*_HAS, Status.UNAUTHORIZED, Status.TOO_LARGE), "user", takes_body=True,
    ),
    Endpoint(
        "GET", "/platforms", "Platforms that wait for certificates, or that are kept by FMSPC.",
        _get_platforms,
        (Parameter("source", _SOURCE, "The queue, or a list of FMSPCs.", required=False),),
        _JSON, (Status.INVALID_REQUEST, Status.UNAUTHORIZED), "admin",
    ),
    Endpoint(
        "PUT", "/platformcollateral", "Keep collateral for an offline PCCS.", _put_collateral, (),
        _TEXT, (Status.INVALID_REQUEST, Status.UNAUTHORIZED, Status.TOO_LARGE, Status.INTEGRITY),
        "admin", takes_body=True,
    ),
    *(
        Endpoint(
            method, "/refresh", "Fetch collateral, or PCK certificates, anew.", _refresh,
            (
                Parameter("type", "certs", "PCK certificates.", required=False),
                Parameter("fmspc", _FMSPC.pattern, _FMSPC.about, required=False),
            ),
            _TEXT, (Status.INVALID_REQUEST, Status.UNAUTHORIZED, Status.UNAVAILABLE), "admin",
        )
        for method in ("GET", "POST")
    ),
    Endpoint(
        "PUT", "/appraisalpolicy", "Keep an appraisal policy.", _put_policy, (), _TEXT,
        (Status.INVALID_REQUEST, Status.UNAUTHORIZED, Status.TOO_LARGE), "admin", takes_body=True,
    ),
    Endpoint(
        "GET", "/appraisalpolicy", "The default appraisal policies of a family.", _get_policy,
        (_FMSPC,), _TEXT, (Status.INVALID_REQUEST, Status.NO_CACHE_DATA),
    ),
)  # fmt: skip
