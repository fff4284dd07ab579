# SPDX-License-Identifier: Apache-2.0
"""What verification answers: a verdict with its reason, never a string to compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import MappingProxyType

from ensconce.dcap.pck import PckExtension
from ensconce.dcap.quote import Quote, TeeType
from ensconce.dcap.roots import Root
from ensconce.errors import VerificationError

__all__ = ["ADVICE", "Claims", "Reason", "Refusal", "TcbStatus", "Verdict"]


class TcbStatus(Enum):
    """A TCB status, spelled as Intel's TCB info spells it."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    REVOKED = "Revoked"


class Reason(Enum):
    """Why a quote is genuine or refused; the values are stable codes."""

    GENUINE = "genuine"
    ROOT_NOT_TRUSTED = "root_not_trusted"
    CHAIN_INCOMPLETE = "chain_incomplete"
    CERTIFICATE_SIGNATURE = "certificate_signature"
    CERTIFICATE_VALIDITY = "certificate_validity"
    CERTIFICATE_REVOKED = "certificate_revoked"
    CERTIFICATE_ROLE = "certificate_role"
    CRL_ISSUER = "crl_issuer"
    CRL_VALIDITY = "crl_validity"
    CRL_UNKNOWN_EXTENSION = "crl_unknown_extension"
    TCB_INFO_SIGNATURE = "tcb_info_signature"
    TCB_INFO_VALIDITY = "tcb_info_validity"
    QE_IDENTITY_SIGNATURE = "qe_identity_signature"
    QE_IDENTITY_VALIDITY = "qe_identity_validity"
    EVALUATION_NUMBERS_DIFFER = "evaluation_numbers_differ"
    COLLATERAL_ROLLED_BACK = "collateral_rolled_back"
    COLLATERAL_VALIDITY = "collateral_validity"
    PCK_CHAIN_MISSING = "pck_chain_missing"
    PCK_CA_DIFFERS = "pck_ca_differs"
    PCK_REVOKED = "pck_revoked"
    PLATFORM_DIFFERS = "platform_differs"
    TCB_INFO_TEE = "tcb_info_tee"
    FMSPC_DIFFERS = "fmspc_differs"
    PCE_ID_DIFFERS = "pce_id_differs"
    QE_VENDOR = "qe_vendor"
    QE_REPORT_SIGNATURE = "qe_report_signature"
    QE_REPORT_DATA = "qe_report_data"
    QE_IDENTITY_TEE = "qe_identity_tee"
    QE_DEBUG = "qe_debug"
    QE_MR_SIGNER = "qe_mr_signer"
    QE_ISV_PROD_ID = "qe_isv_prod_id"
    QE_MISC_SELECT = "qe_misc_select"
    QE_ATTRIBUTES = "qe_attributes"
    QE_LEVEL_NOT_FOUND = "qe_level_not_found"
    QE_REVOKED = "qe_revoked"
    ATTESTATION_KEY = "attestation_key"
    QUOTE_SIGNATURE = "quote_signature"
    TDX_MODULE_UNKNOWN = "tdx_module_unknown"
    TDX_MODULE_MR_SIGNER = "tdx_module_mr_signer"
    TDX_MODULE_ATTRIBUTES = "tdx_module_attributes"
    TDX_MODULE_LEVEL_NOT_FOUND = "tdx_module_level_not_found"
    TCB_LEVEL_NOT_FOUND = "tcb_level_not_found"
    TCB_REVOKED = "tcb_revoked"


_FETCH = "fetch the collateral anew from a PCCS, as one set, and check this machine's clock"
_FORGED = "treat the quote as forged or damaged; ask the platform for a new one"
_TEE = "fetch the collateral for the quote's kind of TEE"
_PLATFORM = "fetch the collateral for this platform's FMSPC"
_TAMPERED = "fetch the collateral anew; do not re-format its JSON, for signatures cover every byte"
_MODULE = "update the platform's TDX module, or fetch newer collateral that knows it"

ADVICE: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.GENUINE: "",
        Reason.ROOT_NOT_TRUSTED: "name the right root; a quote of the emulated platform needs its "
        "own root, named in the policy",
        Reason.CHAIN_INCOMPLETE: _FETCH,
        Reason.CERTIFICATE_SIGNATURE: _FORGED,
        Reason.CERTIFICATE_VALIDITY: _FETCH,
        Reason.CERTIFICATE_REVOKED: "stop trusting what this certificate signed",
        Reason.CERTIFICATE_ROLE: _FORGED,
        Reason.CRL_ISSUER: "fetch the CRL of the CA that issued this platform's PCK certificate "
        "(processor or platform)",
        Reason.CRL_VALIDITY: _FETCH,
        Reason.CRL_UNKNOWN_EXTENSION: "fetch a complete CRL, not a partial one",
        Reason.TCB_INFO_SIGNATURE: _TAMPERED,
        Reason.TCB_INFO_VALIDITY: _FETCH,
        Reason.QE_IDENTITY_SIGNATURE: _TAMPERED,
        Reason.QE_IDENTITY_VALIDITY: _FETCH,
        Reason.EVALUATION_NUMBERS_DIFFER: _FETCH,
        Reason.COLLATERAL_ROLLED_BACK: "somebody serves old collateral: fetch it from a source "
        "that has the newest, or reset the kept numbers if that is meant",
        Reason.COLLATERAL_VALIDITY: _FETCH,
        Reason.PCK_CHAIN_MISSING: "give the PCK certificate chain with the collateral "
        "(pck_certificate_chain), for the quote does not carry it",
        Reason.PCK_CA_DIFFERS: "fetch the collateral for the CA that issued this platform's PCK "
        "certificate (processor or platform)",
        Reason.PCK_REVOKED: "stop trusting this platform: its key was revoked",
        Reason.PLATFORM_DIFFERS: "give the PCK certificate of the platform that made the quote",
        Reason.TCB_INFO_TEE: _TEE,
        Reason.FMSPC_DIFFERS: _PLATFORM,
        Reason.PCE_ID_DIFFERS: _PLATFORM,
        Reason.QE_VENDOR: "use a quote of Intel's quoting enclave",
        Reason.QE_REPORT_SIGNATURE: _FORGED,
        Reason.QE_REPORT_DATA: _FORGED,
        Reason.QE_IDENTITY_TEE: _TEE,
        Reason.QE_DEBUG: "refuse the platform: anybody can read a debug enclave's keys",
        Reason.QE_MR_SIGNER: "use a quote of Intel's quoting enclave",
        Reason.QE_ISV_PROD_ID: "use a quote of Intel's quoting enclave",
        Reason.QE_MISC_SELECT: "use a quote of Intel's quoting enclave",
        Reason.QE_ATTRIBUTES: "use a quote of Intel's quoting enclave",
        Reason.QE_LEVEL_NOT_FOUND: "update the platform's quoting enclave",
        Reason.QE_REVOKED: "update the platform's quoting enclave",
        Reason.ATTESTATION_KEY: _FORGED,
        Reason.QUOTE_SIGNATURE: _FORGED,
        Reason.TDX_MODULE_UNKNOWN: _MODULE,
        Reason.TDX_MODULE_MR_SIGNER: _MODULE,
        Reason.TDX_MODULE_ATTRIBUTES: _MODULE,
        Reason.TDX_MODULE_LEVEL_NOT_FOUND: _MODULE,
        Reason.TCB_LEVEL_NOT_FOUND: "update the platform's BIOS and microcode: it is below every "
        "TCB level that Intel knows",
        Reason.TCB_REVOKED: "update the platform's BIOS and microcode; its TCB was revoked",
    }
)


class Refusal(VerificationError):
    """A step of verification failed; `verify` turns it into a verdict.

    `step` is the number in `verify`'s text, `value` what was found there.
    """

    def __init__(self, step: int, reason: Reason, value: str) -> None:
        super().__init__(f"step {step}, {reason.value}: {value}; {ADVICE[reason]}")
        self.step = step
        self.reason = reason
        self.value = value


@dataclass(frozen=True, slots=True)
class Claims:
    """What a genuine quote proves at the time it was verified."""

    quote: Quote
    pck: PckExtension
    root: Root
    tcb_status: TcbStatus
    advisory_ids: tuple[str, ...]
    tcb_date: datetime
    tcb_evaluation_data_number: int
    verified_at: datetime

    @property
    def tee(self) -> TeeType:
        """SGX or TDX."""
        return TeeType(self.quote.header.tee_type)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a quote is genuine, and the full story.

    `tcb_status` is platform and QE taken together; the two are beside it. A status is None where
    verification ended before it was known. `claims` are there only if the quote is genuine: a
    genuine quote may still be out of date, in debug mode or of another enclave, which `validate`
    compares with a policy. `expires` is when the collateral or a certificate first does.
    """

    reason: Reason
    step: int
    value: str = ""
    tcb_status: TcbStatus | None = None
    platform_tcb_status: TcbStatus | None = None
    qe_status: TcbStatus | None = None
    advisory_ids: tuple[str, ...] = ()
    expires: datetime | None = None
    claims: Claims | None = None

    @property
    def genuine(self) -> bool:
        """Whether a platform that the root certifies, and nobody revoked, made the quote."""
        return self.reason is Reason.GENUINE

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.reason]

    def require(self) -> Claims:
        """Return the claims of a genuine quote, or raise the refusal."""
        if self.claims is None:
            raise Refusal(self.step, self.reason, self.value)
        return self.claims

    def __bool__(self) -> bool:
        raise TypeError("ask a verdict for .genuine, and validate its claims")
