# SPDX-License-Identifier: Apache-2.0
"""RA-TLS: is the holder of a TLS key the enclave that I want? Each step repeats its number.

1. The certificate can be read, and carries evidence in one of the forms that peers use.
2. It is signed by its own key, names itself as its issuer, is valid now, and has no critical
   extension that nobody here knows.
3. The evidence vouches for that very key, by the hash in its claims.
4. The quote's report data bind the claims; in the older forms they bind the key.
5. The nonce in the claims is the one that was asked for, if one was.
6. The quote is genuine (`verify`), and what the policy wants (`validate`).

TLS proves besides that the peer holds the key, in each handshake. So a certificate that was
copied is of no use, and a relay that ends TLS has another key. What a certificate alone can't
prove is that the quote was made just now: ask with a nonce for that.
"""

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ensconce.dcap import der
from ensconce.dcap.cache import Cache
from ensconce.dcap.collateral import Collateral
from ensconce.dcap.epoch import Epoch
from ensconce.dcap.policy import Policy
from ensconce.dcap.quote import Quote
from ensconce.dcap.ratls_certificate import TlsCertificate
from ensconce.dcap.ratls_endorsements import read_endorsements, write_endorsements
from ensconce.dcap.ratls_evidence import (
    ENDORSEMENTS,
    EVIDENCE,
    GRAMINE_QUOTE,
    MAX_NONCE,
    Evidence,
    Form,
    encode_evidence,
    make_claims,
    report_data_of,
)
from ensconce.dcap.roots import INTEL_ROOT, Root
from ensconce.dcap.validate import Mismatch, validate
from ensconce.dcap.verdict import Claims, Verdict
from ensconce.dcap.verify import verify
from ensconce.dcap.watermarks import Watermarks
from ensconce.errors import ConfigError, FormatError, PolicyError, VerificationError

__all__ = [
    "Appraisal",
    "CertificateFault",
    "Evidence",
    "Form",
    "certificate_for",
    "make_certificate",
    "make_claims",
    "report_data_of",
    "verify_certificate",
]

_NAME = "RA-TLS"
_SKEW = timedelta(minutes=5)
_KNOWN_CRITICAL = frozenset(
    map(der.encode_oid, ("2.5.29.15", "2.5.29.19", "2.5.29.37", EVIDENCE, ENDORSEMENTS))
)


class CertificateFault(Enum):
    """What is wrong with a certificate around a quote; the values are stable codes."""

    SIGNATURE = "certificate_signature"
    VALIDITY = "certificate_validity"
    CRITICAL_EXTENSION = "certificate_critical_extension"
    KEY_NOT_BOUND = "key_not_bound"
    REPORT_DATA = "report_data_not_bound"
    NONCE_MISSING = "nonce_missing"
    NONCE_DIFFERS = "nonce_differs"


_ADVICE = {
    CertificateFault.SIGNATURE: "its own key did not sign it, so it was altered or made up",
    CertificateFault.VALIDITY: "it is not valid now; check both clocks, or have it renewed",
    CertificateFault.CRITICAL_EXTENSION: "it has a critical extension that is not known here",
    CertificateFault.KEY_NOT_BOUND: "its evidence vouches for another TLS key: somebody put "
    "evidence of an enclave into a certificate of their own",
    CertificateFault.REPORT_DATA: "its quote does not vouch for the claims or key beside it",
    CertificateFault.NONCE_MISSING: "its evidence has no nonce, so it may be an old one",
    CertificateFault.NONCE_DIFFERS: "its evidence answers another nonce, so it is an old one",
}


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What came of a certificate: accepted, or everything that speaks against it.

    `verdict` is the quote's alone; it says nothing of the TLS key if there are `faults`. What the
    peer proves is in `require()`, and only there.
    """

    certificate: TlsCertificate
    evidence: Evidence
    verdict: Verdict
    faults: tuple[CertificateFault, ...]
    mismatches: tuple[Mismatch, ...]

    @property
    def accepted(self) -> bool:
        """Whether the key's holder is a genuine enclave that the policy wants."""
        return self.verdict.genuine and not self.faults and not self.mismatches

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that speaks against the peer, a sentence each."""
        faults = [f"{fault.value}: {_ADVICE[fault]}" for fault in self.faults]
        verdict = self.verdict
        if not verdict.genuine:
            faults.append(f"step {verdict.step}, {verdict.reason.value}: {verdict.value}")
        return (*faults, *map(str, self.mismatches))

    def require(self) -> Claims:
        """Return the quote's claims if the peer is accepted.

        Raises VerificationError where something is not genuine, PolicyError where it is and the
        policy does not want it.
        """
        claims = self.verdict.claims
        if self.faults or claims is None:
            raise VerificationError("the peer's certificate is refused: " + "; ".join(self.reasons))
        if self.mismatches:
            raise PolicyError("the peer is not what is wanted: " + "; ".join(self.reasons))
        return claims

    def __bool__(self) -> bool:
        raise TypeError("ask an appraisal for .accepted, or require() its claims")


def verify_certificate(
    certificate: bytes,
    collateral: Collateral | Epoch | None,
    now: datetime,
    policy: Policy,
    *,
    nonce: bytes | None = None,
    roots: Iterable[Root] = (INTEL_ROOT,),
    cache: Cache | None = None,
    watermarks: Watermarks | None = None,
) -> Appraisal:
    """Return what comes of a peer's TLS certificate (DER) as of a time; the steps are above.

    `collateral` None takes the endorsements in the certificate: genuine, and of the age that the
    peer chose within their validity, so pin `min_tcb_evaluation_data_number` or give
    `watermarks`. `nonce` is the one that the peer was given for this very connection. FormatError
    means that certificate, evidence or collateral can't be read.
    """
    # 1. certificate and evidence
    parsed = TlsCertificate.parse(certificate)
    evidence = Evidence.read(parsed)
    quote = Quote.parse(evidence.quote)
    # 2 to 5. certificate, key, report data, nonce
    faults = tuple(_faults(parsed, evidence, quote, now, nonce))
    # 6. the quote
    verdict = verify(
        evidence.quote,
        _endorsements(parsed) if collateral is None else collateral,
        now,
        roots=roots,
        cache=cache,
        watermarks=watermarks,
    )
    mismatches = () if verdict.claims is None else tuple(validate(verdict.claims, policy))
    return Appraisal(parsed, evidence, verdict, faults, mismatches)


def _faults(
    certificate: TlsCertificate,
    evidence: Evidence,
    quote: Quote,
    now: datetime,
    nonce: bytes | None,
) -> Iterable[CertificateFault]:
    """Yield what is wrong around the quote."""
    # 2. the certificate
    if not certificate.signs_itself():
        yield CertificateFault.SIGNATURE
    if not certificate.not_before <= now <= certificate.not_after:
        yield CertificateFault.VALIDITY
    if not certificate.critical <= _KNOWN_CRITICAL:
        yield CertificateFault.CRITICAL_EXTENSION
    # 3. the key
    if not evidence.vouches_for(certificate):
        yield CertificateFault.KEY_NOT_BOUND
    # 4. the report data
    if not evidence.bound(quote, certificate):
        yield CertificateFault.REPORT_DATA
    # 5. the nonce
    if nonce is None:
        return
    if evidence.nonce is None:
        yield CertificateFault.NONCE_MISSING
    elif not hmac.compare_digest(evidence.nonce, nonce):
        yield CertificateFault.NONCE_DIFFERS


def _endorsements(certificate: TlsCertificate) -> Collateral:
    """Return the collateral that the certificate brings along."""
    value = certificate.extensions.get(der.encode_oid(ENDORSEMENTS))
    if value is None:
        raise FormatError(
            f"the TLS certificate brings no endorsements ({ENDORSEMENTS}), and no collateral was "
            "given; fetch it from a PCCS for the quote's FMSPC",
            source="the TLS certificate",
        )
    return read_endorsements(value)


Quoter = Callable[[bytes], bytes]
"""Makes the quote of an enclave that puts these 64 bytes into its report data."""


def make_certificate(
    key: ec.EllipticCurvePrivateKey,
    quoter: Quoter,
    now: datetime,
    *,
    nonce: bytes | None = None,
    endorsements: Collateral | None = None,
    gramine: bool = False,
    valid: timedelta = timedelta(days=1),
) -> bytes:
    """Return a certificate (DER) with a quote for a key, in the interoperable form.

    `gramine` adds a second quote in Gramine's older form, for peers that know only that.
    """
    if nonce is not None and not 1 <= len(nonce) <= MAX_NONCE:
        raise ConfigError(f"a nonce has 1 to {MAX_NONCE} bytes, not {len(nonce)}")
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    buffer = make_claims(spki, nonce)
    older = quoter(report_data_of(spki)) if gramine else None
    return certificate_for(
        key,
        quoter(report_data_of(buffer)),
        buffer,
        now,
        endorsements=endorsements,
        gramine=older,
        valid=valid,
    )


def certificate_for(
    key: ec.EllipticCurvePrivateKey,
    quote: bytes,
    claims_buffer: bytes,
    now: datetime,
    *,
    endorsements: Collateral | None = None,
    gramine: bytes | None = None,
    valid: timedelta = timedelta(days=1),
) -> bytes:
    """Return a certificate (DER) for a quote that is made already, with its claims buffer.

    Nothing is checked here; who verifies the certificate checks all of it.
    """
    extensions = {EVIDENCE: encode_evidence(quote, claims_buffer)}
    if endorsements is not None:
        extensions[ENDORSEMENTS] = write_endorsements(endorsements)
    if gramine is not None:
        extensions[GRAMINE_QUOTE] = gramine
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    for oid, value in extensions.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
