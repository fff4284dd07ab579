# SPDX-License-Identifier: Apache-2.0
"""A client of the platform service that wants quotes: of its enclaves, or of anybody's here."""

import socket
import threading
from collections.abc import Callable

from ensconce.dcap.keyid import VENDOR_QE_KEY, ecdsa_key_id
from ensconce.errors import VerificationError
from ensconce.isa.report import Report, TargetInfo
from ensconce.platform.quoting import Quoter
from ensconce.platform.roles import QE_MR_SIGNER, QE_PROD_ID
from ensconce.platform.wire import QUOTE_REPLY, QUOTER, QuoteRequest, QuoteStatus, QuoteTopic

__all__ = ["Quoting"]


class Quoting:
    """Answers requests for quotes with a quoting role, made when it is first asked for.

    The role must be that of the processor that the service's enclaves run on: their REPORTs are
    good for no other.
    """

    def __init__(self, make: Callable[[], Quoter]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._quoter: Quoter | None = None

    def serve(self, connection: socket.socket, deadline: float) -> None:
        """Answer requests until the client is gone, or silent for `deadline` seconds.

        Raises ProtocolError for a message that is no request, and OSError.
        """
        connection.settimeout(deadline)
        while message := connection.recv(QuoteRequest.SIZE + 1):
            request = QuoteRequest.parse(message)
            status, content = self.answer(request)
            connection.send(QUOTE_REPLY.pack(request.topic, status, len(content)) + content)

    def answer(self, request: QuoteRequest) -> tuple[QuoteStatus, bytes]:
        """Do what is asked for; return how it went and what the client gets."""
        with self._lock:
            quoter = self._quoter = self._quoter or self._make()
        if request.topic is QuoteTopic.DESCRIBE:
            return QuoteStatus.DONE, _describe(quoter)
        report = Report.parse(request.report)
        try:
            if request.topic is QuoteTopic.QUOTE:
                return QuoteStatus.DONE, quoter.quote(report)
            target = TargetInfo.parse(request.target)
            quote, proof = quoter.quote_and_prove(report, request.nonce, target)
        except VerificationError:
            return QuoteStatus.BAD_REPORT, b""
        return QuoteStatus.DONE, bytes(proof) + quote


def _describe(quoter: Quoter) -> bytes:
    """Say what a client must know to ask for a quote, and who it says the key is.

    Clients have the vendor's key id built in, so that names our key too; the quote says whose it
    really is.
    """
    return QUOTER.pack(
        bytes(ecdsa_key_id(QE_MR_SIGNER, QE_PROD_ID)),
        bytes(VENDOR_QE_KEY),
        bytes(quoter.target_info),
        quoter.key_id,
        quoter.size(),
    )
