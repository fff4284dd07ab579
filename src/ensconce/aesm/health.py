# SPDX-License-Identifier: Apache-2.0
"""Whether a service makes quotes: ask it for one as an enclave's host does, and look at it."""

import hashlib
import os
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from ensconce.aesm.client import Client, Quoted
from ensconce.dcap.certificate import signature_holds
from ensconce.dcap.quote import Quote
from ensconce.enclave import Device
from ensconce.errors import FormatError, VerificationError
from ensconce.isa.report import Report
from ensconce.platform.witness import REPORT_DATA_BYTES, Witness

__all__ = ["Health", "check_health"]

_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Health:
    """What a healthy service gave, and how long that took in milliseconds."""

    quote_version: int
    quote_size: int
    certification: str
    mr_enclave: bytes
    init_ms: float
    quote_ms: float


def check_health(client: Client, device: Device) -> Health:
    """Have an enclave on `device` quoted, and check that the quote is of just this enclave.

    The quote's own signature is checked, and the QE's REPORT on it is looked at. Whether the
    platform is genuine is for `ensconce verify` to say. Raises what the service refuses with;
    VerificationError for a quote that is not what was asked for.
    """
    witness = Witness(device)
    try:
        key = client.select()
        start = time.perf_counter()
        target, _ = client.init_quote(key)
        ready = time.perf_counter()
        nonce, data = os.urandom(_NONCE_BYTES), os.urandom(REPORT_DATA_BYTES)
        report = witness.report(target, data)
        made = client.quote(report, key, nonce=nonce, target=target)
        end = time.perf_counter()
    finally:
        witness.close()
    quote = _checked(made, report, nonce)
    return Health(
        quote_version=quote.header.version,
        quote_size=len(made.quote),
        certification=quote.certification.kind.name.lower(),
        mr_enclave=report.body.mr_enclave,
        init_ms=round((ready - start) * 1000, 3),
        quote_ms=round((end - ready) * 1000, 3),
    )


def _checked(made: Quoted, report: Report, nonce: bytes) -> Quote:
    """Return the quote where it is of the REPORT, signed, and vouched for by the QE."""
    try:
        quote = Quote.parse(made.quote)
        point = b"\x04" + quote.attestation_key
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except (FormatError, ValueError) as error:
        raise VerificationError(f"the service's quote can't be read: {error}") from error
    if quote.body != report.body or not signature_holds(key, quote.signature, quote.signed):
        raise VerificationError("the service's quote is not of the REPORT that it was given")
    bound = hashlib.sha256(nonce + made.quote).digest()
    if made.qe_report is None or made.qe_report.body.report_data[: len(bound)] != bound:
        raise VerificationError("the service's quoting enclave does not vouch for its quote")
    return quote
