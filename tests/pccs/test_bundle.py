# SPDX-License-Identifier: Apache-2.0
"""Collateral carried in one file: taken over whole once it is genuine, or not at all."""

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dcap.corpus import needs_corpus, time_of
from tests.pccs.serving import (
    ADMIN,
    CASE,
    FMSPC,
    NEWER,
    QE_ID,
    SGX,
    TCB_KEY,
    Clock,
    application,
    asking,
    collateral_bundle,
    filled,
    platform_bundle,
    service,
)

from ensconce.errors import EnsconceError, FormatError, VerificationError
from ensconce.pccs import Bundle, Service, read_bundle, write_bundle
from ensconce.pccs.items import Item
from ensconce.pccs.store import Known


def contents(made: Service) -> tuple[list[Item], list[Known]]:
    """Return what a PCCS keeps."""
    with made.store.reading() as rows:
        return rows.items(), rows.all_known()


def exported(made: Service) -> bytes:
    """Return a PCCS's export."""
    items, platforms = contents(made)
    return write_bundle(items, platforms, [])


def keep(made: Service, bundle: Bundle) -> int:
    """Take over a bundle."""
    return asyncio.run(made.keep(bundle.items, bundle.platforms, bundle.policies))


@needs_corpus
def test_an_export_makes_another_pccs_the_same(tmp_path: Path) -> None:
    first = asyncio.run(filled(tmp_path, CASE))
    second = service(tmp_path, Clock(time_of(CASE)), name="other")
    assert keep(second, read_bundle(exported(first))) == 5
    assert contents(second) == contents(first)
    assert exported(second) == exported(first)
    assert keep(second, read_bundle(exported(first))) == 0


@needs_corpus
@pytest.mark.parametrize(
    ("part", "number"),
    [*(("body", number) for number in range(4)), ("chain", 0), ("chain", 1), ("chain", 3)],
)
def test_a_bundle_with_one_false_item_changes_nothing(
    tmp_path: Path, part: str, number: int
) -> None:
    fields = json.loads(exported(asyncio.run(filled(tmp_path, CASE))))
    item = fields["items"][number]
    half = len(item[part]) // 2
    item[part] = (
        item[part][:half] + ("A" if item[part][half] != "A" else "B") + item[part][half + 1 :]
    )
    other = service(tmp_path, Clock(time_of(CASE)), name="other")
    with pytest.raises((FormatError, VerificationError)):
        keep(other, read_bundle(json.dumps(fields).encode()))
    assert contents(other) == ([], [])


@needs_corpus
def test_a_bundle_that_is_older_than_what_is_kept_is_refused_whole(tmp_path: Path) -> None:
    made = asyncio.run(filled(tmp_path, NEWER))
    before = contents(made)
    made.clock = Clock(time_of(CASE))  # an attacker may also turn back the clock
    with pytest.raises(VerificationError, match="collateral_rolled_back"):
        keep(made, platform_bundle(CASE))
    assert contents(made) == before


@needs_corpus
def test_an_expired_bundle_is_refused(tmp_path: Path) -> None:
    made = service(tmp_path, Clock(time_of(NEWER)))
    with pytest.raises(VerificationError, match="validity"):
        keep(made, collateral_bundle(CASE))


@needs_corpus
def test_items_can_not_come_before_their_root_crl(tmp_path: Path) -> None:
    made = service(tmp_path, Clock(time_of(CASE)))
    rest = [item for item in collateral_bundle(CASE).items if item[0].name != "root"]
    with pytest.raises(FormatError, match="root's CRL"):
        keep(made, Bundle(rest, [], []))


def vendors_file() -> dict[str, object]:
    """Return a case's collateral as the vendor's admin tool collects it."""
    bundle = platform_bundle(CASE)
    texts = {str(key): (body, chain) for key, body, chain in bundle.items}
    known = bundle.platforms[0]
    tcb, tcb_chain = texts[str(TCB_KEY)]
    identity, identity_chain = texts["identity qe/standard"]
    crl, crl_chain = texts["pckcrl platform"]
    one = known.pcks.certificates[0]
    own = {"qe_id": QE_ID, "pce_id": "0000", "enc_ppid": ""}
    return {
        "platforms": [own | {"cpu_svn": known.platform.cpu_svn, "pce_svn": known.platform.pce_svn}],
        "collaterals": {
            "version": 4,
            "pck_certs": [own | {"certs": [{"tcb": {}, "tcbm": one.tcbm, "cert": quote(one.pem)}]}],
            "tcbinfos": [{"fmspc": FMSPC, "sgx_tcbinfo": json.loads(tcb)}],
            "pckcacrl": {"processorCrl": "", "platformCrl": crl.hex()},
            "qeidentity": identity.decode(),
            "certificates": {
                "SGX-PCK-Certificate-Issuer-Chain": {"PROCESSOR": "", "PLATFORM": quote(crl_chain)},
                "TCB-Info-Issuer-Chain": quote(tcb_chain),
                "SGX-Enclave-Identity-Issuer-Chain": quote(identity_chain),
            },
            "rootcacrl": texts["rootcacrl"][0].hex(),
        },
    }


@needs_corpus
def test_the_vendors_admin_tool_can_fill_an_offline_pccs(tmp_path: Path) -> None:
    made = service(tmp_path, Clock(time_of(CASE)))

    async def run() -> None:
        async with asking(application(made)) as client:
            admin = {"admin-token": ADMIN}
            put = await client.put(f"{SGX}/platformcollateral", json=vendors_file(), headers=admin)
            assert (put.status_code, put.text) == (200, "Operation successful.")
            tcb = await client.get(f"{SGX}/tcb?fmspc={FMSPC}")
            wanted = {str(key): body for key, body, _ in collateral_bundle(CASE).items}
            assert tcb.content == wanted[str(TCB_KEY)]
            bad = vendors_file()
            bad["collaterals"]["tcbinfos"][0]["sgx_tcbinfo"]["tcbInfo"]["tcbType"] = 1  # type: ignore[index]
            put = await client.put(f"{SGX}/platformcollateral", json=bad, headers=admin)
            assert (put.status_code, put.text) == (
                460,
                "The integrity of the data can't be verified.",
            )

    asyncio.run(run())


@given(st.binary(max_size=200) | st.from_regex(rb'\{"(ensconce_pccs|collaterals)":.{0,80}\}'))
def test_what_is_no_bundle_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(EnsconceError):
        read_bundle(data)


@needs_corpus
@pytest.mark.parametrize("foreign", ["\ud800", "\0", "é"])
def test_text_around_certificates_is_plain_or_refused(tmp_path: Path, foreign: str) -> None:
    fields = json.loads(exported(asyncio.run(filled(tmp_path, CASE))))
    other = service(tmp_path, Clock(time_of(CASE)), name="other")
    for holder, part in (
        (fields["items"][0], "chain"),
        (fields["platforms"][0], "chain"),
        (fields["platforms"][0]["certificates"][0], "pem"),
    ):
        before = holder[part]
        holder[part] = foreign + before
        with pytest.raises(FormatError, match="plain ASCII"):
            keep(other, read_bundle(json.dumps(fields).encode()))
        holder[part] = before
