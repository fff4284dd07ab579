# SPDX-License-Identifier: Apache-2.0
"""Whom to talk to: everything that decides whether a peer's certificate is accepted."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ensconce.dcap import (
    INTEL_ROOT,
    Cache,
    Collateral,
    Epoch,
    Policy,
    Quote,
    Root,
    Watermarks,
)
from ensconce.dcap.ratls import Appraisal, Evidence, verify_certificate
from ensconce.dcap.ratls_certificate import TlsCertificate
from ensconce.errors import VerificationError

__all__ = ["CollateralSource", "Verifier", "utc_now"]

CollateralSource = Callable[[Quote], Collateral | Epoch]
"""Finds the collateral for a quote, by the FMSPC and CA that its PCK certificate names."""


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is wanted of a peer, and what its quote is checked with.

    `collateral` is one set for all peers, a function that finds it, or None to take what peers
    bring along (see `verify_certificate` for what that means). `cache` and `watermarks` are
    shared by all connections, in whichever threads.
    """

    policy: Policy
    collateral: Collateral | Epoch | CollateralSource | None
    roots: tuple[Root, ...] = (INTEL_ROOT,)
    watermarks: Watermarks | None = None
    cache: Cache = field(default_factory=Cache)
    clock: Callable[[], datetime] = utc_now
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def verify(self, certificate: bytes | None, nonce: bytes | None = None) -> Appraisal:
        """Return the appraisal of a peer that is accepted; whatever else is an EnsconceError."""
        if not certificate:
            raise VerificationError("the peer showed no certificate, so it proves nothing")
        collateral = self.collateral
        if callable(collateral):
            evidence = Evidence.read(TlsCertificate.parse(certificate))
            collateral = collateral(Quote.parse(evidence.quote))
        with self._lock:
            appraisal = verify_certificate(
                certificate,
                collateral,
                self.clock(),
                self.policy,
                nonce=nonce,
                roots=self.roots,
                cache=self.cache,
                watermarks=self.watermarks,
            )
        appraisal.require()
        return appraisal
