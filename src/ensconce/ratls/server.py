# SPDX-License-Identifier: Apache-2.0
"""The server's side: a context whose certificates carry evidence."""

import logging
import ssl

from ensconce.errors import EnsconceError
from ensconce.ratls.credential import Credential
from ensconce.ratls.freshness import nonce_in

__all__ = ["server_context"]

_log = logging.getLogger(__name__)


def server_context(credential: Credential, *, fresh: bool = True) -> ssl.SSLContext:
    """Return a context for servers, for TLS 1.3, that shows a credential's certificates.

    A client that asks with a nonce gets a quote made for it, one at a time; with `fresh` off it
    gets the certificate that is kept, and will refuse it. There is no session resumption: each
    handshake proves the key anew. Clients are not asked for certificates.
    """
    context = _context(credential, None)

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        """Show the certificate for this connection; an alert where it can't be made."""
        try:
            nonce = nonce_in(name) if fresh else None
            connection.context = _context(credential, nonce)
        except (EnsconceError, OSError) as error:
            _log.error("event=quote_failed reason=%r", str(error))
            return int(ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR)
        return None

    context.sni_callback = choose  # it is called for clients that send no name, too
    return context


def _context(credential: Credential, nonce: bytes | None) -> ssl.SSLContext:
    """Return a context with the certificate for a nonce, or the kept one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    credential.load_into(context, credential.certificate(nonce))
    return context
