# SPDX-License-Identifier: Apache-2.0
"""Is a quote genuine? Intel's algorithm, step by step; each block of code repeats its number.

The collateral (`epoch.check_collateral`):

1. Quote and collateral can be read; every length is within its bounds, and nothing follows.
2. The PCK CA's chain ends in a trusted root, by name and key, which is valid now.
3. The root's CRL is signed by the root, complete and of this time.
4. The PCK CA is certified by the root as a CA, valid now, and not revoked.
5. The PCK CRL is signed by that very CA, complete and of this time.
6. The signers of TCB info and QE identity are certified by the same root, are no CAs, may sign
   data, are valid now, and are not revoked.
7. The TCB info is signed, byte for byte, and of this time: issueDate to nextUpdate.
8. So is the QE identity.
9. Both are of one TCB evaluation and for one kind of TEE, and no number has fallen since the
   last time.

The platform, by its PCK certificate:

10. The quote names Intel's QE vendor, and the collateral is for the quote's kind of TEE.
11. The PCK certificate is issued by the PCK CA of step 4, valid now, no CA, and may sign data;
    what the quote itself carries above it is the same CA and root.
12. The PCK CRL does not revoke it.
13. Its SGX extension has the FMSPC and PCE-ID of the TCB info, and the PPID of the quote's
    certification data, where that has one.

The quoting enclave:

14. The QE report is signed by the PCK key.
15. Its report data are SHA-256(attestation key, QE authentication data) and 32 zeros.
16. It is the enclave of the QE identity: MRSIGNER, ISVPRODID, and under the masks MISCSELECT
    and ATTRIBUTES; and it is no debug enclave.
17. Its ISVSVN reaches a level of the identity.

The quote:

18. It is signed by the attestation key, a point on P-256.
19. The platform's SVNs reach a level of the TCB info; for TDX so do TEE_TCB_SVN and the TDX
    module, whose signer and attributes are right. (tcb.py)
20. The statuses of platform, TDX module and QE taken together are not Revoked.

Sources: Intel SGX ECDSA QuoteLibReference; Intel PCS API v3 and v4; Intel's quote verification
library. Whatever fails ends in a verdict with its step; what can't be read is a FormatError.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from ensconce.dcap.cache import Cache
from ensconce.dcap.certificate import Certificate, parse_chain, public_key, signature_holds
from ensconce.dcap.chain import PCK_NAME, check_leaf
from ensconce.dcap.collateral import Collateral
from ensconce.dcap.epoch import Epoch, check_collateral, check_time
from ensconce.dcap.pck import PckExtension
from ensconce.dcap.quote import (
    INTEL_QE_VENDOR,
    Certification,
    CertificationKind,
    Quote,
    QuoteHeader,
    TeeType,
)
from ensconce.dcap.roots import INTEL_ROOT, Root, check_roots
from ensconce.dcap.tcb import Standing, converge, isv_level, sgx_standing, tdx_standing
from ensconce.dcap.tcb_info import IsvLevel, QeIdentity
from ensconce.dcap.verdict import Claims, Reason, Refusal, TcbStatus, Verdict
from ensconce.dcap.watermarks import Watermarks
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.report import ReportBody

__all__ = ["verify"]

_PPID = 16
# how many certificates a quote carries
_CARRIED = {CertificationKind.PCK_LEAF: 1, CertificationKind.PCK_CHAIN: 3}


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform whose PCK certificate was checked against an epoch (steps 11 to 13)."""

    pck: PckExtension
    key: ec.EllipticCurvePublicKey
    begins: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class QuotingEnclave:
    """A quoting enclave and its attestation key, checked against a platform (14 to 17)."""

    key: ec.EllipticCurvePublicKey
    level: IsvLevel
    begins: datetime
    expires: datetime


def verify(
    quote: bytes,
    collateral: Collateral | Epoch,
    now: datetime,
    *,
    roots: Iterable[Root] = (INTEL_ROOT,),
    cache: Cache | None = None,
    watermarks: Watermarks | None = None,
) -> Verdict:
    """Return whether a quote is genuine as of a time, with the full story.

    `collateral` is checked unless it is an `Epoch`, which was. `cache` keeps what was checked for
    later quotes; `watermarks` keep the highest numbers seen, and refuse lower ones. FormatError
    means that an input can't be read, and says nothing of the rest.
    """
    check_time(now)
    trusted = check_roots(roots)
    memory = Cache(4) if cache is None else cache
    # 1. the quote
    parsed = Quote.parse(quote)
    try:
        epoch = _epoch_of(collateral, now, trusted, memory)
        if watermarks is not None:
            watermarks.rise(epoch)
        return _verify_quote(parsed, epoch, now, memory)
    except Refusal as refusal:
        return Verdict(refusal.reason, refusal.step, refusal.value)


def _epoch_of(
    collateral: Collateral | Epoch, now: datetime, roots: tuple[Root, ...], cache: Cache
) -> Epoch:
    """Return the epoch of collateral (steps 2 to 9), which must hold now under these roots."""
    if isinstance(collateral, Collateral):
        return cache.get(
            Epoch,
            (collateral, roots),
            now,
            lambda: check_collateral(collateral, now, roots=roots),
        )
    if collateral.root not in roots:
        raise Refusal(2, Reason.ROOT_NOT_TRUSTED, f"SHA-256 {collateral.root.fingerprint.hex()}")
    if not collateral.begins <= now <= collateral.expires:
        raise Refusal(
            9,
            Reason.COLLATERAL_VALIDITY,
            f"it was checked for {collateral.begins} to {collateral.expires}, not for {now}",
        )
    return collateral


def _verify_quote(quote: Quote, epoch: Epoch, now: datetime, cache: Cache) -> Verdict:
    """Return the verdict on a quote under checked collateral (steps 10 to 20)."""
    # 10. vendor and kind of TEE
    header = quote.header
    _check_header(header, epoch)
    # 11 to 13. the platform
    platform_key = (epoch.digest, quote.certification)
    platform = cache.get(
        Platform, platform_key, now, lambda: _check_platform(quote.certification, epoch, now)
    )
    # 14 to 17. the quoting enclave
    enclave = cache.get(
        QuotingEnclave,
        (
            platform_key,
            quote.attestation_key,
            quote.qe_report,
            quote.qe_report_signature,
            quote.qe_auth_data,
        ),
        now,
        lambda: _check_enclave(quote, platform, epoch.qe_identity),
    )
    # 18. the quote's signature
    if not signature_holds(enclave.key, quote.signature, quote.signed):
        raise Refusal(
            18, Reason.QUOTE_SIGNATURE, "it does not verify under the quote's attestation key"
        )
    # 19. the platform's TCB level
    body = None if header.tee_type == TeeType.SGX else quote.body
    if body is None or isinstance(body, ReportBody):
        standing = sgx_standing(epoch.tcb_info, platform.pck)
    else:
        standing = tdx_standing(epoch.tcb_info, platform.pck, body, enclave.level.status)
    # 20. all statuses together
    return _conclude(quote, epoch, platform, enclave, standing, now)


def _check_header(header: QuoteHeader, epoch: Epoch) -> None:
    """Refuse a quote of a foreign quoting enclave, or for which the collateral is not (10)."""
    if header.qe_vendor_id != INTEL_QE_VENDOR:
        raise Refusal(10, Reason.QE_VENDOR, header.qe_vendor_id.hex())
    if header.tee_type != epoch.tcb_info.tee:
        raise Refusal(
            10, Reason.TCB_INFO_TEE, f"TCB info is for {epoch.tcb_info.tee.name}, the quote is not"
        )


def _check_platform(certification: Certification, epoch: Epoch, now: datetime) -> Platform:
    """Return the platform that a PCK certificate is for (steps 11 to 13)."""
    # 11. the PCK certificate
    leaf = _pck_leaf(certification, epoch)
    if leaf.issuer != epoch.pck_ca.subject:
        raise Refusal(
            11,
            Reason.PCK_CA_DIFFERS,
            f"the collateral is of {epoch.pck_ca.common_name!r}, which did not issue this one",
        )
    check_leaf(11, leaf, epoch.pck_ca, now, PCK_NAME)
    # 12. revocation
    if leaf.serial in epoch.pck_crl.revoked:
        raise Refusal(12, Reason.PCK_REVOKED, f"serial {leaf.serial:x}")
    # 13. the SGX extension
    if leaf.sgx_extension is None:
        raise Refusal(13, Reason.CERTIFICATE_ROLE, "the PCK certificate has no SGX extension")
    pck = PckExtension.parse(leaf.sgx_extension)
    info = epoch.tcb_info
    if pck.fmspc != info.fmspc:
        raise Refusal(
            13, Reason.FMSPC_DIFFERS, f"platform {pck.fmspc.hex()}, TCB info {info.fmspc.hex()}"
        )
    if pck.pce_id != info.pce_id:
        raise Refusal(
            13, Reason.PCE_ID_DIFFERS, f"platform {pck.pce_id.hex()}, TCB info {info.pce_id.hex()}"
        )
    if certification.kind is CertificationKind.PPID and certification.data[:_PPID] != pck.ppid:
        raise Refusal(
            13, Reason.PLATFORM_DIFFERS, "the quote names another PPID than the PCK certificate"
        )
    return Platform(
        pck,
        public_key(leaf.key),
        max(epoch.begins, leaf.not_before),
        min(epoch.expires, leaf.not_after),
    )


def _pck_leaf(certification: Certification, epoch: Epoch) -> Certificate:
    """Return the PCK certificate, from the quote if it carries one, else from the collateral."""
    size = _CARRIED.get(certification.kind)
    if size is None:
        chain = epoch.pck_chain
    else:
        known = (epoch.pck_ca, epoch.root.certificate)
        chain = parse_chain(certification.data, "the quote's PCK chain", known)
    if not chain:
        raise Refusal(
            11,
            Reason.PCK_CHAIN_MISSING,
            f"the quote has certification data of type {int(certification.kind)}",
        )
    for above in chain[1:]:  # root before CA in quotes of some platforms
        _check_above(above, epoch)
    if size is not None and len(chain) != size:
        raise Refusal(
            11, Reason.CHAIN_INCOMPLETE, f"the quote has {len(chain)} certificates, not {size}"
        )
    return chain[0]


def _check_above(found: Certificate, epoch: Epoch) -> None:
    """Refuse a certificate above the PCK's that is no edition of the epoch's CA or root (11)."""
    own = (epoch.pck_ca, epoch.root.certificate)
    if found.fingerprint in (one.fingerprint for one in own):
        return
    same = any((found.subject, found.key) == (one.subject, one.key) for one in own)
    if not same or not found.issued_by(epoch.root.certificate):
        raise Refusal(
            11,
            Reason.PCK_CA_DIFFERS,
            f"{found.common_name!r} stands above the PCK certificate and is not the collateral's "
            f"{epoch.pck_ca.common_name!r} or its root",
        )
    if found.serial in epoch.root_crl.revoked:
        raise Refusal(11, Reason.CERTIFICATE_REVOKED, f"{found.common_name!r}")


def _check_enclave(quote: Quote, platform: Platform, identity: QeIdentity) -> QuotingEnclave:
    """Return the quoting enclave, which the platform must vouch for (steps 14 to 17)."""
    # 14. the QE report's signature
    if not signature_holds(platform.key, quote.qe_report_signature, quote.qe_report):
        raise Refusal(14, Reason.QE_REPORT_SIGNATURE, "it does not verify under the PCK key")
    # 15. the attestation key
    report = quote.qe_report_body
    digest = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    if report.report_data != digest + bytes(32):
        raise Refusal(15, Reason.QE_REPORT_DATA, report.report_data.hex())
    # 16. the enclave
    _check_identity(report, identity)
    # 17. its level
    level = isv_level(identity.levels, report.isv_svn)
    if level is None:
        raise Refusal(17, Reason.QE_LEVEL_NOT_FOUND, f"the QE has the ISVSVN {report.isv_svn}")
    try:
        key = public_key(quote.attestation_key)
    except ValueError as error:
        raise Refusal(18, Reason.ATTESTATION_KEY, "it is not a point on P-256") from error
    return QuotingEnclave(key, level, platform.begins, platform.expires)


def _check_identity(report: ReportBody, identity: QeIdentity) -> None:
    """Refuse a quoting enclave that is not the one of the identity (step 16)."""
    if report.mr_signer != identity.mr_signer:
        raise Refusal(16, Reason.QE_MR_SIGNER, report.mr_signer.hex())
    if report.isv_prod_id != identity.isv_prod_id:
        raise Refusal(16, Reason.QE_ISV_PROD_ID, str(report.isv_prod_id))
    if report.attributes.flags & AttributeFlags.DEBUG:
        raise Refusal(16, Reason.QE_DEBUG, "the QE has the DEBUG attribute")
    mask = identity.misc_select_mask
    if report.misc_select & mask != identity.misc_select & mask:
        raise Refusal(16, Reason.QE_MISC_SELECT, f"{int(report.misc_select):#010x}")
    found = bytes(report.attributes)
    masked = zip(found, identity.attributes, identity.attributes_mask, strict=True)
    if any((have ^ want) & mask for have, want, mask in masked):
        raise Refusal(16, Reason.QE_ATTRIBUTES, found.hex())


def _conclude(
    quote: Quote,
    epoch: Epoch,
    platform: Platform,
    enclave: QuotingEnclave,
    standing: Standing,
    now: datetime,
) -> Verdict:
    """Return the verdict on a quote whose signatures all hold (step 20)."""
    qe = enclave.level
    status = converge(standing.status, qe.status)
    advisories = tuple(dict.fromkeys((*standing.advisory_ids, *qe.advisory_ids)))
    reason, value, claims = Reason.GENUINE, "", None
    if qe.status is TcbStatus.REVOKED:
        reason, value = Reason.QE_REVOKED, f"level of ISVSVN {qe.isv_svn}"
    elif status is TcbStatus.REVOKED:
        reason, value = Reason.TCB_REVOKED, f"level of {standing.date.date()}"
    else:
        claims = Claims(
            quote,
            platform.pck,
            epoch.root,
            status,
            advisories,
            min(standing.date, qe.date),
            epoch.tcb_evaluation_data_number,
            now,
        )
    return Verdict(
        reason,
        20,
        value,
        status,
        standing.status,
        qe.status,
        advisories,
        enclave.expires,
        claims,
    )
