# SPDX-License-Identifier: Apache-2.0
"""A server that verifies its clients too, as standard mutual TLS; needs the `ratls` extra.

Python's ssl accepts no client certificate that a known CA did not sign, and RA-TLS certificates
are self-signed. So this server runs on pyOpenSSL, whose clients may be any: this project's
(`client_context` with a credential), Gramine's, the SDK's. OpenSSL proves that the client holds its
certificate's key; who that is, the verifier says, before the first byte is read or written.

A client can't be given a nonce in TLS, so its evidence may be as old as certificate and policy
allow; TLS still proves its key anew for each connection.
"""

import logging
import select
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from cryptography.x509 import load_der_x509_certificate
from OpenSSL import SSL, crypto

from ensconce.dcap.ratls import Appraisal
from ensconce.errors import EnsconceError
from ensconce.ratls.client import PeerRefused
from ensconce.ratls.credential import Credential
from ensconce.ratls.freshness import nonce_in
from ensconce.ratls.verifier import Verifier

__all__ = ["AttestedConnection", "MutualServer"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class MutualServer:
    """Accepts connections of clients that prove what a verifier wants, and proves itself."""

    def __init__(self, credential: Credential, verifier: Verifier) -> None:
        self._credential = credential
        self._verifier = verifier

    def accept(self, plain: socket.socket, *, timeout: float = 30.0) -> "AttestedConnection":
        """Return a connected socket as a connection whose client is verified, and now owns it.

        PeerRefused if the client is not, SSLError if the handshake fails, TimeoutError if that
        takes longer; the socket is closed then. `timeout` also limits each later read and write.
        """
        plain.settimeout(0)
        connection = SSL.Connection(self._context(None), plain)
        connection.set_accept_state()
        stream = _Stream(connection, plain, timeout)
        try:
            stream.run(connection.do_handshake)
            shown = connection.get_peer_certificate()
            der = crypto.dump_certificate(crypto.FILETYPE_ASN1, shown) if shown else None
            return AttestedConnection(stream, self._verifier.verify(der))
        except EnsconceError as error:
            plain.close()
            raise PeerRefused(str(error)) from error
        except BaseException:
            plain.close()
            raise

    def _context(self, nonce: bytes | None) -> SSL.Context:
        """Return a context with the certificate for a nonce, or the kept one; none is resumed."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.use_privatekey(self._credential.private_key)
        der = self._credential.certificate(nonce)
        context.use_certificate(load_der_x509_certificate(der))
        # the chain is one certificate, which `accept` verifies; here it only has to be there
        demand = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(demand, lambda _tls, _certificate, _error, depth, _ok: depth == 0)
        context.set_tlsext_servername_callback(self._choose)
        return context

    def _choose(self, connection: SSL.Connection) -> None:
        """Show a certificate for the client's nonce, the kept one if that can't be made."""
        nonce = nonce_in((connection.get_servername() or b"").decode("ascii", "replace"))
        if nonce is not None:
            try:
                connection.set_context(self._context(nonce))
            except (EnsconceError, OSError, SSL.Error) as error:
                _log.error("event=quote_failed reason=%r", str(error))


class _Stream:
    """TLS over a socket that does not block, with a limit on waiting."""

    def __init__(self, tls: SSL.Connection, plain: socket.socket, timeout: float) -> None:
        self.tls = tls
        self.plain = plain
        self._timeout = timeout

    def run(self, action: Callable[[], _T]) -> _T:
        """Return what an action returns once the socket has let it through."""
        reading: tuple[socket.socket, ...]
        writing: tuple[socket.socket, ...]
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return action()
            except SSL.WantReadError:
                reading, writing = (self.plain,), ()
            except SSL.WantWriteError:
                reading, writing = (), (self.plain,)
            except SSL.ZeroReturnError:
                raise
            except SSL.Error as error:
                raise ssl.SSLError(f"TLS failed: {error}") from error
            left = deadline - time.monotonic()
            if left <= 0 or not any(select.select(reading, writing, (), left)):
                raise TimeoutError("the peer takes too long")


class AttestedConnection:
    """A connection whose client is verified; `appraisal` is what it proved."""

    def __init__(self, stream: _Stream, appraisal: Appraisal) -> None:
        self._stream = stream
        self.appraisal = appraisal

    def recv(self, size: int) -> bytes:
        """Return up to so many bytes, none if the client has ended TLS."""
        try:
            return self._stream.run(lambda: self._stream.tls.recv(size))
        except SSL.ZeroReturnError:
            return b""

    def sendall(self, data: bytes) -> None:
        """Send all of the data."""
        while data:
            part = data
            sent = self._stream.run(lambda: self._stream.tls.send(part))  # noqa: B023  # run at once
            data = data[sent:]

    def close(self) -> None:
        """End TLS and the connection."""
        try:
            self._stream.tls.shutdown()
        except SSL.Error:
            pass  # the client is gone already
        finally:
            self._stream.plain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
