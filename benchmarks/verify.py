# SPDX-License-Identifier: Apache-2.0
"""Verifications per second, by how much is remembered, beside raw P-256 and dcap-qvl if it is here.

Takes a folder with a real quote and its collateral, as the tests do: ENSCONCE_CORPUS.
"""

import importlib
import json
import os
import time
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from ensconce.dcap import Cache, Collateral, check_collateral, verify
from ensconce.dcap.verify import QuotingEnclave

CASE = "sgx-v3-00606a000000-268c0681-eval17-2025-08-15"
SECONDS = 1.0
_T = TypeVar("_T")


class Platforms(Cache):
    """A cache that forgets quoting enclaves."""

    def get(self, kind: type[_T], key: Hashable, now: datetime, check: Callable[[], _T]) -> _T:
        """Return what the cache has, or for a quoting enclave what the check returns."""
        return check() if kind is QuotingEnclave else super().get(kind, key, now, check)


def rate(work: Callable[[], object]) -> float:
    """Return how often work is done in a second."""
    work()
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        work()
        count += 1
    return count / spent


def main() -> None:
    """Measure and print, one line for each."""
    corpus = os.environ.get("ENSCONCE_CORPUS")
    if not corpus:
        print("ENSCONCE_CORPUS names no folder with real evidence: nothing to measure")
        return
    case = Path(corpus) / CASE
    quote, text = (case / "quote.bin").read_bytes(), (case / "collateral.json").read_bytes()
    seconds = json.loads((case / "meta.json").read_text())["check_time"]
    now, collateral = datetime.fromtimestamp(seconds, UTC), Collateral.parse(text)
    epoch = check_collateral(collateral, now)
    platforms, everything = Platforms(), Cache()
    key, algorithm, body = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(SHA256()), bytes(432)
    signature, public = key.sign(body, algorithm), key.public_key()
    works: dict[str, Callable[[], object]] = {
        "raw P-256 verification": lambda: public.verify(signature, body, algorithm),
        "nothing remembered": lambda: verify(quote, collateral, now),
        "collateral checked": lambda: verify(quote, epoch, now),
        "platform known": lambda: verify(quote, epoch, now, cache=platforms),
        "quoting enclave known": lambda: verify(quote, epoch, now, cache=everything),
    }
    try:
        peer = importlib.import_module("dcap_qvl")
        parsed = peer.QuoteCollateralV3.from_json(text.decode())
        works["dcap-qvl"] = lambda: peer.verify(quote, parsed, seconds)
    except ImportError:
        print("dcap-qvl is not installed: no peer")
    raw = 0.0
    for name, work in works.items():
        found = rate(work)
        raw = raw or found
        print(f"{name:24} {found:9.0f} /s {found / raw:7.3f} x raw")


if __name__ == "__main__":
    main()
