# SPDX-License-Identifier: Apache-2.0
"""TLS with evidence: what is not the wanted enclave, here and now, gets and gives no byte."""

import asyncio
import socket
import ssl
from datetime import timedelta

import pytest
from tests.dcap.enclaves import MR_ENCLAVE, NOW, QuotedEnclave
from tests.ratls.serving import (
    Echo,
    GramineCredential,
    connected,
    credential_of,
    serving,
    verifier_of,
)

from ensconce.dcap.ratls import Evidence, make_claims
from ensconce.dcap.ratls_certificate import TlsCertificate
from ensconce.errors import DeviceError, VerificationError
from ensconce.isa.report import ReportBody
from ensconce.ratls import (
    Credential,
    PeerRefused,
    appraisal_of,
    attest_with,
    client_context,
    server_context,
)
from ensconce.ratls.freshness import name_with, new_name, nonce_in


@pytest.fixture(scope="module")
def enclave() -> QuotedEnclave:
    return QuotedEnclave()


def refused(echo: Echo, context: ssl.SSLContext, reason: str) -> None:
    """Check that a server is refused, and that it was told nothing."""
    with pytest.raises(PeerRefused, match=reason):
        connected(echo, context)
    assert echo.heard == []


@pytest.mark.parametrize("fresh", [True, False])
def test_client_and_server_talk_once_the_enclave_is_verified(
    enclave: QuotedEnclave, fresh: bool
) -> None:
    client = client_context(verifier_of(enclave), fresh=fresh)
    with serving(server_context(credential_of(enclave))) as echo, connected(echo, client) as tls:
        tls.sendall(b"a secret")
        assert tls.recv(100) == b"a secret"
        appraisal = appraisal_of(tls)
        body = appraisal.require().quote.body
        assert isinstance(body, ReportBody)
        assert body.mr_enclave == MR_ENCLAVE
        assert (appraisal.evidence.nonce is not None) is fresh


def test_a_server_with_a_certificate_like_gramines_is_accepted(enclave: QuotedEnclave) -> None:
    credential = GramineCredential(attest_with(enclave), clock=lambda: NOW)
    with (
        serving(server_context(credential)) as echo,
        connected(echo, client_context(verifier_of(enclave))) as tls,
    ):
        assert appraisal_of(tls).accepted


def test_each_connection_gets_a_quote_of_its_own(enclave: QuotedEnclave) -> None:
    client = client_context(verifier_of(enclave))
    with serving(server_context(credential_of(enclave))) as echo:
        nonces = set()
        for _ in range(3):
            with connected(echo, client) as tls:
                nonces.add(appraisal_of(tls).evidence.nonce)
    assert len(nonces) == 3


def test_another_enclave_is_refused_and_told_nothing(enclave: QuotedEnclave) -> None:
    other = QuotedEnclave(mr_enclave=bytes(32), platform=enclave.platform)
    with serving(server_context(credential_of(other))) as echo:
        refused(echo, client_context(verifier_of(enclave)), r"sgx\.mr_enclave")


def test_another_platforms_root_is_refused(enclave: QuotedEnclave) -> None:
    with serving(server_context(credential_of(QuotedEnclave()))) as echo:
        refused(echo, client_context(verifier_of(enclave)), "step 11")


def test_a_certificate_kept_from_before_is_refused_where_freshness_is_wanted(
    enclave: QuotedEnclave,
) -> None:
    with serving(server_context(credential_of(enclave), fresh=False)) as echo:
        refused(echo, client_context(verifier_of(enclave)), "nonce_missing")


def test_a_quote_made_for_an_earlier_nonce_is_refused(enclave: QuotedEnclave) -> None:
    attest = attest_with(enclave)
    replaying = Credential(lambda spki, _: attest(spki, b"an earlier nonce"), clock=lambda: NOW)
    with serving(server_context(replaying)) as echo:
        refused(echo, client_context(verifier_of(enclave)), "nonce_differs")


def test_a_relay_that_ends_tls_is_refused_even_with_the_fresh_evidence_of_the_enclave(
    enclave: QuotedEnclave,
) -> None:
    genuine = credential_of(enclave)
    with serving(server_context(genuine)) as target:

        def relay(_: bytes, nonce: bytes | None) -> tuple[bytes, bytes]:
            """Ask the enclave with the victim's own nonce, and take its evidence."""
            return _evidence_for(target, nonce or bytes(32))

        with serving(server_context(Credential(relay, clock=lambda: NOW))) as echo:
            refused(echo, client_context(verifier_of(enclave)), "key_not_bound")


def _evidence_for(target: Echo, nonce: bytes) -> tuple[bytes, bytes]:
    """Return quote and claims of a server's certificate for a nonce."""
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(target.address, timeout=10) as sock,
        plain.wrap_socket(sock, server_hostname=name_with(nonce)) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    evidence = Evidence.read(TlsCertificate.parse(der))
    assert evidence.nonce == nonce
    assert evidence.claims_buffer is not None
    return evidence.quote, evidence.claims_buffer


def test_a_copied_certificate_is_of_no_use_without_its_key(enclave: QuotedEnclave) -> None:
    copied = credential_of(enclave).certificate()
    with pytest.raises(ssl.SSLError, match=r"(?i)key.values.mismatch"):
        credential_of(enclave).load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), copied)


def test_a_server_that_proves_nothing_is_refused(enclave: QuotedEnclave) -> None:
    with serving(_ordinary_server()) as echo:
        refused(echo, client_context(verifier_of(enclave), fresh=False), "step 1|quote")


def test_tls_before_1_3_is_refused_even_if_the_context_was_changed(
    enclave: QuotedEnclave,
) -> None:
    client = client_context(verifier_of(enclave))
    client.minimum_version = ssl.TLSVersion.TLSv1_2
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(_ordinary_server()) as echo:
        refused(echo, client, "not TLS 1.3")


def _ordinary_server() -> ssl.SSLContext:
    """Return a context of a server whose certificate holds no quote that can be read."""
    credential = Credential(
        lambda _spki, _nonce: (b"no quote", make_claims(b"")), clock=lambda: NOW
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    credential.load_into(context, credential.certificate())
    return context


def test_nothing_is_sent_or_read_before_the_handshake(enclave: QuotedEnclave) -> None:
    client = client_context(verifier_of(enclave))
    with (
        serving(server_context(credential_of(enclave))) as echo,
        socket.create_connection(echo.address, timeout=10) as plain,
        client.wrap_socket(plain, do_handshake_on_connect=False) as tls,
    ):
        for early in (
            lambda: tls.sendall(b"too early"),
            lambda: tls.send(b"too early"),
            lambda: tls.write(b"too early"),
            lambda: tls.recv(1),
            lambda: tls.read(1),
            lambda: tls.recv_into(bytearray(1)),
        ):
            with pytest.raises(VerificationError, match="not verified"):
                early()
        tls.do_handshake()
        tls.sendall(b"now")
        assert tls.recv(10) == b"now"
    assert echo.heard == [b"now"]


def test_nothing_is_read_or_sent_in_the_clear_after_tls_has_ended(enclave: QuotedEnclave) -> None:
    client = client_context(verifier_of(enclave))
    with serving(server_context(credential_of(enclave))) as echo, connected(echo, client) as tls:
        tls.shutdown(socket.SHUT_WR)
        with pytest.raises(VerificationError):
            tls.recv(1)


def test_a_context_for_clients_does_not_serve(enclave: QuotedEnclave) -> None:
    client = client_context(verifier_of(enclave))
    with socket.socket() as plain, pytest.raises(ValueError, match="for clients"):
        client.wrap_socket(plain, server_side=True)


def test_asyncio_connects_to_verified_servers_only(enclave: QuotedEnclave) -> None:
    async def ask(echo: Echo, context: ssl.SSLContext) -> bytes:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(*echo.address, ssl=context), 10
        )
        appraisal_of(writer.get_extra_info("ssl_object")).require()
        writer.write(b"a secret")
        answer = await reader.read(100)
        writer.close()
        await writer.wait_closed()
        return answer

    client = client_context(verifier_of(enclave))
    with serving(server_context(credential_of(enclave))) as echo:
        assert asyncio.run(ask(echo, client)) == b"a secret"
    other = QuotedEnclave(mr_enclave=bytes(32), platform=enclave.platform)
    with serving(server_context(credential_of(other))) as echo:
        with pytest.raises(PeerRefused):
            asyncio.run(ask(echo, client))
        assert echo.heard == []


def test_asyncio_serves_a_fresh_quote_too(enclave: QuotedEnclave) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    async def exchange() -> bytes:
        context = server_context(credential_of(enclave))
        async with await asyncio.start_server(answer, "127.0.0.1", ssl=context) as server:
            host, port = server.sockets[0].getsockname()
            client = client_context(verifier_of(enclave))
            reader, writer = await asyncio.open_connection(host, port, ssl=client)
            appraisal = appraisal_of(writer.get_extra_info("ssl_object"))
            assert appraisal.evidence.nonce is not None
            writer.write(b"a secret")
            answered = await reader.read(100)
            writer.close()
            return answered

    assert asyncio.run(asyncio.wait_for(exchange(), 10)) == b"a secret"


def test_a_server_whose_quote_fails_answers_with_an_alert(enclave: QuotedEnclave) -> None:
    attest = attest_with(enclave)

    def failing(spki: bytes, nonce: bytes | None) -> tuple[bytes, bytes]:
        if nonce is not None:
            raise DeviceError("no quoting enclave answers")
        return attest(spki, nonce)

    context = server_context(Credential(failing, clock=lambda: NOW))
    with (
        serving(context) as echo,
        pytest.raises(ssl.SSLError, match=r"(?i)internal.error"),
    ):
        connected(echo, client_context(verifier_of(enclave)))


def test_a_kept_certificate_is_renewed_at_half_its_life(enclave: QuotedEnclave) -> None:
    now = NOW
    credential = Credential(attest_with(enclave), valid=timedelta(hours=2), clock=lambda: now)
    first = credential.certificate()
    now += timedelta(minutes=59)
    assert credential.certificate() == first
    now += timedelta(minutes=2)
    assert credential.certificate() != first
    now -= timedelta(hours=2)  # a clock that was set back
    assert TlsCertificate.parse(credential.certificate()).not_before <= now


def test_a_sockets_appraisal_is_there_after_its_handshake_alone() -> None:
    with pytest.raises(VerificationError, match="not verified"):
        appraisal_of(object())


@pytest.mark.parametrize("name", [None, "", "localhost", ".ra-tls.invalid", "a" * 52])
def test_other_server_names_hold_no_nonce(name: str | None) -> None:
    assert nonce_in(name) is None
    assert nonce_in("1" * 52 + ".ra-tls.invalid") is None


def test_a_name_holds_a_nonce_of_32_bytes_that_is_never_the_same() -> None:
    nonces = {nonce_in(new_name()) for _ in range(10)}
    assert len(nonces) == 10
    assert {len(nonce or b"") for nonce in nonces} == {32}
