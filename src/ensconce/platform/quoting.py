# SPDX-License-Identifier: Apache-2.0
"""The quoting role: QE and PCE of the emulated platform, which turn a REPORT into a DCAP quote.

What happens where, as on a processor:
- An enclave makes a REPORT for the QE (`Quoter.target_info`). The QE derives its own report key
  and checks the MAC, so only an enclave on this platform, at its present CPUSVN, gets a quote.
- The QE signs with an attestation key that follows from its seal key: the same after a restart,
  another one after a TCB recovery.
- The PCE signs the QE's REPORT with the PCK, which follows from its provisioning key: a platform
  can't have the PCK of a CPUSVN that is above its own.
"""

import hashlib
import hmac
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from cryptography.hazmat.primitives.asymmetric import ec

from ensconce.crypto import aes_cmac, p256_key, p256_point, p256_sign
from ensconce.dcap.quote import Certification, CertificationKind, Quote, QuoteHeader, signed_part
from ensconce.enclave.device import chosen_backend
from ensconce.errors import ConfigError, VerificationError
from ensconce.isa.keyrequest import KeyName, KeyPolicy
from ensconce.isa.report import Report, ReportBody, TargetInfo
from ensconce.machine import identity
from ensconce.machine.identity import Identity
from ensconce.machine.keys import KeyHierarchy
from ensconce.platform.certificates import Certified, pem
from ensconce.platform.ledger import Ledger, load_ledger
from ensconce.platform.pcs import Pcs
from ensconce.platform.roles import (
    PCE_MR_SIGNER,
    PCE_SVN,
    QE_ATTRIBUTES,
    QE_MR_ENCLAVE,
    QE_MR_SIGNER,
    QE_PROD_ID,
    QE_SVN,
    QE_TARGET,
)
from ensconce.platform.vendor_quoting import VendorQuoter

__all__ = [
    "QUOTE_VERSIONS",
    "EmulatedPlatform",
    "Pce",
    "Quoter",
    "QuotingRole",
    "quoting_role",
    "report_mac",
]

QUOTE_VERSIONS = (3, 4)

_QE_AUTH_DATA = bytes(range(32))
_KEY_BYTES = 40
_QE_ID_BYTES = 16
_NONCE_BYTES = 16


class QuotingRole(Protocol):
    """Makes quotes of the enclaves on a machine; `Quoter` and `VendorQuoter` are this."""

    @property
    def target_info(self) -> TargetInfo:
        """What an enclave makes its REPORT for."""

    def quote(self, report: Report, *, version: int = 3) -> bytes:
        """Return the quote of a REPORT."""


class Pce:
    """The provisioning certification role at one TCB level: it holds the PCK and signs with it."""

    def __init__(self, keys: KeyHierarchy) -> None:
        self.cpu_svn = keys.cpu_svn
        self.pce_svn = PCE_SVN
        provision = keys.key(
            KeyName.PROVISION,
            keys.cpu_svn,
            owner=False,
            seal=False,
            attributes=bytes(QE_ATTRIBUTES),
            mr_signer=PCE_MR_SIGNER,
            isv_svn=PCE_SVN,
        )
        self._pck = _key(provision, b"PCK")

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The PCK's public half, which the PCS certifies."""
        return self._pck.public_key()

    def certify(self, qe_report: ReportBody) -> bytes:
        """Return the PCK's signature of a QE's REPORT body, 64 bytes."""
        return p256_sign(self._pck, bytes(qe_report))


class Quoter:
    """The quoting role: checks REPORTs of this platform and signs quotes of them.

    `chain` is the PCK's certificate chain in PEM, leaf first, as a quote carries it.
    """

    def __init__(self, keys: KeyHierarchy, pce: Pce, chain: str) -> None:
        self._keys = keys
        self._pce = pce
        self._chain = chain.encode()
        seal = keys.key(
            KeyName.SEAL,
            keys.cpu_svn,
            attributes=bytes(QE_ATTRIBUTES),
            policy=KeyPolicy.MRSIGNER,
            mr_signer=QE_MR_SIGNER,
            isv_prod_id=QE_PROD_ID,
            isv_svn=QE_SVN,
        )
        self._attestation_key = _key(seal, b"attestation key")
        self._point = p256_point(self._attestation_key.public_key())
        self._qe_id = hmac.digest(seal, b"QE identity", hashlib.sha256)[:_QE_ID_BYTES]
        self._body = ReportBody(
            cpu_svn=keys.cpu_svn,
            attributes=QE_ATTRIBUTES,
            mr_enclave=QE_MR_ENCLAVE,
            mr_signer=QE_MR_SIGNER,
            isv_prod_id=QE_PROD_ID,
            isv_svn=QE_SVN,
        )
        bound = hashlib.sha256(self._point + _QE_AUTH_DATA).digest()
        self._qe_report = replace(self._body, report_data=bound + bytes(32))
        self._qe_signature = pce.certify(self._qe_report)

    @property
    def target_info(self) -> TargetInfo:
        """What an enclave makes its REPORT for."""
        return QE_TARGET

    @property
    def key_id(self) -> bytes:
        """The attestation key's identifier: SHA-256 of x and y, 32 bytes."""
        return hashlib.sha256(self._point).digest()

    def size(self, version: int = 3) -> int:
        """Return how many bytes a quote has."""
        return len(self._sign(ReportBody(), version))

    def quote(self, report: Report, *, version: int = 3) -> bytes:
        """Return the quote of a REPORT that an enclave on this platform made for the QE.

        Raises VerificationError where the REPORT is not such, ConfigError for a version that
        is not 3 or 4.
        """
        expected = report_mac(self._keys, report.body, QE_TARGET, report.key_id)
        if not hmac.compare_digest(expected, report.mac):
            raise VerificationError(
                "the REPORT was not made on this platform for its quoting enclave; make it with "
                "the target info that `ensconce platform target` prints, and anew after a TCB "
                "recovery"
            )
        return self._sign(report.body, version)

    def quote_and_prove(
        self, report: Report, nonce: bytes, target: TargetInfo, *, version: int = 3
    ) -> tuple[bytes, Report]:
        """Return a quote, and the QE's REPORT that an enclave can check it was the QE's work by.

        The REPORT's data is SHA-256 of the 16-byte nonce and the quote (sgx_ql_qe_report_info_t).
        It is made of quotes just signed and of nothing else: over bytes of a caller's choice it
        could bind an attestation key of theirs. Raises as `quote` does.
        """
        if len(nonce) != _NONCE_BYTES:
            raise ConfigError(f"a quote's nonce has {_NONCE_BYTES} bytes, not {len(nonce)}")
        made = self.quote(report, version=version)
        bound = hashlib.sha256(nonce + made).digest()
        body = replace(self._body, report_data=bound + bytes(32))
        key_id = hashlib.sha256(b"QE report" + self._qe_id).digest()
        return made, Report(body, key_id, report_mac(self._keys, body, target, key_id))

    def _sign(self, body: ReportBody, version: int) -> bytes:
        """Return the quote of a REPORT body."""
        if version not in QUOTE_VERSIONS:
            raise ConfigError(f"quotes of SGX enclaves have version 3 or 4, not {version}")
        header = QuoteHeader(version, user_data=self._qe_id.ljust(20, b"\0"))
        if version == 3:  # reserved from version 4 on
            header = replace(header, qe_svn=QE_SVN, pce_svn=self._pce.pce_svn)
        signed = signed_part(header, body)
        made = Quote(
            signed,
            p256_sign(self._attestation_key, signed),
            self._point,
            bytes(self._qe_report),
            self._qe_signature,
            _QE_AUTH_DATA,
            Certification(CertificationKind.PCK_CHAIN, self._chain),
        )
        return bytes(made)


@dataclass(frozen=True, slots=True)
class EmulatedPlatform:
    """A platform with everything that attests it: identity, test PCS, certified PCK, quoter."""

    identity: Identity
    pcs: Pcs
    pck: Certified
    quoter: Quoter

    @classmethod
    def of(cls, found: Identity, ledger: Ledger | None = None) -> Self:
        """Return what follows from an identity and from what its PCS has announced."""
        pcs = Pcs.derive(found.secret, ledger or Ledger.initial(found))
        keys = KeyHierarchy(found)
        pce = Pce(keys)
        pck = pcs.pck(
            pce.public_key, ppid=found.platform_id, cpu_svn=pce.cpu_svn, pce_svn=pce.pce_svn
        )
        return cls(found, pcs, pck, Quoter(keys, pce, pem(pck.chain())))

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Return this user's platform, or the one with its identity at a path; made if missing."""
        path = path or identity.default_path()
        found = identity.load_or_create(path)
        return cls.of(found, load_ledger(path, found))


def quoting_role(backend: str = "", path: Path | None = None) -> QuotingRole:
    """Return who quotes: `hardware`, `emulated`, or by the machine, as for a new enclave.

    `path` is that of the emulated platform's identity.
    """
    if chosen_backend(backend) == "hardware":
        return VendorQuoter()
    return EmulatedPlatform.load(path).quoter


def report_mac(keys: KeyHierarchy, body: ReportBody, target: TargetInfo, key_id: bytes) -> bytes:
    """Return the MAC that EREPORT gives a REPORT for a target at the present CPUSVN."""
    key = keys.key(
        KeyName.REPORT,
        keys.cpu_svn,
        attributes=bytes(target.attributes),
        mr_enclave=target.measurement,
        key_id=key_id,
        cet_attributes=int(target.cet_attributes),
        misc_select=int(target.misc_select),
        config_id=target.config_id,
        config_svn=target.config_svn,
    )
    return aes_cmac(key, bytes(body))


def _key(secret: bytes, role: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key that follows from a processor's 16-byte key, one for each role."""
    return p256_key(hmac.digest(secret, b"ensconce " + role, hashlib.sha512)[:_KEY_BYTES])
