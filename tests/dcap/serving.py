# SPDX-License-Identifier: Apache-2.0
"""A PCCS of one platform's collateral, without a network."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.dcap.corpus import collateral_of

from ensconce.dcap.client import Answer


class Pccs:
    """Answers with one case's collateral, and notes what it was asked."""

    def __init__(self, case: Path, date: str = "") -> None:
        self.collateral = collateral_of(case)
        self.asked: list[str] = []
        self.date = {"date": date} if date else {}

    def __call__(self, url: str) -> Answer:
        self.asked.append(url)
        path, found = urlsplit(url).path, self.collateral
        if path.endswith("/pckcrl"):
            return _answer(found.pck_crl, {"sgx-pck-crl-issuer-chain": found.pck_crl_issuer_chain})
        if path.endswith("/rootcacrl"):
            return Answer(found.root_ca_crl.hex().encode(), self.date)
        if path.endswith("/tcb"):
            body = _signed("tcbInfo", found.tcb_info, found.tcb_info_signature)
            return _answer(body, {"tcb-info-issuer-chain": found.tcb_info_issuer_chain})
        body = _signed("enclaveIdentity", found.qe_identity, found.qe_identity_signature)
        chain = found.qe_identity_issuer_chain
        return _answer(body, {"sgx-enclave-identity-issuer-chain": chain})


def _answer(body: bytes, chains: Mapping[str, bytes]) -> Answer:
    return Answer(body, {name: quote(chain.decode()) for name, chain in chains.items()})


def _signed(name: str, text: bytes, signature: bytes) -> bytes:
    return b'{"%s":%s,"signature":"%s"}' % (name.encode(), text, signature.hex().encode())
