# SPDX-License-Identifier: Apache-2.0
"""The client's side: a context whose connections carry no byte before the server is verified.

Python's ssl module can't be called back in the middle of a handshake. So the certificate is
verified at its end, within `do_handshake`, and the connection closed if it is refused; until then
reading and writing raise, also where a handshake would happen on the way. The server may have
sent something by then; nobody gets to see it.

What OpenSSL knows of trust is switched off, for certificates are self-signed and the evidence in
them is all the trust there is. It is not missed: a context of this class has no connections
other than verified ones, whatever its other settings.
"""

import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any, Self

from ensconce.dcap.ratls import Appraisal
from ensconce.errors import EnsconceError, VerificationError
from ensconce.ratls.credential import Credential
from ensconce.ratls.freshness import new_name, nonce_in
from ensconce.ratls.verifier import Verifier

__all__ = ["AttestedObject", "AttestedSocket", "PeerRefused", "appraisal_of", "client_context"]

_CARRYING = (
    *("read", "write", "recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg"),
    *("recvmsg_into", "send", "sendall", "sendfile", "sendmsg", "sendto"),
)


class PeerRefused(VerificationError, ssl.SSLError):
    """A peer did not prove what was wanted of it; the connection is closed.

    It is an SSLError too, so that whatever handles failed handshakes handles this one.
    """

    def __str__(self) -> str:
        return str(self.args[0])


class _ClientContext(ssl.SSLContext):
    """A context whose sockets and objects verify the server."""

    _verifier: Verifier
    _credential: Credential | None
    _certificate: bytes | None
    _fresh: bool

    def __new__(cls, verifier: Verifier, credential: Credential | None, fresh: bool) -> Self:
        """Return a context for TLS 1.3, whose version before has weaker bindings."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context._verifier, context._fresh = verifier, fresh
        context._credential, context._certificate = credential, None
        return context

    def appraise(self, connection: ssl.SSLObject | ssl.SSLSocket) -> Appraisal:
        """Return the appraisal of a connection's server after the handshake."""
        if connection.version() != "TLSv1.3":
            raise VerificationError("the connection is not TLS 1.3")
        nonce = nonce_in(connection.server_hostname)
        if self._fresh and nonce is None:
            raise VerificationError("the connection asked for no nonce")
        return self._verifier.verify(connection.getpeercert(binary_form=True), nonce)

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,  # sessions are never resumed
    ) -> ssl.SSLSocket:
        """Return a socket to a server that is verified when its handshake ends."""
        return super().wrap_socket(
            sock,
            self._client(server_side),
            do_handshake_on_connect,
            suppress_ragged_eofs,
            self._name(server_hostname),
        )

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,  # sessions are never resumed
    ) -> ssl.SSLObject:
        """Return a connection to a server that is verified when its handshake ends."""
        name = self._name(server_hostname)
        return super().wrap_bio(incoming, outgoing, self._client(server_side), name)

    def _client(self, server_side: bool) -> bool:
        """Refuse to be a server; have the credential's present certificate shown."""
        if server_side:
            raise ValueError("this context is for clients; use server_context")
        if self._credential is not None:
            certificate = self._credential.certificate()
            if certificate != self._certificate:
                self._credential.load_into(self, certificate)
                self._certificate = certificate
        return False

    def _name(self, wanted: str | bytes | None) -> str | bytes | None:
        """Return the server name to ask for."""
        return new_name() if self._fresh else wanted


class AttestedSocket(ssl.SSLSocket):
    """A socket over which nothing is read or written unless the server is verified."""

    _appraisal: Appraisal | None = None

    def do_handshake(self, block: bool = False) -> None:
        """Finish the handshake and verify the server; PeerRefused if it is not accepted."""
        super().do_handshake(block)
        try:
            self._appraisal = _appraised(self)
        except BaseException:
            self.close()
            raise

    def unwrap(self) -> socket.socket:
        """End TLS; what follows on the returned socket is nobody's word."""
        self._appraisal = None
        return super().unwrap()

    def shutdown(self, how: int) -> None:
        """End TLS; Python would read and write in the clear after it."""
        self._appraisal = None
        super().shutdown(how)


class AttestedObject(ssl.SSLObject):
    """The same over memory, as asyncio uses it."""

    _appraisal: Appraisal | None = None

    def do_handshake(self) -> None:
        """Finish the handshake and verify the server; PeerRefused if it is not accepted."""
        super().do_handshake()
        self._appraisal = _appraised(self)


_ClientContext.sslsocket_class = AttestedSocket
_ClientContext.sslobject_class = AttestedObject


def client_context(
    verifier: Verifier, *, credential: Credential | None = None, fresh: bool = True
) -> ssl.SSLContext:
    """Return a context whose connections are to verified servers only, over TLS 1.3.

    With `fresh` each connection asks the server with a nonce of its own for a new quote, in place
    of a server name; servers that don't know of this are refused. Without it any RA-TLS server
    is taken, and its evidence may be as old as certificate and collateral allow. `credential` is
    what this side proves itself with, to servers that ask. Certificates are for no host name: it
    does not matter where the enclave is.
    """
    return _ClientContext(verifier, credential, fresh)


def appraisal_of(connection: object) -> Appraisal:
    """Return what the server of a connection proved; VerificationError before the handshake."""
    found = None
    if isinstance(connection, AttestedSocket | AttestedObject):
        found = connection._appraisal
    if found is None:
        raise VerificationError("the connection's peer is not verified")
    return found


def _appraised(connection: AttestedSocket | AttestedObject) -> Appraisal:
    """Return the appraisal of a server that is accepted, or raise PeerRefused."""
    try:
        context = connection.context
        if not isinstance(context, _ClientContext):
            raise VerificationError("the connection's context was exchanged")
        return context.appraise(connection)
    except EnsconceError as error:
        raise PeerRefused(str(error)) from error


def _guarded(kind: type, name: str) -> Callable[..., Any]:
    """Return a method that works on verified connections only."""
    inherited = getattr(kind, name)

    @functools.wraps(inherited)
    def method(self: object, *arguments: Any, **named: Any) -> Any:
        appraisal_of(self)
        return inherited(self, *arguments, **named)

    return method


for _kind in (AttestedSocket, AttestedObject):
    for _method in filter(functools.partial(hasattr, _kind), _CARRYING):
        setattr(_kind, _method, _guarded(_kind, _method))
