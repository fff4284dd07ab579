# SPDX-License-Identifier: Apache-2.0
"""Real evidence, read from the folder that ENSCONCE_CORPUS names; nothing of it is kept here."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ensconce.dcap import Collateral

_NAME = os.environ.get("ENSCONCE_CORPUS", "")
CORPUS = Path(_NAME)
CASES = sorted(path.parent for path in CORPUS.glob("*/quote.bin")) if _NAME else []
COMPLETE = [case for case in CASES if (case / "collateral.json").exists()]

needs_corpus = pytest.mark.skipif(
    not CASES, reason="ENSCONCE_CORPUS names no folder with real evidence"
)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_complete_case = pytest.mark.parametrize("case", COMPLETE, ids=lambda case: case.name)


def quote_of(case: Path) -> bytes:
    """Return a case's quote."""
    return (case / "quote.bin").read_bytes()


def facts_of(case: Path) -> dict[str, Any]:
    """Return what is known of a case."""
    facts: dict[str, Any] = json.loads((case / "meta.json").read_text())
    return facts


def time_of(case: Path) -> datetime:
    """Return the time at which a case is to be looked at."""
    return datetime.fromtimestamp(facts_of(case)["check_time"], UTC)


def collateral_of(case: Path) -> Collateral:
    """Return a case's collateral."""
    return Collateral.parse((case / "collateral.json").read_bytes())


def signed_in(path: Path, key: str) -> tuple[str, str]:
    """Return the text under a key of a PCS answer, byte for byte, and its signature."""
    text = path.read_text()
    start = text.index("{", text.index(f'"{key}"'))
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end], json.loads(text)["signature"]
