# SPDX-License-Identifier: Apache-2.0
"""Fuzz what a PCCS reads: bundles, registrations, policies, CRLs and queries."""

import contextlib
import sys
import warnings
from datetime import UTC, datetime

import atheris

with atheris.instrument_imports():
    from ensconce.dcap import INTEL_ROOT
    from ensconce.errors import EnsconceError
    from ensconce.pccs.bundle import read_bundle
    from ensconce.pccs.checks import Trust, check_item
    from ensconce.pccs.documents import read_appraisal_policy, read_registration
    from ensconce.pccs.endpoints import ENDPOINTS
    from ensconce.pccs.items import ROOT_CRL
    from ensconce.pccs.web import read_query

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def one_input(data: bytes) -> None:
    for read in (read_bundle, read_registration, read_appraisal_policy):
        with contextlib.suppress(EnsconceError):
            read(data)
    with contextlib.suppress(EnsconceError):
        check_item(ROOT_CRL, data, "", Trust(INTEL_ROOT, None), NOW)
    for endpoint in ENDPOINTS:
        with contextlib.suppress(EnsconceError):
            read_query(endpoint, data)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # cryptography's, of what it will refuse one day
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
