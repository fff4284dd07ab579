# SPDX-License-Identifier: Apache-2.0
"""httpx talks to verified servers only."""

import asyncio
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.dcap.enclaves import MR_ENCLAVE, QuotedEnclave
from tests.ratls.serving import credential_of, verifier_of

from ensconce.isa.report import ReportBody
from ensconce.ratls import client_context, server_context

httpx = pytest.importorskip("httpx", reason="the `ratls` extra is not installed")
transport = pytest.importorskip("ensconce.ratls.transport")


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the name is http.server's
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def enclave() -> QuotedEnclave:
    return QuotedEnclave()


@pytest.fixture(scope="module")
def url(enclave: QuotedEnclave) -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Hello) as server:
        context = server_context(credential_of(enclave))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join(10)


def test_a_request_goes_to_the_enclave_that_is_wanted(enclave: QuotedEnclave, url: str) -> None:
    context = client_context(verifier_of(enclave))
    with httpx.Client(transport=transport.AttestedTransport(context)) as client:
        response = client.get(url)
    assert response.text == "hello"
    body = response.extensions["appraisal"].require().quote.body
    assert isinstance(body, ReportBody)
    assert body.mr_enclave == MR_ENCLAVE


def test_an_asynchronous_request_does_too(enclave: QuotedEnclave, url: str) -> None:
    async def get() -> Any:
        context = client_context(verifier_of(enclave))
        async with httpx.AsyncClient(transport=transport.AsyncAttestedTransport(context)) as client:
            return await client.get(url)

    response = asyncio.run(get())
    assert response.text == "hello"
    assert response.extensions["appraisal"].accepted


def test_a_request_to_another_enclave_is_refused(enclave: QuotedEnclave, url: str) -> None:
    other = QuotedEnclave(mr_enclave=bytes(32), platform=enclave.platform)
    context = client_context(verifier_of(other))
    with (
        httpx.Client(transport=transport.AttestedTransport(context)) as client,
        pytest.raises(httpx.ConnectError, match="mr_enclave"),
    ):
        client.get(url)


def test_a_request_in_the_clear_is_refused(enclave: QuotedEnclave, url: str) -> None:
    context = client_context(verifier_of(enclave))
    with (
        httpx.Client(transport=transport.AttestedTransport(context)) as client,
        pytest.raises(httpx.UnsupportedProtocol, match="not https"),
    ):
        client.get(url.replace("https", "http"))
