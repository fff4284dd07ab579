# SPDX-License-Identifier: Apache-2.0
"""A PCCS whose upstream is the emulated platform's test PCS."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.pccs.serving import (
    ADMIN,
    QE_ID,
    SGX,
    USER,
    Clock,
    Counting,
    application,
    asking,
    service,
    upstream_of,
)

from ensconce.dcap import Root
from ensconce.machine.identity import Identity
from ensconce.pccs import Key, Kind, Mode, Service, StatusError
from ensconce.pccs.server import refresh_regularly
from ensconce.platform.pcs_server import emulated_ppid, pcs_application
from ensconce.platform.quoting import EmulatedPlatform

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FMSPC = "E5C05CE00000"
TCB = Key(Kind.TCB, f"sgx/{FMSPC}/standard")


@dataclass
class Setting:
    """A platform, its PCS as it is asked, and a PCCS that asks it."""

    platform: EmulatedPlatform
    pcs: Counting
    clock: Clock
    made: Service
    client: httpx.AsyncClient

    @property
    def registration(self) -> dict[str, str]:
        """What the platform registers itself with."""
        return {
            "qe_id": QE_ID,
            "pce_id": "0000",
            "cpu_svn": self.platform.identity.cpu_svn.hex(),
            "pce_svn": "0d00",
            "enc_ppid": emulated_ppid(self.platform),
            "platform_manifest": "",
        }

    @property
    def pck_query(self) -> dict[str, str]:
        """What the platform asks for its PCK certificate with."""
        own = self.registration
        return {
            "qeid": own["qe_id"],
            "pceid": own["pce_id"],
            "cpusvn": own["cpu_svn"],
            "pcesvn": own["pce_svn"],
            "encrypted_ppid": own["enc_ppid"],
        }

    def asked(self, path: str) -> int:
        """Return how often the PCS was asked for a path."""
        return sum(each.endswith(path) for each in self.pcs.paths)


def in_setting(
    folder: Path,
    action: Callable[[Setting], Awaitable[None]],
    *,
    mode: Mode = Mode.LAZY,
    failures: Iterable[int] = (),
) -> None:
    """Do something with a PCCS over the test PCS."""

    async def run() -> None:
        platform, clock = EmulatedPlatform.of(Identity.generate()), Clock(NOW)
        pcs = Counting(pcs_application(lambda: platform, clock), failures)
        der = platform.pcs.root.certificate().public_bytes(Encoding.DER)
        upstream = None if mode is Mode.OFFLINE else upstream_of(pcs, "pcs")
        made = service(folder, clock, mode=mode, upstream=upstream, root=Root.parse(der))
        async with asking(application(made)) as client:
            await action(Setting(platform, pcs, clock, made, client))

    asyncio.run(run())


def test_what_is_missing_is_fetched_once_and_kept(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        for _ in range(2):
            for path in (
                f"tcb?fmspc={FMSPC}", "qe/identity", "pckcrl?ca=platform", "rootcacrl",
                "tcbevaluationdatanumbers", f"tcb?fmspc={FMSPC}&tcbEvaluationDataNumber=1",
            ):  # fmt: skip
                answer = await at.client.get(f"{SGX}/{path}")
                assert answer.status_code == 200, (path, answer.text)
        for path in ("/tcb", "/qe/identity", "/pckcrl", "/rootcacrl", "/tcbevaluationdatanumbers"):
            assert at.asked(path) == 1

    in_setting(tmp_path, action)


def test_the_pck_certificate_of_an_emulated_platform_is_its_own(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        answer = await at.client.get(f"{SGX}/pckcert", params=at.pck_query)
        own = at.platform.pck.certificate().public_bytes(Encoding.PEM)
        assert (answer.status_code, answer.content) == (200, own)
        assert answer.headers["SGX-FMSPC"] == FMSPC
        chain = unquote(answer.headers["SGX-PCK-Certificate-Issuer-Chain"])
        assert chain.count("BEGIN CERTIFICATE") == 2
        query = at.pck_query | {"cpusvn": "00" * 16}
        lower = await at.client.get(f"{SGX}/pckcert", params=query)
        assert lower.status_code == 404  # no certificate that this TCB may use
        stranger = at.pck_query | {"qeid": "other", "encrypted_ppid": "ff" * 384}
        assert (await at.client.get(f"{SGX}/pckcert", params=stranger)).status_code == 404

    in_setting(tmp_path, action)


def test_the_crls_that_certificates_name_are_found(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        base = "https://pcs.ensconce.invalid/sgx/certification/v4/"
        for uri, path in (("rootcacrl", "rootcacrl"), ("pckcrl?ca=platform", "pckcrl?ca=platform")):
            answer = await at.client.get(f"{SGX}/crl", params={"uri": base + uri})
            assert answer.content == bytes.fromhex((await at.client.get(f"{SGX}/{path}")).text)
        for wrong in ("x", "pckcrl?ca=root", "pckcrl"):
            answer = await at.client.get(f"{SGX}/crl", params={"uri": base + wrong})
            assert answer.status_code == 400

    in_setting(tmp_path, action)


def test_many_that_miss_at_once_make_one_request_upstream(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        asked = [at.client.get(f"{SGX}/tcb?fmspc={FMSPC}") for _ in range(40)]
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        assert (at.asked("/tcb"), at.asked("/rootcacrl")) == (1, 1)

    in_setting(tmp_path, action)


def test_what_the_upstream_lacks_is_not_asked_for_at_once_again(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        for _ in range(3):
            answer = await at.client.get(f"{SGX}/tcb?fmspc=00906ED50000")
            assert answer.status_code == 404
        assert at.asked("/tcb") == 1

    in_setting(tmp_path, action)


def test_an_upstream_that_fails_at_first_is_asked_again(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        assert (await at.client.get(f"{SGX}/rootcacrl")).status_code == 200
        assert at.asked("/rootcacrl") == 4

    in_setting(tmp_path, action, failures=(500, 503, 429))


def test_an_upstream_that_goes_on_failing_is_a_bad_gateway(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        answer = await at.client.get(f"{SGX}/rootcacrl")
        assert answer.status_code == 502
        assert answer.text == "Unable to retrieve the collateral from the Intel SGX PCS."

    in_setting(tmp_path, action, failures=[500] * 4)


def test_expired_collateral_is_fetched_anew_or_served_stale(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        first = await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")
        at.clock.time += timedelta(days=31)
        second = await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")
        assert second.content != first.content
        at.clock.time += timedelta(days=31)
        at.pcs.failures = [500] * 4
        stale = await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")
        assert stale.content == second.content
        assert stale.headers["Warning"].startswith("110 ")

    in_setting(tmp_path, action)


def test_collateral_of_another_root_is_never_kept(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        await at.client.get(f"{SGX}/rootcacrl")
        stranger = EmulatedPlatform.of(Identity.generate())
        at.pcs._app = pcs_application(lambda: stranger, at.clock)
        for path in (f"tcb?fmspc={FMSPC}", "qe/identity", "pckcrl?ca=platform"):
            assert (await at.client.get(f"{SGX}/{path}")).status_code == 502
        query = at.pck_query | {"encrypted_ppid": emulated_ppid(stranger)}
        assert (await at.client.get(f"{SGX}/pckcert", params=query)).status_code == 502
        kept = await at.made.read(lambda rows: (len(rows.items()), rows.count_platforms()))
        assert kept == (1, 0)

    in_setting(tmp_path, action)


def test_a_text_that_was_changed_is_never_kept(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        fields = at.platform.pcs.tcb_info
        at.platform.pcs.tcb_info = lambda now: fields(now) | {"fmspc": "000000000000"}  # type: ignore[method-assign]
        assert (await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")).status_code == 502
        assert await at.made.read(lambda rows: rows.item(TCB)) is None

    in_setting(tmp_path, action)


def test_collateral_never_rolls_back(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        ledger = at.platform.pcs.ledger
        ledger.advance(at.platform.identity, NOW, ())
        new = await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")
        ledger.evaluation -= 1
        result = await at.made.refresh()
        assert "collateral_rolled_back" in result.failed[str(TCB)]
        assert (await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")).content == new.content

    in_setting(tmp_path, action)


def test_a_refresh_brings_a_tcb_recovery(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")
        at.platform.pcs.ledger.advance(at.platform.identity, NOW, ("EXAMPLE-SA-1",))
        at.clock.time += timedelta(seconds=1)
        answer = await at.client.post(f"{SGX}/refresh", headers={"admin-token": ADMIN})
        assert answer.text == "Operation successful."
        assert b"EXAMPLE-SA-1" in (await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")).content

    in_setting(tmp_path, action)


@pytest.mark.parametrize("mode", [Mode.LAZY, Mode.REQUEST])
def test_a_registration_fetches_all_that_a_verifier_needs(tmp_path: Path, mode: Mode) -> None:
    async def action(at: Setting) -> None:
        answer = await at.client.post(
            f"{SGX}/platforms", json=at.registration, headers={"user-token": USER}
        )
        assert (answer.status_code, answer.text) == (200, "Operation successful.")
        asked = len(at.pcs.paths)
        own = {name: value for name, value in at.pck_query.items() if name != "encrypted_ppid"}
        assert (await at.client.get(f"{SGX}/pckcert", params=own)).status_code == 200
        for path in (f"tcb?fmspc={FMSPC}", "qe/identity", "pckcrl?ca=platform", "rootcacrl"):
            assert (await at.client.get(f"{SGX}/{path}")).status_code == 200
        assert len(at.pcs.paths) == asked
        refreshed = await at.made.refresh(certificates=True, fmspcs=[FMSPC])
        assert not refreshed.failed

    in_setting(tmp_path, action, mode=mode)


def test_request_mode_asks_upstream_for_registrations_alone(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        assert (await at.client.get(f"{SGX}/tcb?fmspc={FMSPC}")).status_code == 404
        assert (await at.client.get(f"{SGX}/pckcert", params=at.pck_query)).status_code == 461
        assert not at.pcs.paths

    in_setting(tmp_path, action, mode=Mode.REQUEST)


def test_a_multi_package_platform_is_registered_by_its_manifest(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        manifest = at.platform.identity.platform_id.hex() + "00" * 64
        posted = {"qe_id": QE_ID, "pce_id": "0000", "platform_manifest": manifest}
        token = {"user-token": USER}
        zeros = at.registration | {"enc_ppid": "00" * 384}
        answer = await at.client.post(f"{SGX}/platforms", json=zeros, headers=token)
        assert answer.status_code == 404
        assert "/pckcerts" not in " ".join(at.pcs.paths)  # zeros are known to be no PPID
        answer = await at.client.post(f"{SGX}/platforms", json=posted, headers=token)
        assert answer.status_code == 200
        own = {name: value for name, value in at.pck_query.items() if name != "encrypted_ppid"}
        assert (await at.client.get(f"{SGX}/pckcert", params=own)).status_code == 200

    in_setting(tmp_path, action)


def test_an_offline_pccs_can_not_be_refreshed(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        answer = await at.client.get(f"{SGX}/refresh", headers={"admin-token": ADMIN})
        assert answer.status_code == 503

    in_setting(tmp_path, action, mode=Mode.OFFLINE)


def test_a_pccs_can_be_the_upstream_of_another(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        middle: Any = application(at.made)
        outer = service(
            tmp_path, at.clock, mode=Mode.LAZY, upstream=upstream_of(middle), root=at.made.root,
            name="outer",
        )  # fmt: skip
        async with asking(application(outer)) as client:
            for path in (f"tcb?fmspc={FMSPC}", "qe/identity", "pckcrl?ca=platform", "rootcacrl"):
                ours, theirs = [await each.get(f"{SGX}/{path}") for each in (client, at.client)]
                assert ours.content == theirs.content
            answer = await client.get(f"{SGX}/pckcert", params=at.pck_query)
            assert answer.status_code == 200
            other_tcb = at.pck_query | {"cpusvn": "ff" * 16}
            answer = await client.get(f"{SGX}/pckcert", params=other_tcb)
            assert answer.status_code == 200
        with pytest.raises(StatusError):
            await outer.item(Key(Kind.IDENTITY, "qve/standard"))

    in_setting(tmp_path, action)


class Lacking:
    """A PCS that lacks the certificate of a TCB, and maybe all others too."""

    def __init__(self, app: Any, *, everything: bool) -> None:
        self._app, self._everything = app, everything

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_more(message: Any) -> None:
            if message["type"] == "http.response.body" and scope["path"].endswith("/pckcerts"):
                told = [] if self._everything else json.loads(message["body"])
                told.append({"tcbm": "FF" * 16 + "0D00", "cert": "Not available"})
                message["body"] = json.dumps(told).encode()
            if message["type"] == "http.response.start":
                kept = [each for each in message["headers"] if each[0] != b"content-length"]
                message["headers"] = kept
            await send(message)

        await self._app(scope, receive, send_more)


def test_a_tcb_without_a_certificate_waits_for_the_admin(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        at.pcs._app = Lacking(at.pcs._app, everything=False)
        token, admin = {"user-token": USER}, {"admin-token": ADMIN}
        answer = await at.client.post(f"{SGX}/platforms", json=at.registration, headers=token)
        assert answer.status_code == 200
        waiting = await at.client.get(f"{SGX}/platforms?source=reg_na", headers=admin)
        assert [each["cpu_svn"] for each in waiting.json()] == ["FF" * 16]
        assert (await at.client.get(f"{SGX}/platforms", headers=admin)).json() == []

    in_setting(tmp_path, action, mode=Mode.REQUEST)


def test_a_platform_without_any_certificate_is_told_so(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        at.pcs._app = Lacking(at.pcs._app, everything=True)
        answer = await at.client.get(f"{SGX}/pckcert", params=at.pck_query)
        assert answer.status_code == 462
        assert answer.text == "Certificates are not available for certain TCBs."

    in_setting(tmp_path, action)


def test_everything_is_fetched_anew_regularly(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        await at.client.get(f"{SGX}/qe/identity")
        regular = asyncio.ensure_future(refresh_regularly(at.made, 1e-6))
        async with asyncio.timeout(20):
            while at.asked("/qe/identity") < 3:
                await asyncio.sleep(0.01)
        regular.cancel()

    in_setting(tmp_path, action)


def test_an_answer_without_end_is_no_answer(tmp_path: Path) -> None:
    async def action(at: Setting) -> None:
        async def endless(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(9):
                part = {"type": "http.response.body", "body": bytes(1 << 20), "more_body": True}
                await send(part)
            await send({"type": "http.response.body", "body": b""})

        at.pcs._app = endless
        assert (await at.client.get(f"{SGX}/rootcacrl")).status_code == 502

    in_setting(tmp_path, action)
