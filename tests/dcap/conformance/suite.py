# SPDX-License-Identifier: Apache-2.0
"""All cases of the conformance suite."""

from tests.dcap.conformance.collateral_attacks import COLLATERAL_ATTACKS
from tests.dcap.conformance.known import KNOWN
from tests.dcap.conformance.quote_attacks import QUOTE_ATTACKS

__all__ = ["CASES", "KNOWN"]

CASES = [*KNOWN, *COLLATERAL_ATTACKS, *QUOTE_ATTACKS]
