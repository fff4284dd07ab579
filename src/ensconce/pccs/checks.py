# SPDX-License-Identifier: Apache-2.0
"""Is collateral genuine? Nothing is kept that does not lead to the trusted root.

The chain checks are `ensconce.dcap`'s; step numbers in refusals are those of its `verify`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ensconce.dcap.certificate import Certificate, Crl, parse_chain, public_key, signature_holds
from ensconce.dcap.chain import (
    PCK_NAME,
    SIGNER_NAME,
    PckCa,
    check_crl,
    check_leaf,
    find_root,
    pck_ca_of,
)
from ensconce.dcap.collateral import signed_in
from ensconce.dcap.pck import PckExtension
from ensconce.dcap.quote import TeeType
from ensconce.dcap.roots import Root
from ensconce.dcap.signed_json import Fields, parse_object
from ensconce.dcap.tcb_info import QeIdentity, TcbInfo
from ensconce.dcap.verdict import Reason, Refusal
from ensconce.errors import FormatError
from ensconce.pccs.items import Item, Key, Kind, PckCertificate, PckList

__all__ = ["Trust", "check_item", "check_pcks", "pem_bytes", "signed_text", "tcb_info_of"]

_MAX_SIZE = 1 << 20
_MAX_CERTIFICATES = 512
_U32 = 0xFFFFFFFF
_PLAIN = re.compile(r"[\t\n\r -~]*")
_WRAPPERS = {
    Kind.TCB: "tcbInfo",
    Kind.IDENTITY: "enclaveIdentity",
    Kind.NUMBERS: "tcbEvaluationDataNumbers",
}
_IDENTITIES = {"qe": "QE", "tdqe": "TD_QE", "qve": "QVE"}
_STEP = {Kind.TCB: 7, Kind.IDENTITY: 8, Kind.NUMBERS: 8}
_FORGED = {
    Kind.TCB: Reason.TCB_INFO_SIGNATURE,
    Kind.IDENTITY: Reason.QE_IDENTITY_SIGNATURE,
    Kind.NUMBERS: Reason.TCB_INFO_SIGNATURE,
}
_OUTDATED = {
    Kind.TCB: Reason.TCB_INFO_VALIDITY,
    Kind.IDENTITY: Reason.QE_IDENTITY_VALIDITY,
    Kind.NUMBERS: Reason.TCB_INFO_VALIDITY,
}


@dataclass(frozen=True, slots=True)
class Trust:
    """What genuine means: the one trusted root, and its CRL (None only to check that very CRL)."""

    root: Root
    root_crl: Crl | None

    def authority(self, chain: str, what: str, now: datetime) -> Certificate:
        """Return the certificate right below the root that a chain of two begins with."""
        certificates = parse_chain(pem_bytes(chain, what), what)
        find_root(2, certificates, (self.root,), now, what)
        return certificates[0]

    @property
    def crl(self) -> Crl:
        """The root's CRL."""
        if self.root_crl is None:
            raise FormatError(
                "the root's CRL is neither given nor kept; give it together with the rest",
                source=Kind.ROOT_CRL,
            )
        return self.root_crl


def check_item(key: Key, body: bytes, chain: str, trust: Trust, now: datetime) -> Item:
    """Return what was published under a key, once it is genuine and of this time.

    Raises Refusal, or FormatError where it can't be read.
    """
    if len(body) > _MAX_SIZE:
        raise FormatError(f"{key} is larger than 1 MiB; it is something else", source=str(key))
    if key.kind is Kind.ROOT_CRL:
        crl = Crl.parse(body, str(key))
        check_crl(3, crl, trust.root.certificate, now, "the root CA's CRL")
        return _crl_item(key, body, "", crl, crl.next_update)
    if key.kind is Kind.PCK_CRL:
        ca = trust.authority(chain, f"the issuer chain of {key}", now)
        kind = pck_ca_of(4, ca, trust.root, trust.crl, now)
        if kind.name.lower() != key.name:
            raise Refusal(5, Reason.PCK_CA_DIFFERS, f"{key} is of the {kind.name.lower()} CA")
        crl = Crl.parse(body, str(key))
        check_crl(5, crl, ca, now, f"the {key}")
        return _crl_item(key, body, chain, crl, min(crl.next_update, ca.not_after))
    return _check_signed(key, body, chain, trust, now)


def pem_bytes(text: str, source: str) -> bytes:
    """Return a PEM text's bytes; text around certificates is let pass, if it is plain."""
    if not _PLAIN.fullmatch(text):
        raise FormatError(f"{source} is not plain ASCII; PEM is", source=source)
    return text.encode()


def signed_text(kind: Kind, body: bytes) -> tuple[bytes, bytes]:
    """Return the JSON text in a PCS answer, byte for byte as signed, and its signature (64)."""
    return signed_in(body, _WRAPPERS[kind], kind)


def tcb_info_of(item: Item) -> TcbInfo:
    """Return the TCB info in an item that is kept."""
    return TcbInfo.parse(signed_text(Kind.TCB, item.body)[0])


def check_pcks(
    certificates: Iterable[PckCertificate],
    chain: str,
    pce_id: str,
    trust: Trust,
    now: datetime,
) -> PckList:
    """Return a platform's PCK certificates, once each is genuine and all are of one platform."""
    what = "the PCK certificates' issuer chain"
    ca = trust.authority(chain, what, now)
    kind = pck_ca_of(4, ca, trust.root, trust.crl, now)
    checked = tuple(certificates)
    if not 0 < len(checked) <= _MAX_CERTIFICATES:
        raise FormatError(
            f"a platform with {len(checked)} PCK certificates; 1 to {_MAX_CERTIFICATES} can be",
            source="PCK certificates",
        )
    extensions = [_check_pck(one, ca, now) for one in checked]
    first = extensions[0]
    for extension in extensions:
        if (extension.ppid, extension.fmspc, extension.pce_id) != (
            first.ppid,
            first.fmspc,
            bytes.fromhex(pce_id),
        ):
            raise Refusal(
                11,
                Reason.PLATFORM_DIFFERS,
                f"PCK certificates of more than one platform, or not of PCE-ID {pce_id}",
            )
    return PckList(first.fmspc.hex().upper(), _ca_word(kind), chain, checked)


def _ca_word(kind: PckCa) -> str:
    """Return how requests name a PCK CA."""
    return kind.name.lower()


def _check_pck(one: PckCertificate, ca: Certificate, now: datetime) -> PckExtension:
    """Return what a PCK certificate says, once its CA has proved to have made it for that TCB."""
    source = f"the PCK certificate for {one.tcbm[:36]}"
    leaf = parse_chain(pem_bytes(one.pem, source), source)[0]
    check_leaf(10, leaf, ca, now, PCK_NAME)
    extension = PckExtension.parse(leaf.sgx_extension or b"")
    tcbm = extension.cpu_svn + extension.pce_svn.to_bytes(2, "little")
    if one.tcbm.upper() != tcbm.hex().upper():
        raise Refusal(11, Reason.PLATFORM_DIFFERS, f"{source} is for {tcbm.hex()}")
    return extension


class _Facts(NamedTuple):
    """What a signed text says of itself."""

    number: int
    issued: datetime
    expires: datetime


def _check_signed(key: Key, body: bytes, chain: str, trust: Trust, now: datetime) -> Item:
    """Return a signed JSON text as an item."""
    step, what = _STEP[key.kind], f"the issuer chain of {key}"
    signer = trust.authority(chain, what, now)
    check_leaf(6, signer, trust.root.certificate, now, SIGNER_NAME)
    if signer.serial in trust.crl.revoked:
        raise Refusal(6, Reason.CERTIFICATE_REVOKED, f"{SIGNER_NAME}, {signer.serial:x}")
    text, signature = signed_text(key.kind, body)
    if not signature_holds(public_key(signer.key), signature, text):
        raise Refusal(step, _FORGED[key.kind], f"{key} under {signer.common_name!r}")
    facts = _facts(key, text)
    if not facts.issued <= now <= facts.expires:
        raise Refusal(
            step,
            _OUTDATED[key.kind],
            f"{key} is valid from {facts.issued} to {facts.expires}, not at {now}",
        )
    return Item(
        key,
        body,
        chain,
        facts.number,
        int(facts.issued.timestamp()),
        int(min(facts.expires, signer.not_after).timestamp()),
    )


def _facts(key: Key, text: bytes) -> _Facts:
    """Return what a signed text says of itself, once it is what the key stands for."""
    if key.kind is Kind.TCB:
        return _tcb_facts(key, TcbInfo.parse(text))
    fields = parse_object(text, str(key))
    if key.kind is Kind.NUMBERS:
        fields.choice("id", (key.name.upper(),))
        numbers = [
            each.number("tcbEvaluationDataNumber", _U32)
            for each in fields.objects("tcbEvalNumbers")
        ]
        return _Facts(max(numbers, default=0), fields.time("issueDate"), fields.time("nextUpdate"))
    return _identity_facts(key, fields, text)


def _tcb_facts(key: Key, info: TcbInfo) -> _Facts:
    """Return what a TCB info says of itself."""
    tee, fmspc, _ = key.name.split("/")
    wanted = (TeeType.SGX, 2) if tee == "v3" else (TeeType[tee.upper()], 3)
    if (info.tee, info.version) != wanted:
        raise Refusal(
            7, Reason.TCB_INFO_TEE, f"{key} is of {info.tee.name}, version {info.version}"
        )
    if info.fmspc.hex().upper() != fmspc:
        raise Refusal(7, Reason.FMSPC_DIFFERS, f"{key} is of FMSPC {info.fmspc.hex()}")
    _check_number(key, info.tcb_evaluation_data_number)
    return _Facts(info.tcb_evaluation_data_number, info.issue_date, info.next_update)


def _identity_facts(key: Key, fields: Fields, text: bytes) -> _Facts:
    """Return what an enclave's identity says of itself."""
    fields.choice("id", (_IDENTITIES[key.name.partition("/")[0]],))
    if not key.name.startswith("qve/"):
        QeIdentity.parse(text)  # what a verifier could not read is no use
    number = fields.number("tcbEvaluationDataNumber", _U32)
    _check_number(key, number)
    return _Facts(number, fields.time("issueDate"), fields.time("nextUpdate"))


def _check_number(key: Key, number: int) -> None:
    """Refuse another TCB evaluation than the one asked for."""
    if key.number not in (None, number):
        raise Refusal(9, Reason.EVALUATION_NUMBERS_DIFFER, f"{key} is of evaluation {number}")


def _crl_item(key: Key, body: bytes, chain: str, crl: Crl, expires: datetime) -> Item:
    """Return a CRL as an item."""
    return Item(
        key,
        body,
        chain,
        crl.number or 0,
        int(crl.this_update.timestamp()),
        int(expires.timestamp()),
    )
