# SPDX-License-Identifier: Apache-2.0
"""Evidence to order: a quote with its collateral, as attributes that a test changes before use.

It is the platform's own test PCS that issues. Everything is signed when it is asked for, so a
change before that is signed by the right keys, which is what makes an attack worth testing.
Genuine as it comes; the same seed and time make the same bytes.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ensconce.crypto import p256_key, p256_point, p256_sign
from ensconce.dcap.pck import PckExtension
from ensconce.dcap.quote import (
    Body,
    Certification,
    CertificationKind,
    Quote,
    QuoteHeader,
    TdReport,
    TdReport15,
    TeeType,
    signed_part,
)
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.report import ReportBody
from ensconce.machine.identity import DEFAULT_CPU_SVN, Identity
from ensconce.platform.certificates import Certified, pem
from ensconce.platform.ledger import Ledger
from ensconce.platform.pcs import Pcs
from ensconce.platform.roles import (
    PCE_SVN,
    QE_ATTRIBUTES,
    QE_MR_ENCLAVE,
    QE_MR_SIGNER,
    QE_PROD_ID,
    QE_SVN,
)

__all__ = ["NOW", "TEE_TCB_SVN", "Evidence", "compact", "components", "impostor_of", "secret_of"]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

_AUTH_DATA = bytes(range(32))
_PPID = hashlib.sha256(b"a platform").digest()[:16]
_SGX_FLAGS = AttributeFlags.INIT | AttributeFlags.MODE64BIT
_TD_QE_PROD_ID = 2
_SEPT_VE_DISABLE = 1 << 28
_SEAM_SIGNER = b"\2" * 48
_HEADER = QuoteHeader(qe_svn=QE_SVN, pce_svn=PCE_SVN)
_BODY = ReportBody(
    cpu_svn=DEFAULT_CPU_SVN,
    attributes=Attributes(_SGX_FLAGS, Xfrm.LEGACY),
    mr_enclave=b"\xe1" * 32,
    mr_signer=b"\x51" * 32,
    isv_prod_id=7,
    isv_svn=3,
    report_data=b"\xda" * 64,
)
_QE_REPORT = ReportBody(
    cpu_svn=DEFAULT_CPU_SVN,
    attributes=QE_ATTRIBUTES,
    mr_enclave=QE_MR_ENCLAVE,
    mr_signer=QE_MR_SIGNER,
    isv_prod_id=QE_PROD_ID,
    isv_svn=QE_SVN,
)
TEE_TCB_SVN = bytes((5, 1, 2)) + bytes(13)
"""TDX module ISVSVN 5 of version 1, and SEAM loader 2."""


def secret_of(seed: bytes) -> Callable[[bytes, int], bytes]:
    """Return a source of secrets like `Identity.secret`, that follows from a seed."""
    return Identity(
        bytes(16), bytes(16), bytes(16), hashlib.sha256(seed).digest(), bytes(16)
    ).secret


@dataclass
class Evidence:
    """A genuine quote of an enclave on an emulated platform, and the collateral for it.

    `point`, `signature`, `qe_report_data`, `qe_signature` and `certification` are made where they
    are None. `reshape` gets the last word on the quote's bytes, `final` on the collateral's
    texts, and `trusted` on the root that the verifier is told.
    """

    now: datetime
    pcs: Pcs
    pck: Certified
    pck_key: ec.EllipticCurvePrivateKey
    attestation_key: ec.EllipticCurvePrivateKey
    tcb_info: dict[str, Any]
    qe_identity: dict[str, Any]
    header: QuoteHeader = _HEADER
    body: Body = _BODY
    qe_report: ReportBody = _QE_REPORT
    auth_data: bytes = _AUTH_DATA
    point: bytes | None = None
    signature: bytes | None = None
    qe_report_data: bytes | None = None
    qe_signature: bytes | None = None
    certification: Certification | None = None
    reshape: Callable[[bytes], bytes] = bytes
    root_crl: bytes | None = None
    pck_crl: bytes | None = None
    tcb_signer: Certified | None = None
    qe_signer: Certified | None = None
    final: dict[str, str] = field(default_factory=dict)
    trusted: bytes | None = None

    @classmethod
    def sgx(cls, now: datetime = NOW, seed: bytes = b"conformance") -> Self:
        """Return evidence about an SGX enclave, its collateral a day old."""
        secret = secret_of(seed)
        identity = Identity(_PPID, DEFAULT_CPU_SVN, bytes(16), bytes(32), bytes(16))
        pcs = Pcs.derive(secret, Ledger.initial(identity))
        pck_key = p256_key(secret(b"PCK", 40))
        pck = pcs.pck(pck_key.public_key(), ppid=_PPID, cpu_svn=DEFAULT_CPU_SVN, pce_svn=PCE_SVN)
        issued = now - timedelta(days=1)
        texts = (pcs.tcb_info(issued), pcs.qe_identity(issued))
        return cls(now, pcs, pck, pck_key, p256_key(secret(b"attestation key", 40)), *texts)

    @classmethod
    def tdx(cls, now: datetime = NOW, seed: bytes = b"conformance") -> Self:
        """Return evidence about a trust domain (TDX 1.0, quote version 4)."""
        made = cls.sgx(now, seed)
        made.header = QuoteHeader(4, tee_type=TeeType.TDX)
        made.body = TdReport(
            tee_tcb_svn=TEE_TCB_SVN,
            mr_signer_seam=_SEAM_SIGNER,
            td_attributes=_SEPT_VE_DISABLE,
            xfam=3,
            mr_td=b"\3" * 48,
            report_data=b"\xda" * 64,
        )
        made.qe_report = replace(made.qe_report, isv_prod_id=_TD_QE_PROD_ID)
        made.qe_identity |= {"id": "TD_QE", "isvprodid": _TD_QE_PROD_ID}
        module = {
            "mrsigner": _SEAM_SIGNER.hex().upper(),
            "attributes": "0" * 16,
            "attributesMask": "F" * 16,
        }
        level = {
            "tcb": {"isvsvn": 4},
            "tcbDate": "2026-01-01T00:00:00Z",
            "tcbStatus": "UpToDate",
        }
        made.tcb_info["id"] = "TDX"
        made.tcb_info["tdxModule"] = module
        made.tcb_info["tdxModuleIdentities"] = [module | {"id": "TDX_01", "tcbLevels": [level]}]
        highest, *lower = made.levels
        highest["tcb"]["tdxtcbcomponents"] = components(b"\0\0\2")
        for each in lower:
            each["tcb"]["tdxtcbcomponents"] = components(b"")
        return made

    @property
    def issued(self) -> datetime:
        """When the collateral was issued."""
        return self.now - timedelta(days=1)

    @property
    def levels(self) -> list[dict[str, Any]]:
        """The TCB levels in the TCB info."""
        levels: list[dict[str, Any]] = self.tcb_info["tcbLevels"]
        return levels

    @property
    def sgx_body(self) -> ReportBody:
        """The body, of an SGX quote."""
        assert isinstance(self.body, ReportBody)
        return self.body

    @property
    def td(self) -> TdReport:
        """The body, of a TDX 1.0 quote."""
        assert isinstance(self.body, TdReport)
        return self.body

    @property
    def root(self) -> bytes:
        """The certificate that the verifier is told to trust, DER."""
        return self.trusted or self.pcs.root.certificate().public_bytes(Encoding.DER)

    def tdx_15(self, running: bytes = b"") -> None:
        """Make a TDX 1.0 quote one of TDX 1.5, under the TDX module of launch or another one."""
        self.header = replace(self.header, version=5)
        svns = running.ljust(16, b"\0") if running else self.td.tee_tcb_svn
        self.body = TdReport15(self.td, svns)

    def certify(self, **changes: Any) -> None:
        """Have the PCK certificate say something else of the platform."""
        assert self.pck.sgx_extension is not None
        extension = PckExtension.parse(self.pck.sgx_extension)
        self.pck.sgx_extension = bytes(replace(extension, **changes))

    def pck_chain(self) -> str:
        """Return the PCK's chain in PEM."""
        return pem(self.pck.chain())

    def encrypted_ppid(self) -> None:
        """Have the quote name its platform by an encrypted PPID (type 3) and carry no chain."""
        body = b"\xab" * 384 + DEFAULT_CPU_SVN + PCE_SVN.to_bytes(2, "little") + self.pcs.pce_id
        self.certification = Certification(CertificationKind.PPID_RSA3072, body)

    def quote(self) -> bytes:
        """Return the quote."""
        point = self.point or p256_point(self.attestation_key.public_key())
        bound = hashlib.sha256(point + self.auth_data).digest() + bytes(32)
        data = bound if self.qe_report_data is None else self.qe_report_data
        qe_report = bytes(replace(self.qe_report, report_data=data))
        signed = signed_part(self.header, self.body)
        chain = Certification(CertificationKind.PCK_CHAIN, self.pck_chain().encode())
        made = Quote(
            signed,
            self.signature or p256_sign(self.attestation_key, signed),
            point,
            qe_report,
            self.qe_signature or p256_sign(self.pck_key, qe_report),
            self.auth_data,
            self.certification or chain,
        )
        return self.reshape(bytes(made))

    def collateral(self) -> dict[str, str]:
        """Return the collateral."""
        made = self.pcs.collateral(self.issued)
        made |= self._signed("tcb_info", self.tcb_info, self.tcb_signer)
        made |= self._signed("qe_identity", self.qe_identity, self.qe_signer)
        if self.root_crl is not None:
            made["root_ca_crl"] = self.root_crl.hex()
        if self.pck_crl is not None:
            made["pck_crl"] = self.pck_crl.hex()
        return made | self.final

    def sign(self, name: str, text: str) -> None:
        """Have a text stand in the collateral under a name as it is, signed by the right key."""
        signature = p256_sign(self.pcs.tcb_signing.signing_key, text.encode())
        self.final |= {name: text, f"{name}_signature": signature.hex()}

    def _signed(
        self, name: str, fields: dict[str, Any], signer: Certified | None
    ) -> dict[str, str]:
        """Return a signed text with its issuer chain, under the names the collateral has for it."""
        signer = signer or self.pcs.tcb_signing
        text = compact(fields)
        return {
            name: text,
            f"{name}_signature": p256_sign(signer.signing_key, text.encode()).hex(),
            f"{name}_issuer_chain": pem(signer.chain()),
        }


def impostor_of(evidence: Evidence) -> Evidence:
    """Return evidence of the same names and time with other keys, for who has none of the right."""
    return Evidence.sgx(evidence.now, b"impostor")


def compact(fields: dict[str, Any]) -> str:
    """Return JSON as the PCS writes it."""
    return json.dumps(fields, separators=(",", ":"))


def components(svns: bytes) -> list[dict[str, int]]:
    """Return 16 component SVNs, the last ones zero."""
    return [{"svn": svn} for svn in svns.ljust(16, b"\0")]
