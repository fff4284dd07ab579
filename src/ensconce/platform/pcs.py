# SPDX-License-Identifier: Apache-2.0
"""The test PCS: issues what Intel's provisioning certification service issues for real platforms.

A root, the two PCK authorities, the TCB signing certificate, PCK certificates, CRLs, TCB info v3
and QE identity v2. No I/O and no clock: times are passed in. Everything is an attribute and is
signed when asked for, so tests make any evidence by changing attributes.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from cryptography.hazmat.primitives.asymmetric import ec

from ensconce.crypto import p256_key, p256_sign
from ensconce.dcap.chain import PckCa
from ensconce.dcap.pck import PckExtension, SgxType
from ensconce.dcap.verdict import TcbStatus
from ensconce.platform.certificates import CA_USAGE, Certified, pem, revocation_list
from ensconce.platform.ledger import Ledger, word
from ensconce.platform.roles import QE_ATTRIBUTES, QE_MR_SIGNER, QE_PROD_ID, QE_SVN

__all__ = ["EMULATED_FMSPC", "Pcs", "SignedText"]

EMULATED_FMSPC = bytes.fromhex("e5c05ce00000")
"""The FMSPC of every emulated platform."""

_NAME = "ensconce emulated"
_KEY_BYTES = 40
_COLLATERAL_VALID = timedelta(days=30)
_ROOT_CRL_VALID = timedelta(days=365)
_MODE64_IS_FREE = "FBFFFFFFFFFFFFFF0000000000000000"

Secret = Callable[[bytes, int], bytes]
"""Makes as many secret bytes as asked for, others for each label (`Identity.secret`)."""


class SignedText(NamedTuple):
    """A JSON text, byte for byte as signed, and its signature (r and s, 64 bytes)."""

    text: str
    signature: bytes


@dataclass
class Pcs:
    """A test PCS; change what you like, and ask for what follows from it."""

    root: Certified
    authorities: dict[PckCa, Certified]
    tcb_signing: Certified
    ledger: Ledger
    fmspc: bytes = EMULATED_FMSPC
    pce_id: bytes = bytes(2)
    ca: PckCa = PckCa.PLATFORM
    valid: timedelta = _COLLATERAL_VALID

    @classmethod
    def derive(cls, secret: Secret, ledger: Ledger) -> Self:
        """Return the PCS whose keys follow from a secret: always the same root for the same one."""

        def entity(role: str, **fields: Any) -> Certified:
            key = p256_key(secret(f"PCS {role}".encode(), _KEY_BYTES))
            return Certified(f"{_NAME} {role}", key.public_key(), key, **fields)

        root = entity("SGX Root CA", ca=True, path_length=1, usage=CA_USAGE)
        authorities = {
            ca: entity(
                ca.value,
                issuer=root,
                ca=True,
                path_length=0,
                usage=CA_USAGE,
            )
            for ca in PckCa
        }
        return cls(root, authorities, entity("SGX TCB Signing", issuer=root), ledger)

    def pck(
        self, public_key: ec.EllipticCurvePublicKey, *, ppid: bytes, cpu_svn: bytes, pce_svn: int
    ) -> Certified:
        """Return what certifies a PCK of a platform at a TCB level."""
        several = self.ca is PckCa.PLATFORM
        extension = PckExtension(
            ppid,
            tuple(cpu_svn),
            pce_svn,
            cpu_svn,
            self.pce_id,
            self.fmspc,
            SgxType.SCALABLE if several else SgxType.STANDARD,
            platform_instance_id=ppid if several else None,
            dynamic_platform=False if several else None,
            cached_keys=False if several else None,
            smt_enabled=True if several else None,
        )
        return Certified(
            f"{_NAME} SGX PCK Certificate",
            public_key,
            issuer=self.authorities[self.ca],
            crl=f"pckcrl?ca={self.ca.name.lower()}&encoding=der",
            sgx_extension=bytes(extension),
        )

    def root_crl(self, now: datetime) -> bytes:
        """Return the root's CRL in DER, issued now; it lists what is revoked of its own."""
        issued = [*self.authorities.values(), self.tcb_signing]
        own = {entity.serial_number for entity in issued}
        return self._crl(self.root, now, _ROOT_CRL_VALID, lambda serial: serial in own)

    def pck_crl(self, now: datetime, ca: PckCa | None = None) -> bytes:
        """Return the CRL of the authority of PCKs (None: the one in use) in DER, issued now."""
        issued = [*self.authorities.values(), self.tcb_signing]
        others = {entity.serial_number for entity in issued}
        authority = self.authorities[ca or self.ca]
        return self._crl(authority, now, self.valid, lambda serial: serial not in others)

    def tcb_info(self, now: datetime) -> dict[str, Any]:
        """Return the fields of TCB info v3, issued now."""
        return {
            "id": "SGX",
            "version": 3,
            "issueDate": word(now),
            "nextUpdate": word(now + self.valid),
            "fmspc": self.fmspc.hex().upper(),
            "pceId": self.pce_id.hex().upper(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": self.ledger.evaluation,
            "tcbLevels": [
                {
                    "tcb": {
                        "sgxtcbcomponents": [{"svn": svn} for svn in level.cpu_svn],
                        "pcesvn": level.pce_svn,
                    },
                    "tcbDate": word(level.date),
                    "tcbStatus": level.status.value,
                }
                | ({"advisoryIDs": list(level.advisories)} if level.advisories else {})
                for level in self.ledger.levels
            ],
        }

    def qe_identity(self, now: datetime) -> dict[str, Any]:
        """Return the fields of QE identity v2, issued now."""
        flags = QE_ATTRIBUTES.flags & ~QE_ATTRIBUTES.flags.MODE64BIT
        return {
            "id": "QE",
            "version": 2,
            "issueDate": word(now),
            "nextUpdate": word(now + self.valid),
            "tcbEvaluationDataNumber": self.ledger.evaluation,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": (int(flags).to_bytes(8, "little") + bytes(8)).hex().upper(),
            "attributesMask": _MODE64_IS_FREE,
            "mrsigner": QE_MR_SIGNER.hex().upper(),
            "isvprodid": QE_PROD_ID,
            "tcbLevels": [
                {
                    "tcb": {"isvsvn": QE_SVN},
                    "tcbDate": word(self.ledger.levels[-1].date),
                    "tcbStatus": TcbStatus.UP_TO_DATE.value,
                }
            ],
        }

    def sign(self, fields: dict[str, Any]) -> SignedText:
        """Return fields as JSON text, as compact as Intel's, signed by the TCB signing key."""
        text = json.dumps(fields, separators=(",", ":"))
        return SignedText(text, p256_sign(self.tcb_signing.signing_key, text.encode()))

    def collateral(self, now: datetime) -> dict[str, str]:
        """Return what a verifier needs beside a quote, issued now: texts, binary ones in hex."""
        tcb_info = self.sign(self.tcb_info(now))
        qe_identity = self.sign(self.qe_identity(now))
        signing_chain = pem(self.tcb_signing.chain())
        return {
            "pck_crl_issuer_chain": pem(self.authorities[self.ca].chain()),
            "root_ca_crl": self.root_crl(now).hex(),
            "pck_crl": self.pck_crl(now).hex(),
            "tcb_info_issuer_chain": signing_chain,
            "tcb_info": tcb_info.text,
            "tcb_info_signature": tcb_info.signature.hex(),
            "qe_identity_issuer_chain": signing_chain,
            "qe_identity": qe_identity.text,
            "qe_identity_signature": qe_identity.signature.hex(),
        }

    def _crl(
        self,
        issuer: Certified,
        now: datetime,
        valid: timedelta,
        concerns: Callable[[int], bool],
    ) -> bytes:
        """Return an issuer's CRL; its number rises with every revocation."""
        revoked = {s: since for s, since in self.ledger.revoked.items() if concerns(s)}
        number = 1 + len(self.ledger.revoked)
        return revocation_list(issuer, revoked, number=number, issued=now, valid=valid)
