# SPDX-License-Identifier: Apache-2.0
"""What makes quotes for the service: the emulated platform's quoting role, or a library.

This is the seam. `answers` knows the protocol and no platform; a backend knows its platform and
no protocol, beyond the codes that it refuses with.
"""

from typing import Protocol

from ensconce.aesm.keyid import QeReportInfo
from ensconce.dcap.keyid import KeyId
from ensconce.isa.report import Report, TargetInfo

__all__ = ["Backend"]


class Backend(Protocol):
    """A quoting enclave with one attestation key; every method may raise Refusal."""

    @property
    def name(self) -> str:
        """`emulated` or `hardware`."""

    @property
    def slow(self) -> bool:
        """Whether a call may take longer than a millisecond, and so gets a thread."""

    def key_ids(self) -> tuple[KeyId, ...]:
        """Return the ids of the attestation keys, as the service offers them."""

    def also_known_as(self) -> tuple[KeyId, ...]:
        """Return ids that are not offered and that clients may ask by all the same."""

    def target_info(self) -> tuple[TargetInfo, bytes]:
        """Certify the attestation key; return the QE's target info and the key's 32-byte id."""

    def quote_size(self) -> int:
        """Return how many bytes a quote has."""

    def quote(self, report: Report, info: QeReportInfo | None) -> tuple[bytes, Report | None]:
        """Return the quote of a REPORT and, where `info` asks for it, the QE's REPORT on it."""
