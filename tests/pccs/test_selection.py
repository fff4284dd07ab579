# SPDX-License-Identifier: Apache-2.0
"""Which PCK certificate is chosen, on Intel's lists for a real platform."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dcap.corpus import CORPUS, needs_corpus

from ensconce.dcap.tcb import at_least
from ensconce.dcap.tcb_info import TcbInfo
from ensconce.pccs import PckCertificate, TcbKey, select_pck

pytestmark = needs_corpus


def told(name: str) -> list[PckCertificate]:
    """Return the list of PCK certificates in a file."""
    entries = json.loads((CORPUS / "pcs" / name).read_text())["pck_data"]
    return [PckCertificate(each["tcbm"], each["cert"]) for each in entries]


def tcb_info() -> TcbInfo:
    """Return the TCB info of that platform's family."""
    fields = json.loads((CORPUS / "pcs" / "00906ea10000.tcb").read_text())
    return TcbInfo.parse(fields["raw_tcb_info"].encode())


NAME = "16a5b41ebb076d263a1e39e64e7175e7.certs"
REST = "00" * 8


# the vendor's own selection gives these answers
@pytest.mark.parametrize(
    ("cpu_svn", "pce_svn", "chosen"),
    [
        ("1414020401800700" + REST, "0D00", "1414020401800700" + REST + "0D00"),
        ("FF" * 16, "FFFF", "1414020401800700" + REST + "0D00"),
        ("1414020401800000" + REST, "0D00", "1414020401800000" + REST + "0D00"),
        ("1414020401800700" + REST, "0C00", "1111020401800700" + REST + "0B00"),
        ("1211020401800700" + REST, "0A00", "1111020401800700" + REST + "0A00"),
        ("0E0E020401800600" + REST, "0A00", "0E0E020401800000" + REST + "0A00"),
        ("00" * 16, "0D00", None),
    ],
)
def test_the_highest_level_that_a_platform_reaches_wins(
    cpu_svn: str, pce_svn: str, chosen: str | None
) -> None:
    found = select_pck(told(NAME), TcbKey(cpu_svn, pce_svn), tcb_info())
    assert (found and found.tcbm) == chosen


@given(st.data())
def test_a_chosen_certificate_is_never_above_the_platform(data: st.DataObject) -> None:
    certificates = told(NAME)
    svns = bytearray(bytes.fromhex(data.draw(st.sampled_from(certificates)).tcbm))
    for place in data.draw(st.lists(st.integers(0, 17), max_size=4)):
        svns[place] = data.draw(st.integers(0, 255))
    tcb = TcbKey(bytes(svns[:16]).hex(), bytes(svns[16:]).hex())
    shuffled = data.draw(st.permutations(certificates))
    found = select_pck(shuffled, tcb, tcb_info())
    usable = [one for one in certificates if at_least(tcb.values, _values(one))]
    assert (found is None) == (not usable)
    assert found is None or found in usable
    assert found == select_pck(certificates, tcb, tcb_info())


def _values(one: PckCertificate) -> tuple[int, ...]:
    """Return a certificate's SVNs."""
    return TcbKey(one.tcbm[:32], one.tcbm[32:]).values
