# SPDX-License-Identifier: Apache-2.0
"""X.509 paths of DCAP: a root, then a CA and its PCK leaves, or a signer of collateral.

Source: Intel SGX PCK Certificate and CRL Profile; RFC 5280. Every function raises a `Refusal`
with the step of `verify`'s text that it is called for.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import Enum

from ensconce.dcap.certificate import Certificate, Crl
from ensconce.dcap.roots import Root
from ensconce.dcap.verdict import Reason, Refusal

__all__ = ["PckCa", "check_crl", "check_current", "check_leaf", "find_root", "pck_ca_of"]

PCK_NAME, SIGNER_NAME = "SGX PCK Certificate", "SGX TCB Signing"


class PckCa(Enum):
    """Which CA certifies a platform: one processor, or several that share keys; by its name."""

    PROCESSOR = "SGX PCK Processor CA"
    PLATFORM = "SGX PCK Platform CA"


def find_root(
    step: int, chain: tuple[Certificate, ...], roots: Iterable[Root], now: datetime, what: str
) -> Root:
    """Return the trusted root that a chain of a certificate and its root ends in."""
    if len(chain) != 2:
        raise Refusal(step, Reason.CHAIN_INCOMPLETE, f"{what} has {len(chain)} certificates, not 2")
    for root in roots:
        if root.matches(chain[-1]):
            check_current(step, root.certificate, now, "the root")
            return root
    raise Refusal(
        step,
        Reason.ROOT_NOT_TRUSTED,
        f"{what} ends in {chain[-1].common_name!r}, SHA-256 {chain[-1].fingerprint.hex()}",
    )


def pck_ca_of(
    step: int, certificate: Certificate, root: Root, root_crl: Crl, now: datetime
) -> PckCa:
    """Return which PCK CA a certificate is, once the root has proved to certify it as one."""
    what = "the PCK CA certificate"
    _check_issued(step, certificate, root.certificate, what)
    check_current(step, certificate, now, what)
    _check_extensions(step, certificate, what)
    kinds = [kind for kind in PckCa if kind.value in certificate.common_name]
    if not certificate.ca or not certificate.signs_certificates or not certificate.signs_crls:
        raise Refusal(step, Reason.CERTIFICATE_ROLE, f"{what} may not sign certificates and CRLs")
    if root.certificate.path_length is not None and root.certificate.path_length < 1:
        raise Refusal(step, Reason.CERTIFICATE_ROLE, "the root may not certify another CA")
    if len(kinds) != 1:
        raise Refusal(
            step, Reason.CERTIFICATE_ROLE, f"{what} has the name {certificate.common_name!r}"
        )
    if certificate.serial in root_crl.revoked:
        raise Refusal(step, Reason.CERTIFICATE_REVOKED, f"{what}, serial {certificate.serial:x}")
    return kinds[0]


def check_leaf(
    step: int, certificate: Certificate, issuer: Certificate, now: datetime, name: str
) -> None:
    """Refuse a certificate that its issuer did not make to sign data under that name."""
    what = f"the {name} certificate"
    _check_issued(step, certificate, issuer, what)
    check_current(step, certificate, now, what)
    _check_extensions(step, certificate, what)
    if certificate.ca or certificate.signs_certificates or not certificate.signs_data:
        raise Refusal(step, Reason.CERTIFICATE_ROLE, f"{what} is a CA's or may not sign data")
    if name not in certificate.common_name:
        raise Refusal(
            step, Reason.CERTIFICATE_ROLE, f"{what} has the name {certificate.common_name!r}"
        )


def check_crl(step: int, crl: Crl, issuer: Certificate, now: datetime, what: str) -> None:
    """Refuse a CRL that its CA did not sign, that is not complete or not of this time."""
    if not crl.signed_by(issuer):
        raise Refusal(
            step, Reason.CRL_ISSUER, f"{what} is not issued and signed by {issuer.common_name!r}"
        )
    if crl.critical:
        raise Refusal(step, Reason.CRL_UNKNOWN_EXTENSION, f"{what}: {', '.join(crl.critical)}")
    if not crl.this_update <= now <= crl.next_update:
        raise Refusal(
            step,
            Reason.CRL_VALIDITY,
            f"{what} is valid from {crl.this_update} to {crl.next_update}, not at {now}",
        )


def check_current(step: int, certificate: Certificate, now: datetime, what: str) -> None:
    """Refuse a certificate outside its validity, whose ends are part of it."""
    if not certificate.not_before <= now <= certificate.not_after:
        raise Refusal(
            step,
            Reason.CERTIFICATE_VALIDITY,
            f"{what} is valid from {certificate.not_before} to {certificate.not_after}, "
            f"not at {now}",
        )


def _check_issued(step: int, certificate: Certificate, issuer: Certificate, what: str) -> None:
    """Refuse a certificate that does not name this issuer, or that its key did not sign."""
    if not certificate.issued_by(issuer):
        raise Refusal(
            step,
            Reason.CERTIFICATE_SIGNATURE,
            f"{what} is not issued and signed by {issuer.common_name!r}",
        )


def _check_extensions(step: int, certificate: Certificate, what: str) -> None:
    """Refuse a certificate with critical extensions that nobody here understands."""
    if certificate.critical:
        raise Refusal(
            step,
            Reason.CERTIFICATE_ROLE,
            f"{what} has the unknown critical extensions {', '.join(certificate.critical)}",
        )
