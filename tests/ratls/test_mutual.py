# SPDX-License-Identifier: Apache-2.0
"""Mutual TLS: each side verifies the other, and neither says anything before."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.dcap.enclaves import MR_ENCLAVE, NOW, QuotedEnclave
from tests.ratls.serving import GramineCredential, credential_of, verifier_of

from ensconce.dcap.ratls import Evidence
from ensconce.dcap.ratls_certificate import TlsCertificate
from ensconce.isa.report import ReportBody
from ensconce.ratls import Credential, PeerRefused, appraisal_of, attest_with, client_context

mutual = pytest.importorskip(
    "ensconce.ratls.mutual", reason="the `ratls` extra is not installed", exc_type=ImportError
)
_TIMEOUT = 10


@pytest.fixture(scope="module")
def enclave() -> QuotedEnclave:
    return QuotedEnclave()


@pytest.fixture(scope="module")
def other(enclave: QuotedEnclave) -> QuotedEnclave:
    return QuotedEnclave(mr_enclave=bytes(32), platform=enclave.platform)


@dataclass
class _Served:
    """What came of one connection to a server."""

    address: tuple[str, int]
    heard: list[bytes] = field(default_factory=list)
    proved: list[Any] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)


@contextlib.contextmanager
def serving_one(server: Any) -> Iterator[_Served]:
    """Serve one connection: answer what comes with itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = _Served(listener.getsockname())

        def serve() -> None:
            plain, _ = listener.accept()
            try:
                with plain, server.accept(plain, timeout=_TIMEOUT) as tls:
                    served.proved.append(tls.appraisal.require())
                    while data := tls.recv(1 << 16):
                        served.heard.append(data)
                        tls.sendall(data)
            except OSError as error:
                served.failed.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        yield served
        thread.join(_TIMEOUT)
    assert not thread.is_alive()


def connected(served: _Served, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(served.address, timeout=_TIMEOUT)
    try:
        return context.wrap_socket(plain)
    except BaseException:
        plain.close()
        raise


def _until_closed(tls: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        assert tls.recv(100) == b""


def test_two_enclaves_verify_each_other(enclave: QuotedEnclave, other: QuotedEnclave) -> None:
    server = mutual.MutualServer(credential_of(enclave), verifier_of(other))
    client = client_context(verifier_of(enclave), credential=credential_of(other))
    with serving_one(server) as served, connected(served, client) as tls:
        assert appraisal_of(tls).evidence.nonce is not None
        tls.sendall(b"a secret")
        assert tls.recv(100) == b"a secret"
        tls.unwrap().close()
    body = served.proved[0].quote.body
    assert isinstance(body, ReportBody)
    assert body.mr_enclave == bytes(32) != MR_ENCLAVE
    assert served.failed == []


def test_a_client_with_a_certificate_like_gramines_is_accepted(enclave: QuotedEnclave) -> None:
    credential = GramineCredential(attest_with(enclave), clock=lambda: NOW)
    server = mutual.MutualServer(credential_of(enclave), verifier_of(enclave))
    client = client_context(verifier_of(enclave), credential=credential)
    with serving_one(server) as served, connected(served, client) as tls:
        tls.unwrap().close()
    assert len(served.proved) == 1


def test_much_data_goes_through(enclave: QuotedEnclave) -> None:
    server = mutual.MutualServer(credential_of(enclave), verifier_of(enclave))
    client = client_context(verifier_of(enclave), credential=credential_of(enclave))
    data = bytes(range(256)) * 8192
    with serving_one(server) as served, connected(served, client) as tls:
        sender = threading.Thread(target=tls.sendall, args=(data,))
        sender.start()
        answer = b""
        while len(answer) < len(data):
            answer += tls.recv(1 << 16)
        sender.join(_TIMEOUT)
        tls.unwrap().close()
    assert answer == data


def test_a_client_of_another_enclave_is_refused_and_not_heard(
    enclave: QuotedEnclave, other: QuotedEnclave
) -> None:
    server = mutual.MutualServer(credential_of(enclave), verifier_of(enclave))
    client = client_context(verifier_of(enclave), credential=credential_of(other))
    with serving_one(server) as served, connected(served, client) as tls:
        with contextlib.suppress(OSError):
            tls.sendall(b"let me in")
        _until_closed(tls)
    (refusal,) = served.failed
    assert isinstance(refusal, PeerRefused)
    assert "sgx.mr_enclave" in str(refusal)
    assert served.heard == []


def test_a_client_with_stolen_evidence_is_refused(enclave: QuotedEnclave) -> None:
    genuine = credential_of(enclave)
    stolen = Evidence.read(TlsCertificate.parse(genuine.certificate()))

    def steal(_spki: bytes, _nonce: bytes | None) -> tuple[bytes, bytes]:
        return stolen.quote, stolen.claims_buffer or b""

    server = mutual.MutualServer(credential_of(enclave), verifier_of(enclave))
    thief = client_context(verifier_of(enclave), credential=Credential(steal, clock=lambda: NOW))
    with serving_one(server) as served, connected(served, thief) as tls:
        _until_closed(tls)
    assert "key_not_bound" in str(served.failed[0])


def test_a_client_without_a_certificate_is_refused(enclave: QuotedEnclave) -> None:
    server = mutual.MutualServer(credential_of(enclave), verifier_of(enclave))
    client = client_context(verifier_of(enclave))
    with (
        serving_one(server) as served,
        connected(served, client) as tls,
        pytest.raises(OSError, match=r"(?i)certificate.required"),
    ):
        tls.recv(100)
    assert "did not return a certificate" in str(served.failed[0])


def test_a_server_of_another_enclave_is_refused_by_the_client(
    enclave: QuotedEnclave, other: QuotedEnclave
) -> None:
    server = mutual.MutualServer(credential_of(other), verifier_of(enclave))
    client = client_context(verifier_of(enclave), credential=credential_of(enclave))
    with serving_one(server) as served, pytest.raises(PeerRefused, match="mr_enclave"):
        connected(served, client)
    assert served.heard == []


def test_a_client_that_says_nothing_is_not_waited_for(enclave: QuotedEnclave) -> None:
    server = mutual.MutualServer(credential_of(enclave), verifier_of(enclave))
    ours, _theirs = socket.socketpair()
    with ours, _theirs, pytest.raises(TimeoutError, match="too long"):
        server.accept(ours, timeout=0.05)


def test_a_client_that_speaks_no_tls_is_refused(enclave: QuotedEnclave) -> None:
    server = mutual.MutualServer(credential_of(enclave), verifier_of(enclave))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="TLS failed"):
            server.accept(ours, timeout=_TIMEOUT)
