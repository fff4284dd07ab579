# SPDX-License-Identifier: Apache-2.0
"""The REST interface from the cache: what clients of the vendor's PCCS meet."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from tests.dcap.corpus import collateral_of, needs_corpus, time_of
from tests.pccs.serving import (
    ADMIN,
    CASE,
    FMSPC,
    NEWER,
    PPID,
    QE_ID,
    SGX,
    TDX,
    USER,
    application,
    asking,
    filled,
    platform_bundle,
)

from ensconce.pccs import Service

pytestmark = needs_corpus

Asking = Callable[[httpx.AsyncClient, Service], Awaitable[None]]


def with_pccs(folder: Path, action: Asking, case: Path = CASE) -> None:
    """Do something with a PCCS that has a case's collateral."""

    async def run() -> None:
        made = await filled(folder, case)
        async with asking(application(made)) as client:
            await action(client, made)

    asyncio.run(run())


def test_signed_texts_are_served_verbatim_with_their_chains(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        wanted = collateral_of(CASE)
        tcb = await client.get(f"{SGX}/tcb", params={"fmspc": FMSPC.lower()})
        assert wanted.tcb_info in tcb.content
        assert tcb.headers["content-type"] == "application/json"
        assert (
            unquote(tcb.headers["TCB-Info-Issuer-Chain"]).encode() == wanted.tcb_info_issuer_chain
        )
        identity = await client.get(f"{SGX}/qe/identity?update=standard")
        assert wanted.qe_identity in identity.content
        chain = unquote(identity.headers["SGX-Enclave-Identity-Issuer-Chain"])
        assert chain.encode() == wanted.qe_identity_issuer_chain

    with_pccs(tmp_path, action)


def test_crls_are_served_in_hex_or_der(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        wanted = collateral_of(CASE)
        root = await client.get(f"{SGX}/rootcacrl")
        assert bytes.fromhex(root.text) == wanted.root_ca_crl
        der = await client.get(f"{SGX}/pckcrl?ca=platform&encoding=der")
        assert der.content == wanted.pck_crl
        assert der.headers["content-type"] == "application/pkix-crl"
        text = await client.get(f"{SGX}/pckcrl?ca=PLATFORM")
        assert bytes.fromhex(text.text) == wanted.pck_crl
        chain = unquote(text.headers["SGX-PCK-CRL-Issuer-Chain"])
        assert chain.encode() == wanted.pck_crl_issuer_chain
        place = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
        by_uri = await client.get(f"{SGX}/crl", params={"uri": place})
        assert by_uri.content == wanted.root_ca_crl
        place = "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform"
        by_uri = await client.get(f"{SGX}/crl", params={"uri": place})
        assert by_uri.content == wanted.pck_crl

    with_pccs(tmp_path, action)


def test_the_pck_certificate_comes_with_its_facts_in_headers(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        known = platform_bundle(CASE).platforms[0]
        query = {"qeid": QE_ID, "cpusvn": known.platform.cpu_svn, "pceid": "0000"}
        answer = await client.get(
            f"{SGX}/pckcert", params=query | {"pcesvn": known.platform.pce_svn}
        )
        assert answer.text == known.pcks.certificates[0].pem
        assert answer.headers["SGX-TCBm"] == known.pcks.certificates[0].tcbm
        assert answer.headers["SGX-FMSPC"] == FMSPC
        assert answer.headers["SGX-PCK-Certificate-CA-Type"] == "platform"
        assert unquote(answer.headers["SGX-PCK-Certificate-Issuer-Chain"]) == known.pcks.chain

    with_pccs(tmp_path, action)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{SGX}/tcb", 400),
        (f"{SGX}/tcb?fmspc=xyz", 400),
        (f"{SGX}/tcb?fmspc={FMSPC}&fmspc={FMSPC}", 400),
        (f"{SGX}/tcb?fmspc={FMSPC}&update=soon", 400),
        (f"{SGX}/tcb?fmspc={FMSPC}&update=early", 404),
        (f"{SGX}/tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=17", 200),
        (f"{SGX}/tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=16", 404),
        (f"{SGX}/tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=17&update=early", 400),
        (f"{SGX}/tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=9999999999", 400),
        (f"{SGX}/tcb?fmspc=00906ED50000", 404),
        (f"{TDX}/tcb?fmspc={FMSPC}", 404),
        (f"{SGX}/pckcrl?ca=root", 400),
        (f"{SGX}/pckcrl?ca=processor", 404),
        (f"{SGX}/qve/identity", 404),
        (f"{SGX}/crl?uri=https://example.org/IntelSGXRootCA.der", 400),
        (f"{SGX}/tcbevaluationdatanumbers", 404),
        (f"{SGX}/pckcert?qeid=AA&cpusvn={'0' * 32}&pcesvn=0D00&pceid=0000", 461),
        (f"{SGX}/pckcert?qeid={QE_ID}&cpusvn={'0' * 32}&pcesvn=0D00&pceid=0000", 404),
        (f"{SGX}/pckcert?qeid={QE_ID}&cpusvn={'0' * 31}&pcesvn=0D00&pceid=0000", 400),
        (f"{SGX}/tcb?fmspc=%FF", 400),
        (f"{SGX}/crl?uri=https://[", 400),
        (f"{SGX}/pckcert?qeid=%C3%9F&cpusvn={'0' * 32}&pcesvn=0D00&pceid=0000", 400),
        (f"{SGX}/nothing", 404),
        ("/tdx/certification/v3/tcb", 404),
        ("/healthz", 200),
    ],
)
def test_each_fault_has_the_status_that_clients_know(
    tmp_path: Path, path: str, status: int
) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        answer = await client.get(path)
        assert answer.status_code == status, answer.text
        assert answer.headers["Request-ID"]

    with_pccs(tmp_path, action)


def test_version_3_is_served_from_the_cache_with_a_warning(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        v3 = SGX.replace("v4", "v3")
        for _ in range(2):  # the second answer is a remembered one
            crl = await client.get(f"{v3}/rootcacrl", headers={"Request-ID": "mine-1"})
            assert crl.status_code == 200
            assert crl.headers["Warning"].startswith("299 - ")
            assert crl.headers["Request-ID"] == "mine-1"
        identity = await client.get(f"{v3}/qe/identity")
        assert identity.content == (await client.get(f"{SGX}/qe/identity")).content
        gone = await client.get(f"{v3}/tcb?fmspc={FMSPC}")
        assert (gone.status_code, gone.headers["Warning"][:3]) == (410, "299")

    with_pccs(tmp_path, action)


@pytest.mark.parametrize(
    ("method", "path", "header", "right"),
    [
        ("POST", "/platforms", "user-token", USER),
        ("GET", "/platforms", "admin-token", ADMIN),
        ("PUT", "/platformcollateral", "admin-token", ADMIN),
        ("GET", "/refresh", "admin-token", ADMIN),
        ("POST", "/refresh", "admin-token", ADMIN),
        ("PUT", "/appraisalpolicy", "admin-token", ADMIN),
    ],
)
def test_what_changes_something_wants_its_token(
    tmp_path: Path, method: str, path: str, header: str, right: str
) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        other = {"user-token": ADMIN, "admin-token": USER}[header]
        for headers in ({}, {header: "x"}, {header: other}, {header: right + "x"}):
            answer = await client.request(method, SGX + path, headers=headers)
            assert (answer.status_code, answer.text) == (401, "Authentication failed.")
        allowed = await client.request(method, SGX + path, headers={header: right})
        assert allowed.status_code in (200, 400, 503)

    with_pccs(tmp_path, action)


def test_a_platform_that_registers_offline_waits_until_the_admin_takes_it(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        platform = {
            "qe_id": "feed", "pce_id": "0000", "cpu_svn": "01" * 16, "pce_svn": "0d00",
            "enc_ppid": PPID, "platform_manifest": "",
        }  # fmt: skip
        token, admin = {"user-token": USER}, {"admin-token": ADMIN}
        answer = await client.post(f"{SGX}/platforms", json=platform, headers=token)
        assert (answer.status_code, answer.text) == (200, "Operation successful.")
        taken = await client.get(f"{SGX}/platforms", headers=admin)
        assert taken.headers["platform-count"] == "1"
        assert taken.json()[0]["qe_id"] == "FEED"
        again = await client.get(f"{SGX}/platforms?source=reg", headers=admin)
        assert again.json() == []
        kept = await client.get(f"{SGX}/platforms?source=[{FMSPC}]", headers=admin)
        assert [each["qe_id"] for each in kept.json()] == [QE_ID]
        del platform["enc_ppid"]
        answer = await client.post(f"{SGX}/platforms", json=platform, headers=token)
        assert answer.status_code == 400

    with_pccs(tmp_path, action)


def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        answer = await client.post(
            f"{SGX}/platforms", content=b"x" * (2 << 20 | 1), headers={"user-token": USER}
        )
        assert (answer.status_code, answer.text) == (413, "Content too large.")

    with_pccs(tmp_path, action)


def test_expired_collateral_is_served_and_said_to_be_stale(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, made: Service) -> None:
        fresh = await client.get(f"{SGX}/tcb?fmspc={FMSPC}")
        assert "Warning" not in fresh.headers
        made.clock.time = time_of(NEWER)  # type: ignore[attr-defined]
        stale = await client.get(f"{SGX}/tcb?fmspc={FMSPC}")
        assert stale.content == fresh.content
        assert stale.headers["Warning"].startswith("110 ")

    with_pccs(tmp_path, action)


def test_metrics_tell_how_long_each_item_is_good_for(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        await client.get(f"{SGX}/tcb?fmspc={FMSPC}")
        text = (await client.get("/metrics")).text
        labels = f'kind="tcb",name="sgx/{FMSPC}/standard"'
        days = float(text.split(f"days_to_expiry{{{labels}}} ")[1].split("\n")[0])
        assert 0 < days < 30
        assert f'ensconce_pccs_requests_total{{code="200",path="{SGX}/tcb"}} 1.0' in text
        assert "ensconce_pccs_platforms 1.0" in text

    with_pccs(tmp_path, action)


def test_the_openapi_document_has_every_path_that_is_served(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert f"{TDX}/tcb" in paths
        for path in paths:
            assert (await client.request("TRACE", path)).status_code == 405

    with_pccs(tmp_path, action)


def test_an_appraisal_policy_is_kept_for_its_family(tmp_path: Path) -> None:
    async def action(client: httpx.AsyncClient, _made: Service) -> None:
        inner = {"policy_array": [{"environment": {"class_id": CLASS}}]}
        payload = base64url(json.dumps({"policy_payload": json.dumps(inner)}))
        policy = {"policy": f"e30.{payload}.c2ln", "is_default": True, "fmspc": FMSPC}
        admin = {"admin-token": ADMIN}
        put = await client.put(f"{SGX}/appraisalpolicy", json=policy, headers=admin)
        assert (put.status_code, len(put.text)) == (200, 96)
        got = await client.get(f"{SGX}/appraisalpolicy?fmspc={FMSPC}")
        assert got.text == policy["policy"]
        policy["policy"] = "e30.e30.c2ln"
        put = await client.put(f"{SGX}/appraisalpolicy", json=policy, headers=admin)
        assert put.status_code == 400

    with_pccs(tmp_path, action)


CLASS = "3123ec35-8d38-4ea5-87a5-d6c48b567570"


def base64url(text: str) -> str:
    """Return a text in base64url without padding."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
