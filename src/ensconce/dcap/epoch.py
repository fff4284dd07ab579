# SPDX-License-Identifier: Apache-2.0
"""Check collateral once; the result serves every quote of a platform family until it expires.

The steps are numbered in `verify`'s text.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime

from ensconce.dcap.certificate import Certificate, Crl, parse_chain, public_key, signature_holds
from ensconce.dcap.chain import SIGNER_NAME, PckCa, check_crl, check_leaf, find_root, pck_ca_of
from ensconce.dcap.collateral import Collateral
from ensconce.dcap.roots import INTEL_ROOT, Root, check_roots
from ensconce.dcap.tcb_info import QeIdentity, TcbInfo
from ensconce.dcap.verdict import Reason, Refusal
from ensconce.errors import ConfigError

__all__ = ["Epoch", "check_collateral", "check_time"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Collateral that was checked as of one time: one root, one evaluation number.

    It holds from `begins` to `expires`, both included. `digest` is the SHA-256 of what was
    checked, with the root's.
    """

    digest: bytes
    root: Root
    pck_ca: Certificate
    pck_ca_kind: PckCa
    root_crl: Crl
    pck_crl: Crl
    tcb_info: TcbInfo
    qe_identity: QeIdentity
    pck_chain: tuple[Certificate, ...]
    begins: datetime
    expires: datetime

    @property
    def tcb_evaluation_data_number(self) -> int:
        """The number of Intel's TCB evaluation that the collateral belongs to."""
        return self.tcb_info.tcb_evaluation_data_number


def check_time(now: datetime) -> datetime:
    """Return a time that says which zone it is in."""
    if now.tzinfo is None:
        raise ConfigError("the time of verification has no zone; give it in UTC")
    return now


def check_collateral(
    collateral: Collateral, now: datetime, *, roots: Iterable[Root] = (INTEL_ROOT,)
) -> Epoch:
    """Return the collateral as an epoch; Refusal if it is not genuine or not of this time.

    FormatError means that a part of it can't be read at all.
    """
    check_time(now)
    # 2 to 5. root, PCK CA and their CRLs
    authority = _check_authority(collateral, check_roots(roots), now)
    root = authority.root
    # 6. who signs TCB info and QE identity
    known = [root.certificate, authority.pck_ca]
    tcb_chain = parse_chain(collateral.tcb_info_issuer_chain, "tcb_info_issuer_chain", known)
    tcb_signer = _signer(tcb_chain, "tcb_info_issuer_chain", authority, now)
    known.append(tcb_signer)
    qe_chain = parse_chain(collateral.qe_identity_issuer_chain, "qe_identity_issuer_chain", known)
    qe_signer = tcb_signer
    if qe_chain != tcb_chain:
        qe_signer = _signer(qe_chain, "qe_identity_issuer_chain", authority, now)
    # 7. TCB info
    signature, text = collateral.tcb_info_signature, collateral.tcb_info
    _check_signed(7, Reason.TCB_INFO_SIGNATURE, tcb_signer, signature, text)
    tcb_info = TcbInfo.parse(text)
    _check_dates(7, Reason.TCB_INFO_VALIDITY, tcb_info.issue_date, tcb_info.next_update, now)
    # 8. QE identity
    signature, text = collateral.qe_identity_signature, collateral.qe_identity
    _check_signed(8, Reason.QE_IDENTITY_SIGNATURE, qe_signer, signature, text)
    identity = QeIdentity.parse(text)
    _check_dates(8, Reason.QE_IDENTITY_VALIDITY, identity.issue_date, identity.next_update, now)
    # 9. one evaluation, one kind of TEE
    _check_numbers(tcb_info, identity)
    times = [
        *((one.not_before, one.not_after) for one in (root.certificate, authority.pck_ca)),
        *((one.not_before, one.not_after) for one in (tcb_signer, qe_signer)),
        *((one.this_update, one.next_update) for one in (authority.root_crl, authority.pck_crl)),
        (tcb_info.issue_date, tcb_info.next_update),
        (identity.issue_date, identity.next_update),
    ]
    pck_chain = collateral.pck_certificate_chain
    return Epoch(
        _digest(collateral, root),
        root,
        authority.pck_ca,
        authority.pck_ca_kind,
        authority.root_crl,
        authority.pck_crl,
        tcb_info,
        identity,
        parse_chain(pck_chain, "pck_certificate_chain") if pck_chain else (),
        max(begins for begins, _ in times),
        min(ends for _, ends in times),
    )


@dataclass(frozen=True, slots=True)
class _Authority:
    """Who certifies and revokes: a root and a PCK CA under it, with their CRLs."""

    root: Root
    pck_ca: Certificate
    pck_ca_kind: PckCa
    root_crl: Crl
    pck_crl: Crl


def _check_authority(collateral: Collateral, roots: tuple[Root, ...], now: datetime) -> _Authority:
    """Return who certifies platforms, once proved (steps 2 to 5)."""
    # 2. the chain ends in a trusted root
    anchors = [root.certificate for root in roots]
    chain = parse_chain(collateral.pck_crl_issuer_chain, "pck_crl_issuer_chain", anchors)
    root = find_root(2, chain, roots, now, "pck_crl_issuer_chain")
    # 3. root CRL
    root_crl = Crl.parse(collateral.root_ca_crl, "root_ca_crl")
    check_crl(3, root_crl, root.certificate, now, "the root CA's CRL")
    # 4. PCK CA
    kind = pck_ca_of(4, chain[0], root, root_crl, now)
    # 5. PCK CRL
    pck_crl = Crl.parse(collateral.pck_crl, "pck_crl")
    check_crl(5, pck_crl, chain[0], now, "the PCK CRL")
    return _Authority(root, chain[0], kind, root_crl, pck_crl)


def _signer(
    chain: tuple[Certificate, ...], source: str, authority: _Authority, now: datetime
) -> Certificate:
    """Return the certificate that signs collateral, directly under the same root (step 6)."""
    find_root(6, chain, (authority.root,), now, source)
    signer = chain[0]
    check_leaf(6, signer, authority.root.certificate, now, SIGNER_NAME)
    if signer.serial in authority.root_crl.revoked:
        raise Refusal(
            6, Reason.CERTIFICATE_REVOKED, f"the {SIGNER_NAME} certificate, {signer.serial:x}"
        )
    return signer


def _check_signed(
    step: int, reason: Reason, signer: Certificate, signature: bytes, text: bytes
) -> None:
    """Refuse a text that the signer's key did not sign, byte for byte."""
    if not signature_holds(public_key(signer.key), signature, text):
        raise Refusal(step, reason, f"it does not verify under {signer.common_name!r}")


def _check_dates(
    step: int, reason: Reason, issued: datetime, next_update: datetime, now: datetime
) -> None:
    """Refuse a text of another time: an old one that was signed is a replay."""
    if not issued <= now <= next_update:
        raise Refusal(step, reason, f"it is valid from {issued} to {next_update}, not at {now}")


def _check_numbers(tcb_info: TcbInfo, identity: QeIdentity) -> None:
    """Refuse parts of different TCB evaluations; identities of version 1 have no number."""
    ours, theirs = tcb_info.tcb_evaluation_data_number, identity.tcb_evaluation_data_number
    if theirs is not None and ours != theirs:
        raise Refusal(9, Reason.EVALUATION_NUMBERS_DIFFER, f"TCB info {ours}, QE identity {theirs}")
    if tcb_info.tee is not identity.tee:
        raise Refusal(
            9,
            Reason.QE_IDENTITY_TEE,
            f"TCB info is for {tcb_info.tee.name}, QE identity for {identity.tee.name}",
        )


def _digest(collateral: Collateral, root: Root) -> bytes:
    """Return a hash over every part, each with its length."""
    digest = hashlib.sha256(root.fingerprint)
    for part in astuple(collateral):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()
