# SPDX-License-Identifier: Apache-2.0
"""Enclaves of emulated platforms that report whatever a test wants, with genuine quotes of it."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ensconce.crypto import aes_cmac
from ensconce.dcap import Collateral, Policy, Root, der
from ensconce.dcap.policy import SgxPolicy
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.keyrequest import KeyName
from ensconce.isa.report import Report, ReportBody
from ensconce.machine.identity import Identity
from ensconce.machine.keys import KeyHierarchy
from ensconce.platform.quoting import EmulatedPlatform

__all__ = ["MR_ENCLAVE", "NOW", "QuotedEnclave", "with_null_parameters"]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MR_ENCLAVE = b"\x4d" * 32
_KEY_ID = bytes(32)


@dataclass
class QuotedEnclave:
    """An enclave on a platform of its own; call it with report data to get a quote."""

    mr_enclave: bytes = MR_ENCLAVE
    flags: AttributeFlags = AttributeFlags.INIT | AttributeFlags.MODE64BIT
    platform: EmulatedPlatform = field(
        default_factory=lambda: EmulatedPlatform.of(Identity.generate())
    )

    def __call__(self, report_data: bytes) -> bytes:
        body = ReportBody(
            cpu_svn=self.platform.identity.cpu_svn,
            attributes=Attributes(self.flags, Xfrm.LEGACY),
            mr_enclave=self.mr_enclave,
            report_data=report_data,
        )
        target = self.platform.quoter.target_info
        keys = KeyHierarchy(self.platform.identity)
        key = keys.key(
            KeyName.REPORT,
            keys.cpu_svn,
            attributes=bytes(target.attributes),
            mr_enclave=target.measurement,
            key_id=_KEY_ID,
        )
        return self.platform.quoter.quote(Report(body, _KEY_ID, aes_cmac(key, bytes(body))))

    @cached_property
    def root(self) -> Root:
        certificate = self.platform.pcs.root.certificate()
        return Root.parse(certificate.public_bytes(Encoding.DER))

    def collateral(self, issued: datetime = NOW - timedelta(hours=1)) -> Collateral:
        return Collateral.parse(json.dumps(self.platform.pcs.collateral(issued)).encode())

    @property
    def policy(self) -> Policy:
        """A policy that wants this enclave and accepts its platform's root."""
        return Policy(
            sgx=SgxPolicy(mr_enclave=(self.mr_enclave,)),
            tdx=None,
            accept_emulated_root=self.root.fingerprint,
        )


def with_null_parameters(certificate: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate with NULL behind its ECDSA algorithm, as Gramine's have it."""
    oid = der.encode(der.OBJECT_IDENTIFIER, der.encode_oid("1.2.840.10045.4.3.2"))
    algorithm = der.encode(der.SEQUENCE, oid + bytes.fromhex("0500"))
    whole = der.only_child(certificate, der.SEQUENCE, "a certificate")
    tbs = der.elements(whole, "a certificate")[0]
    fields = [field.whole for field in der.elements(tbs.contents, "a certificate")]
    fields[2] = algorithm
    signed = der.encode(der.SEQUENCE, b"".join(fields))
    signature = b"\0" + key.sign(signed, ec.ECDSA(SHA256()))
    return der.encode(der.SEQUENCE, signed + algorithm + der.encode(3, signature))
