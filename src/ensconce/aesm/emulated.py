# SPDX-License-Identifier: Apache-2.0
"""Quotes of the emulated platform, whose identity may change while the service runs."""

import os
from pathlib import Path

from ensconce.aesm.codes import Code, Refusal
from ensconce.aesm.keyid import QeReportInfo
from ensconce.dcap.keyid import VENDOR_QE_KEY, KeyId, ecdsa_key_id
from ensconce.errors import EnsconceError, VerificationError
from ensconce.isa.report import Report, TargetInfo
from ensconce.machine import identity
from ensconce.platform.quoting import EmulatedPlatform, Quoter
from ensconce.platform.roles import QE_MR_SIGNER, QE_PROD_ID

__all__ = ["EmulatedBackend"]

_OWN_KEY = ecdsa_key_id(QE_MR_SIGNER, QE_PROD_ID)


class EmulatedBackend:
    """The quoting role of the platform whose identity lies at a path; made if missing.

    A TCB recovery (`ensconce platform recover`) takes effect with the next request.
    """

    name = "emulated"
    slow = False

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or identity.default_path()
        self._quoter = EmulatedPlatform.load(self._path).quoter
        self._size = self._quoter.size()
        self._seen = self._stamp()

    def key_ids(self) -> tuple[KeyId, ...]:
        """Return the platform's own key; see `Backend`."""
        return (_OWN_KEY,)

    def also_known_as(self) -> tuple[KeyId, ...]:
        """Return the vendor's key id: clients have it built in. The quote says whose it is."""
        return (VENDOR_QE_KEY,)

    def target_info(self) -> tuple[TargetInfo, bytes]:
        """Return the role's target info and its key's id; see `Backend`."""
        quoter = self._current()
        return quoter.target_info, quoter.key_id

    def quote_size(self) -> int:
        """Return a quote's size; see `Backend`."""
        self._current()
        return self._size

    def quote(self, report: Report, info: QeReportInfo | None) -> tuple[bytes, Report | None]:
        """Make a quote; see `Backend`."""
        quoter = self._current()
        try:
            if info is None:
                return quoter.quote(report), None
            return quoter.quote_and_prove(report, info.nonce, info.target)
        except VerificationError as error:
            raise Refusal(Code.INVALID_REPORT) from error

    def _current(self) -> Quoter:
        """Return the quoting role at the platform's present TCB."""
        seen = self._stamp()
        if seen != self._seen:
            try:
                self._quoter = EmulatedPlatform.load(self._path).quoter
            except (EnsconceError, OSError) as error:
                raise Refusal(Code.SERVICE_UNAVAILABLE, f"the platform: {error}") from error
            self._size, self._seen = self._quoter.size(), seen
        return self._quoter

    def _stamp(self) -> tuple[int, ...]:
        """Return what differs when the identity's file is another one."""
        try:
            status = os.stat(self._path)  # noqa: PTH116 # on the path of every request
        except FileNotFoundError:
            raise Refusal(
                Code.SERVICE_UNAVAILABLE,
                f"{self._path}, the platform's identity, is gone; put it back and ask again",
            ) from None
        return status.st_ino, status.st_mtime_ns, status.st_size
