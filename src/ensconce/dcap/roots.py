# SPDX-License-Identifier: Apache-2.0
"""Trust anchors: Intel's production root, pinned, or a root that the caller names."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ensconce.dcap.certificate import Certificate
from ensconce.errors import ConfigError, FormatError

__all__ = ["INTEL_ROOT", "INTEL_ROOT_DER", "Root", "check_roots"]


@dataclass(frozen=True, slots=True)
class Root:
    """A self-signed CA certificate that is trusted because somebody says so."""

    certificate: Certificate

    @classmethod
    def parse(cls, der: bytes) -> Self:
        """Return the root in a DER certificate; FormatError if it can't be one."""
        certificate = Certificate.parse(der, "the root certificate")
        if not certificate.ca or not certificate.issued_by(certificate):
            raise FormatError(
                "the root certificate is not a CA certificate that signs itself; "
                "give the root of the chain, not one below it",
                source="root certificate",
            )
        return cls(certificate)

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate, 32 bytes."""
        return self.certificate.fingerprint

    @property
    def production(self) -> bool:
        """Whether this is Intel's root, under which hardware is certified; no other is."""
        return self.fingerprint == INTEL_ROOT.fingerprint

    def matches(self, certificate: Certificate) -> bool:
        """Return whether a certificate is this root, or another edition of it.

        What counts is the name and the key (RFC 5280, 6.1.1 d); an edition is signed by that key.
        """
        own = self.certificate
        return certificate.fingerprint == own.fingerprint or (
            (certificate.subject, certificate.key) == (own.subject, own.key)
            and certificate.issued_by(own)
        )


def check_roots(roots: Iterable[Root]) -> tuple[Root, ...]:
    """Return the roots if they may be trusted together: production ones never with others."""
    checked = tuple(roots)
    if not checked or len({root.production for root in checked}) > 1:
        raise ConfigError(
            "the trusted roots are none, or the production root beside a test root; "
            "verify against one kind at a time"
        )
    return checked


# Intel SGX Root CA, as https://certificates.trustedservices.intel.com/ serves it
INTEL_ROOT_DER = bytes.fromhex(
    "3082028f30820234a003020102021422650cd65a9d3489f383b49552bf501b392706ac300a06082a8648ce3d"
    "0403023068311a301806035504030c11496e74656c2053475820526f6f74204341311a3018060355040a0c11"
    "496e74656c20436f72706f726174696f6e3114301206035504070c0b53616e746120436c617261310b300906"
    "035504080c024341310b3009060355040613025553301e170d3138303532313130343531305a170d34393132"
    "33313233353935395a3068311a301806035504030c11496e74656c2053475820526f6f74204341311a301806"
    "0355040a0c11496e74656c20436f72706f726174696f6e3114301206035504070c0b53616e746120436c6172"
    "61310b300906035504080c024341310b30090603550406130255533059301306072a8648ce3d020106082a86"
    "48ce3d030107034200040ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f56791"
    "8e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394a381bb3081b8301f0603551d2304"
    "183016801422650cd65a9d3489f383b49552bf501b392706ac30520603551d1f044b30493047a045a0438641"
    "68747470733a2f2f6365727469666963617465732e7472757374656473657276696365732e696e74656c2e63"
    "6f6d2f496e74656c534758526f6f7443412e646572301d0603551d0e0416041422650cd65a9d3489f383b495"
    "52bf501b392706ac300e0603551d0f0101ff04040302010630120603551d130101ff040830060101ff020101"
    "300a06082a8648ce3d0403020349003046022100e5bfe50911f92f428920dc368a302ee3d12ec5867ff622ec"
    "6497f78060c13c20022100e09d25ac7a0cb3e5e8e68fec5fa3bd416c47440bd950639d450edcbea4576aa2"
)

INTEL_ROOT = Root.parse(INTEL_ROOT_DER)
"""Intel SGX Root CA, valid until the end of 2049."""
