# SPDX-License-Identifier: Apache-2.0
"""A server in a thread, which answers each line with itself and remembers what it was told."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from tests.dcap.enclaves import NOW, QuotedEnclave, with_null_parameters

from ensconce.ratls import Credential, Verifier, attest_with

__all__ = ["Echo", "GramineCredential", "connected", "credential_of", "serving", "verifier_of"]

_TIMEOUT = 10


def verifier_of(enclave: QuotedEnclave) -> Verifier:
    """Return who accepts this enclave alone."""
    return Verifier(enclave.policy, enclave.collateral(), (enclave.root,), clock=lambda: NOW)


def credential_of(enclave: QuotedEnclave) -> Credential:
    """Return what a host of the enclave proves itself with."""
    return Credential(attest_with(enclave), clock=lambda: NOW, valid=timedelta(hours=1))


class GramineCredential(Credential):
    """A credential whose certificates have NULL parameters, as Gramine makes them."""

    def certificate(self, nonce: bytes | None = None) -> bytes:
        """Return a certificate that `cryptography` can't read."""
        return with_null_parameters(super().certificate(nonce), self.private_key)


@dataclass
class Echo:
    """Where a server listens, and all that any client has said to it."""

    address: tuple[str, int]
    heard: list[bytes] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)

    def answer(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        """Serve until the listener is closed."""
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            plain.settimeout(_TIMEOUT)
            try:
                with context.wrap_socket(plain, server_side=True) as connection:
                    while data := connection.recv(100):
                        self.heard.append(data)
                        connection.sendall(data)
            except OSError as error:
                self.failed.append(error)
            finally:
                plain.close()


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[Echo]:
    """Serve with a context for as long as a test wants."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        echo = Echo(listener.getsockname())
        thread = threading.Thread(target=echo.answer, args=(listener, context))
        thread.start()
        try:
            yield echo
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(_TIMEOUT)
    assert not thread.is_alive()


def connected(echo: Echo, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return a connection to a server."""
    plain = socket.create_connection(echo.address, timeout=_TIMEOUT)
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise
