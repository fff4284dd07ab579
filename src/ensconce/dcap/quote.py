# SPDX-License-Identifier: Apache-2.0
"""ECDSA quotes: version 3 (SGX), 4 (SGX, TDX 1.0) and 5 (SGX, TDX 1.0 and 1.5).

Sources: Intel SGX ECDSA QuoteLibReference, appendix A; Intel TDX DCAP Quoting Library, appendix 3.
A quote is bytes that somebody signed: parts that signatures cover are kept as they came, and
`header`, `body` and `qe_report_body` are views of them. Nothing here judges; `verify` does.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Self

from ensconce.dcap.cursor import Cursor
from ensconce.errors import FormatError
from ensconce.isa.record import U16, U32, BytesLike, Record, Unsigned, record
from ensconce.isa.report import ReportBody

__all__ = [
    "INTEL_QE_VENDOR",
    "MAX_QUOTE_SIZE",
    "BodyKind",
    "Certification",
    "CertificationKind",
    "Quote",
    "QuoteHeader",
    "TdReport",
    "TdReport15",
    "TeeType",
    "signed_part",
]

MAX_QUOTE_SIZE = 1 << 17
"""Larger inputs are refused: a quote with a PCK chain has about 5 KB, with a manifest 60 KB."""

INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
ECDSA_P256 = 2
_VERSIONS = (3, 4, 5)
_SIGNATURE = 64


class TeeType(IntEnum):
    """Which kind of enclave a quote is about; version 3 has no such field and zeros there."""

    SGX = 0
    TDX = 0x81


class BodyKind(IntEnum):
    """The body types of version 5."""

    SGX = 1
    TDX_10 = 2
    TDX_15 = 3


class CertificationKind(IntEnum):
    """What says which PCK certificate signs for the quoting enclave (QuoteLibReference A.4)."""

    PPID = 1
    PPID_RSA2048 = 2
    PPID_RSA3072 = 3
    PCK_LEAF = 4
    PCK_CHAIN = 5
    QE_REPORT = 6
    PLATFORM_MANIFEST = 7


_TEE_TYPES = frozenset(map(int, TeeType))
_CERTIFICATION_KINDS = frozenset(map(int, CertificationKind))


@record(48)
class QuoteHeader(Record):
    """The header of a quote; in version 3 `tee_type` is reserved and zero."""

    version: U16 = 3
    att_key_type: U16 = ECDSA_P256
    tee_type: U32 = TeeType.SGX
    qe_svn: U16 = 0
    pce_svn: U16 = 0
    qe_vendor_id: Annotated[bytes, 16] = INTEL_QE_VENDOR
    user_data: Annotated[bytes, 20] = bytes(20)


@record(584)
class TdReport(Record):
    """The body of a TDX 1.0 quote."""

    tee_tcb_svn: Annotated[bytes, 16] = bytes(16)
    mr_seam: Annotated[bytes, 48] = bytes(48)
    mr_signer_seam: Annotated[bytes, 48] = bytes(48)
    seam_attributes: Annotated[int, Unsigned(8)] = 0
    td_attributes: Annotated[int, Unsigned(8)] = 0
    xfam: Annotated[int, Unsigned(8)] = 0
    mr_td: Annotated[bytes, 48] = bytes(48)
    mr_config_id: Annotated[bytes, 48] = bytes(48)
    mr_owner: Annotated[bytes, 48] = bytes(48)
    mr_owner_config: Annotated[bytes, 48] = bytes(48)
    rtmr0: Annotated[bytes, 48] = bytes(48)
    rtmr1: Annotated[bytes, 48] = bytes(48)
    rtmr2: Annotated[bytes, 48] = bytes(48)
    rtmr3: Annotated[bytes, 48] = bytes(48)
    report_data: Annotated[bytes, 64] = bytes(64)


@record(648)
class TdReport15(Record):
    """The body of a TDX 1.5 quote: that of 1.0 with two fields after it."""

    td: TdReport = TdReport()
    tee_tcb_svn2: Annotated[bytes, 16] = bytes(16)
    mr_service_td: Annotated[bytes, 48] = bytes(48)


Body = ReportBody | TdReport | TdReport15

_BODIES: dict[int, type[ReportBody] | type[TdReport] | type[TdReport15]] = {
    BodyKind.SGX: ReportBody,
    BodyKind.TDX_10: TdReport,
    BodyKind.TDX_15: TdReport15,
}
_KIND_OF: dict[type[Record], BodyKind] = {body: BodyKind(kind) for kind, body in _BODIES.items()}


@dataclass(frozen=True, slots=True)
class Certification:
    """Certification data: its kind and its bytes, which nothing but the chain vouches for."""

    kind: CertificationKind
    data: bytes

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Return the certification data at a cursor."""
        number = cursor.u16("the type of certification data")
        if number not in _CERTIFICATION_KINDS:
            raise FormatError(
                f"the quote has certification data of type {number}; types 1 to 7 are known",
                source="quote",
                offset=cursor.offset - 2,
            )
        size = cursor.u32("the size of certification data")
        return cls(CertificationKind(number), cursor.take(size, "certification data"))

    def __bytes__(self) -> bytes:
        return _sized(self.kind, self.data)


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote taken apart; `bytes(quote)` is exactly what was parsed.

    `signed` is header and body, which `signature` covers under `attestation_key` (both P-256,
    64 bytes, big-endian halves). `qe_report` is the quoting enclave's REPORT body, which
    `qe_report_signature` covers under the PCK; its report data binds key and `qe_auth_data`.
    """

    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification: Certification

    @classmethod
    def parse(cls, data: BytesLike) -> Self:
        """Return the quote in exactly these bytes; FormatError if they are no known quote."""
        if len(data) > MAX_QUOTE_SIZE:
            raise FormatError(
                f"the quote has {len(data)} bytes, more than the {MAX_QUOTE_SIZE} a quote may have",
                source="quote",
            )
        cursor = Cursor(data, "quote")
        header = cursor.record(QuoteHeader)
        cursor.take(_body_kind(header, cursor)[1], "the body")
        signed = bytes(data[: cursor.offset])
        tail = Cursor(cursor.take(cursor.u32("the size of the signature"), "signature"), "quote")
        cursor.finish("the quote")
        signature = tail.take(_SIGNATURE, "the signature")
        key = tail.take(_SIGNATURE, "the attestation key")
        qe = tail if header.version == 3 else _nested(tail)
        quote = cls(
            signed,
            signature,
            key,
            qe.take(ReportBody.SIZE, "the QE report"),
            qe.take(_SIGNATURE, "the QE report's signature"),
            qe.take(qe.u16("the size of QE authentication data"), "QE authentication data"),
            Certification.read(qe),
        )
        qe.finish("the certification data")
        if quote.certification.kind is CertificationKind.QE_REPORT:
            raise FormatError("the quote nests QE report certification data twice", source="quote")
        return quote

    def __bytes__(self) -> bytes:
        auth = len(self.qe_auth_data).to_bytes(2, "little") + self.qe_auth_data
        qe = self.qe_report + self.qe_report_signature + auth + bytes(self.certification)
        if self.header.version > 3:
            qe = _sized(CertificationKind.QE_REPORT, qe)
        tail = self.signature + self.attestation_key + qe
        return self.signed + len(tail).to_bytes(4, "little") + tail

    @property
    def header(self) -> QuoteHeader:
        """The header."""
        return QuoteHeader.parse(self.signed[: QuoteHeader.SIZE])

    @property
    def body(self) -> Body:
        """What the quote says of the enclave or the trust domain."""
        cursor = Cursor(self.signed, "quote")
        kind, _ = _body_kind(cursor.record(QuoteHeader), cursor)
        return cursor.record(_BODIES[kind])

    @property
    def qe_report_body(self) -> ReportBody:
        """The quoting enclave's REPORT body."""
        return ReportBody.parse(self.qe_report)


def signed_part(header: QuoteHeader, body: Body) -> bytes:
    """Return what an attestation key signs: header, in version 5 the body's type and size, body."""
    kind = _KIND_OF[type(body)]
    size = body.SIZE.to_bytes(4, "little")
    descriptor = int(kind).to_bytes(2, "little") + size if header.version == 5 else b""
    return bytes(header) + descriptor + bytes(body)


def _body_kind(header: QuoteHeader, cursor: Cursor) -> tuple[BodyKind, int]:
    """Return the kind and size of the body that follows the header, where they are possible."""
    if header.version not in _VERSIONS:
        raise FormatError(
            f"the quote has version {header.version}; 3, 4 and 5 are known", source="quote"
        )
    if header.att_key_type != ECDSA_P256:
        raise FormatError(
            f"the quote has attestation key type {header.att_key_type}; only 2 (ECDSA on P-256) "
            "is known, for EPID has ended",
            source="quote",
            offset=2,
        )
    if header.tee_type not in _TEE_TYPES or (header.version == 3 and header.tee_type):
        raise FormatError(
            f"the quote has version {header.version} and TEE type {header.tee_type:#x}; "
            "0 is SGX, and from version 4 on 0x81 is TDX",
            source="quote",
            offset=4,
        )
    sgx = header.tee_type == TeeType.SGX
    if header.version < 5:
        kind = BodyKind.SGX if sgx else BodyKind.TDX_10
        return kind, _BODIES[kind].SIZE
    number, size = cursor.u16("the body's type"), cursor.u32("the body's size")
    if number not in _BODIES or (number == BodyKind.SGX) is not sgx:
        raise FormatError(
            f"the quote has body type {number} and TEE type {header.tee_type:#x}; "
            "1 is SGX, 2 and 3 are TDX 1.0 and 1.5",
            source="quote",
            offset=QuoteHeader.SIZE,
        )
    if size != _BODIES[number].SIZE:
        raise FormatError(
            f"the quote has a body of {size} bytes where type {number} takes "
            f"{_BODIES[number].SIZE}",
            source="quote",
            offset=QuoteHeader.SIZE + 2,
        )
    return BodyKind(number), size


def _nested(tail: Cursor) -> Cursor:
    """Return the contents of type 6, which versions 4 and 5 wrap the QE report in."""
    outer = Certification.read(tail)
    tail.finish("the signature data")
    if outer.kind is not CertificationKind.QE_REPORT:
        raise FormatError(
            f"the quote has certification data of type {int(outer.kind)} where its version takes "
            "type 6 with the QE report in it",
            source="quote",
        )
    return Cursor(outer.data, "quote")


def _sized(kind: CertificationKind, data: bytes) -> bytes:
    """Return data with its type and size in front."""
    return int(kind).to_bytes(2, "little") + len(data).to_bytes(4, "little") + data
