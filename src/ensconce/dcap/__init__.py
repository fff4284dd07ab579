# SPDX-License-Identifier: Apache-2.0
"""DCAP attestation: is a quote genuine (`verify`), and is it what I want (`validate`)?

Pure: no clock, no network (but in `client`), no emulator. `check_collateral` checks a set of
collateral once; `Cache` remembers what was checked, `Watermarks` the numbers that may only rise.
"""

from ensconce.dcap.cache import Cache
from ensconce.dcap.collateral import Collateral
from ensconce.dcap.epoch import Epoch, check_collateral
from ensconce.dcap.forecast import Outlook, forecast
from ensconce.dcap.policy import Policy, parse_policy
from ensconce.dcap.quote import Quote
from ensconce.dcap.roots import INTEL_ROOT, Root
from ensconce.dcap.validate import Mismatch, validate
from ensconce.dcap.verdict import Claims, Reason, TcbStatus, Verdict
from ensconce.dcap.verify import verify
from ensconce.dcap.watermarks import Watermarks

__all__ = [
    "INTEL_ROOT",
    "Cache",
    "Claims",
    "Collateral",
    "Epoch",
    "Mismatch",
    "Outlook",
    "Policy",
    "Quote",
    "Reason",
    "Root",
    "TcbStatus",
    "Verdict",
    "Watermarks",
    "check_collateral",
    "forecast",
    "parse_policy",
    "validate",
    "verify",
]
