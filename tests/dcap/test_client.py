# SPDX-License-Identifier: Apache-2.0
"""Fetching collateral from something that answers as a PCCS does."""

import contextlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.dcap.corpus import CORPUS, needs_corpus, quote_of
from tests.dcap.serving import Pccs

from ensconce.dcap.client import Answer, fetch_collateral, web
from ensconce.errors import FormatError, ServiceError

_BASE = "https://pccs.example/sgx/certification/v4"
_SGX = CORPUS / "sgx-v3-00606a000000-268c0681-eval17-2025-08-15"
_TDX = CORPUS / "tdx-v4-00806f050000-00b2526a-eval17-2025-02-13"


@needs_corpus
@pytest.mark.parametrize("case", [_SGX, _TDX], ids=["sgx", "tdx"])
def test_what_was_fetched_is_byte_for_byte_what_was_served(case: Path) -> None:
    pccs = Pccs(case)
    fetched = fetch_collateral(quote_of(case), _BASE + "/", pccs)
    served = pccs.collateral
    assert (fetched.tcb_info, fetched.qe_identity) == (served.tcb_info, served.qe_identity)
    assert (fetched.pck_crl, fetched.root_ca_crl) == (served.pck_crl, served.root_ca_crl)
    assert fetched.tcb_info_signature == served.tcb_info_signature
    assert fetched.tcb_info_issuer_chain == served.tcb_info_issuer_chain


@needs_corpus
def test_the_right_things_are_asked_for() -> None:
    for case, tee in ((_SGX, "sgx"), (_TDX, "tdx")):
        pccs = Pccs(case)
        fetch_collateral(quote_of(case), _BASE, pccs)
        asked = {urlsplit(url).path: parse_qs(urlsplit(url).query) for url in pccs.asked}
        fmspc = json.loads(pccs.collateral.tcb_info)["fmspc"].upper()
        assert asked[f"/{tee}/certification/v4/tcb"] == {"fmspc": [fmspc]}
        assert asked["/sgx/certification/v4/pckcrl"] == {"ca": ["platform"], "encoding": ["der"]}
        assert f"/{tee}/certification/v4/qe/identity" in asked


@needs_corpus
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"tcbInfo":{}}',
        b'{"tcbInfo":{},"signature":"00"}',
        b'{ "tcbInfo":{},"signature":"' + b"0" * 128 + b'"}',
        b'{"tcbInfo":' + b"[" * 100_000,
        b'{"tcbInfo":{},"signature":"\xff"}',
    ],
)
def test_an_answer_that_is_no_tcb_info_is_refused(body: bytes) -> None:
    pccs = Pccs(_SGX)

    def get(url: str) -> Answer:
        answer = pccs(url)
        return Answer(body, answer.headers) if "/tcb?" in url else answer

    with pytest.raises(FormatError, match="tcbInfo can't be read"):
        fetch_collateral(quote_of(_SGX), _BASE, get)


class _Server(BaseHTTPRequestHandler):
    """A server that refuses, talks too much, or hangs up."""

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404, "No cache data for this platform.")
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client has heard enough
                self.wfile.write(bytes(3 << 20))
        elif self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        del format, args


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("/missing", "answered 404", 404),
        ("/large", "more than", 0),
        ("/away", "answered 302|gave no answer", None),
        ("/nothing", "gave no answer", 0),
    ],
)
def test_a_service_that_fails_is_named_with_what_it_did(
    path: str, said: str, status: int | None
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(ServiceError, match=said) as caught:
                web()(f"http://127.0.0.1:{server.server_port}{path}")
        finally:
            server.shutdown()
    assert status is None or caught.value.status == status


def test_only_web_addresses_are_fetched() -> None:
    with pytest.raises(ServiceError, match="no address of a PCCS"):
        web()("file:///etc/hostname")
