# SPDX-License-Identifier: Apache-2.0
"""What a peer proves itself with: a TLS key made for the session, and certificates with quotes.

The key lives in this process. On a host that is outside the enclave, it proves that the host speaks
for the enclave, and nothing that is sent over TLS is hidden from that host: have the enclave
make a key of its own, bind it in the claims, and encrypt to that one.
"""

import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ensconce.dcap import Collateral
from ensconce.dcap.ratls import certificate_for, make_claims, report_data_of
from ensconce.ratls.verifier import utc_now

__all__ = ["Attest", "Credential", "attest_with"]

Attest = Callable[[bytes, bytes | None], tuple[bytes, bytes]]
"""Gets a key (a DER SubjectPublicKeyInfo) and perhaps a nonce, and has them quoted.

Returns the quote, and the claims buffer whose hash its report data begin with.
"""


def attest_with(quoter: Callable[[bytes], bytes]) -> Attest:
    """Return how an enclave that puts any 64 bytes into its report data attests a key."""

    def attest(spki: bytes, nonce: bytes | None) -> tuple[bytes, bytes]:
        claims = make_claims(spki, nonce)
        return quoter(report_data_of(claims)), claims

    return attest


@dataclass
class Credential:
    """A key with certificates for it: one that is kept and renewed, or one for each nonce.

    `attest` may be called by several threads, once at a time.
    """

    attest: Attest
    endorsements: Collateral | None = None
    valid: timedelta = timedelta(days=1)
    clock: Callable[[], datetime] = utc_now
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), init=False, repr=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _kept: tuple[datetime, bytes] | None = field(default=None, init=False, repr=False)

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The TLS key, for what ends TLS in this process; keep it there."""
        return self._key

    def certificate(self, nonce: bytes | None = None) -> bytes:
        """Return a certificate (DER): a new one for a nonce, else the one that is kept."""
        with self._lock:
            now = self.clock()
            if nonce is not None:
                return self._made(now, nonce)
            if self._kept is None or not self._kept[0] <= now < self._kept[0] + self.valid / 2:
                self._kept = now, self._made(now, None)
            return self._kept[1]

    def load_into(self, context: ssl.SSLContext, certificate: bytes) -> None:
        """Have a context show a certificate of this key's; neither is written to a disk."""
        private = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        memory = os.memfd_create("ensconce-tls", os.MFD_CLOEXEC)
        try:
            with open(memory, "wb", closefd=False) as stream:  # it has no path
                stream.write(private + ssl.DER_cert_to_PEM_cert(certificate).encode())
            context.load_cert_chain(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)

    def _made(self, now: datetime, nonce: bytes | None) -> bytes:
        """Return a new certificate."""
        public = self._key.public_key()
        spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        quote, claims = self.attest(spki, nonce)
        return certificate_for(
            self._key, quote, claims, now, endorsements=self.endorsements, valid=self.valid
        )
