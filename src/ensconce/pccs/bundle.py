# SPDX-License-Identifier: Apache-2.0
"""One file with all that a PCCS keeps, to carry to where there is no network.

Three forms are read, all JSON, and none is believed before `checks` has judged what is in it: our
own, which `write_bundle` makes; what the vendor's admin tool collects; and the collateral that a
verifier is given (`ensconce.dcap.Collateral`).
"""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from urllib.parse import unquote

from ensconce.dcap.certificate import parse_chain
from ensconce.dcap.collateral import Collateral
from ensconce.dcap.signed_json import Fields, parse_object
from ensconce.errors import FormatError
from ensconce.pccs.checks import pem_bytes
from ensconce.pccs.documents import platform_of, policy_text
from ensconce.pccs.items import ROOT_CRL, Item, Key, Kind, PckCertificate, PckList, TcbKey
from ensconce.pccs.store import Known, Policy

__all__ = ["Bundle", "RawItem", "read_bundle", "write_bundle"]

_VERSION = 1
_MAX_SIZE = 256 << 20
_MAX_TYPE = 2

RawItem = tuple[Key, bytes, str]
"""An item that nobody has checked: its key, body and issuer chain."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a file holds, unchecked."""

    items: list[RawItem]
    platforms: list[Known]
    policies: list[Policy]


def write_bundle(
    items: Iterable[Item], platforms: Iterable[Known], policies: Iterable[Policy]
) -> bytes:
    """Return a bundle's bytes: the same ones for the same contents."""
    contents = {
        "ensconce_pccs": _VERSION,
        "items": [
            {
                "kind": item.key.kind,
                "name": item.key.name,
                "body": base64.b64encode(item.body).decode(),
                "chain": item.chain,
            }
            for item in items
        ],
        "platforms": [
            asdict(known.platform)
            | {
                "complete": known.pcks.complete,
                "chain": known.pcks.chain,
                "certificates": [one._asdict() for one in known.pcks.certificates],
                "answered": [
                    tcb._asdict() | {"tcbm": tcbm} for tcb, tcbm in known.answered.items()
                ],
            }
            for known in platforms
        ],
        "policies": [policy._asdict() for policy in policies],
    }
    return json.dumps(contents, indent=1).encode() + b"\n"


def read_bundle(data: bytes) -> Bundle:
    """Return what a file of one of the three forms holds; FormatError if it is of none."""
    fields = parse_object(data, "the bundle", _MAX_SIZE)
    if "ensconce_pccs" in fields:
        return _own(fields)
    if "collaterals" in fields:
        return _vendors(fields)
    if "tcb_info" in fields:
        return Bundle(list(_collateral(Collateral.parse(data))), [], [])
    raise FormatError(
        "the bundle is neither a PCCS's export, nor collected by the vendor's admin tool, nor a "
        "verifier's collateral; `ensconce pccs export` makes one",
        source="bundle",
    )


def _own(fields: Fields) -> Bundle:
    """Return the contents of our own form."""
    if fields.number("ensconce_pccs", 0xFFFF) != _VERSION:
        fields.refuse("ensconce_pccs", f"{_VERSION}, the version known here")
    return Bundle(
        [
            (
                Key.parse(each.text("kind"), each.text("name")),
                _base64(each, "body"),
                each.text_if_any("chain"),
            )
            for each in fields.objects("items")
        ],
        [_known(each) for each in fields.objects("platforms")],
        [
            Policy(
                each.octets("fmspc", 6).hex().upper(),
                each.number("type", _MAX_TYPE),
                each.flag("is_default"),
                policy_text(each),
            )
            for each in fields.objects("policies")
        ],
    )


def _known(fields: Fields) -> Known:
    """Return a platform of our own form."""
    certificates = tuple(
        PckCertificate(_tcbm(each), each.text("pem")) for each in fields.objects("certificates")
    )
    answered = {
        TcbKey(_hex(each, "cpu_svn", 16), _hex(each, "pce_svn", 2)): _tcbm(each)
        for each in fields.objects("answered")
    }
    pcks = PckList("", "", fields.text("chain"), certificates, fields.flag("complete"))
    return Known(platform_of(fields), pcks, answered)


def _vendors(fields: Fields) -> Bundle:
    """Return the contents of what the vendor's admin tool collects."""
    found = fields.object("collaterals")
    certificates = found.object("certificates")
    pck_chains = certificates.object("SGX-PCK-Certificate-Issuer-Chain")
    chains = {ca: unquote(pck_chains.text_if_any(ca.upper())) for ca in ("processor", "platform")}
    items: list[RawItem] = list(_vendors_signed(found, certificates))
    crls = found.object("pckcacrl") if "pckcacrl" in found else Fields({}, "pckcacrl")
    for ca, chain in chains.items():
        if text := crls.text_if_any(f"{ca}Crl"):
            items.append((Key(Kind.PCK_CRL, ca), _der(text), chain))
    if text := found.text_if_any("rootcacrl"):
        items.append((ROOT_CRL, _der(text), ""))
    platforms = [platform_of(each) for each in fields.objects("platforms")]
    known = []
    for each in found.objects("pck_certs"):
        owner = platform_of(each)
        pcks = _vendors_pcks(each, [chain for chain in chains.values() if chain])
        same = [one for one in platforms if (one.qe_id, one.pce_id) == (owner.qe_id, owner.pce_id)]
        tcbs = {one.tcb: pcks.certificates[0].tcbm for one in same if one.tcb is not None}
        known += [Known(one, pcks, tcbs) for one in same[-1:] or [owner]]
    return Bundle(items, known, [])


def _vendors_signed(found: Fields, certificates: Fields) -> Iterator[RawItem]:
    """Yield the signed texts that the vendor's admin tool collected.

    It keeps TCB infos as objects; written compactly they have the signed bytes again, which the
    check of their signatures proves.
    """
    chain3 = unquote(certificates.text_if_any("SGX-TCB-Info-Issuer-Chain"))
    chain = unquote(certificates.text_if_any("TCB-Info-Issuer-Chain")) or chain3
    for each in found.objects("tcbinfos"):
        fmspc = _hex(each, "fmspc", 6)
        names = {"tcbinfo": f"v3/{fmspc}/standard"}
        for tee in ("sgx", "tdx"):
            names[f"{tee}_tcbinfo"] = f"{tee}/{fmspc}/standard"
            names[f"{tee}_tcbinfo_early"] = f"{tee}/{fmspc}/early"
        for name, key in names.items():
            if name in each:
                body = each.object(name).compact()
                yield Key(Kind.TCB, key), body, chain3 if name == "tcbinfo" else chain
    chain = unquote(certificates.text_if_any("SGX-Enclave-Identity-Issuer-Chain"))
    for enclave in ("qe", "tdqe", "qve"):
        for suffix, release in (("", "standard"), ("_early", "early")):
            if text := found.text_if_any(f"{enclave}identity{suffix}"):
                body = text.encode("utf-8", "replace")
                yield Key(Kind.IDENTITY, f"{enclave}/{release}"), body, chain


def _vendors_pcks(fields: Fields, chains: list[str]) -> PckList:
    """Return a platform's PCK certificates that the vendor's admin tool collected."""
    certificates = tuple(
        PckCertificate(_tcbm(each), pem)
        for each in fields.objects("certs")
        if (pem := unquote(each.text("cert"))) != "Not available"
    )
    if not certificates:
        fields.refuse("certs", "a list with a certificate")
    leaf, authority = "a PCK certificate", "a PCK CA's chain"
    issuer = parse_chain(pem_bytes(certificates[0].pem, leaf), leaf)[0].issuer
    for chain in chains:
        if parse_chain(pem_bytes(chain, authority), authority)[0].subject == issuer:
            return PckList("", "", chain, certificates)
    raise FormatError(
        "the bundle lacks the chain of the CA that issued its PCK certificates; collect it anew",
        source="bundle",
    )


def _collateral(found: Collateral) -> Iterator[RawItem]:
    """Yield the items in a verifier's collateral; both signed texts are of one TEE."""
    yield ROOT_CRL, found.root_ca_crl, ""
    name = parse_chain(found.pck_crl_issuer_chain, "pck_crl_issuer_chain")[0].common_name
    ca = "processor" if "Processor" in name else "platform"
    yield Key(Kind.PCK_CRL, ca), found.pck_crl, found.pck_crl_issuer_chain.decode()
    info = parse_object(found.tcb_info, "TCB info")
    fmspc = _hex(info, "fmspc", 6)
    tee = info.text_if_any("id").lower()
    if not tee:
        key = Key(Kind.TCB, f"v3/{fmspc}/standard")
    else:
        key = Key.parse(Kind.TCB, f"{tee}/{fmspc}/standard")
    body = _wrapped("tcbInfo", found.tcb_info, found.tcb_info_signature)
    yield key, body, found.tcb_info_issuer_chain.decode()
    body = _wrapped("enclaveIdentity", found.qe_identity, found.qe_identity_signature)
    enclave = "tdqe" if tee == "tdx" else "qe"
    key = Key(Kind.IDENTITY, f"{enclave}/standard")
    yield key, body, found.qe_identity_issuer_chain.decode()


def _wrapped(name: str, text: bytes, signature: bytes) -> bytes:
    """Return a signed text as a PCS answers it."""
    return b'{"%b":%b,"signature":"%b"}' % (name.encode(), text, signature.hex().encode())


def _tcbm(fields: Fields) -> str:
    """Return a certificate's TCB, 36 digits in upper case."""
    return _hex(fields, "tcbm", 18)


def _hex(fields: Fields, key: str, size: int) -> str:
    """Return bytes in hex, as digits in upper case."""
    return fields.octets(key, size).hex().upper()


def _base64(fields: Fields, key: str) -> bytes:
    """Return the bytes that a string has in base64."""
    try:
        return base64.b64decode(fields.text(key), validate=True)
    except ValueError:
        fields.refuse(key, "bytes in base64")


def _der(text: str) -> bytes:
    """Return the bytes that a text has in hex."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise FormatError(
            "the bundle has a CRL that is not hexadecimal; collect it anew", source="bundle"
        ) from error
