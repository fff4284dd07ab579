# SPDX-License-Identifier: Apache-2.0
"""REPORTs as an enclave's EREPORT makes them, for tests that need no enclave."""

from dataclasses import replace

from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.report import Report, ReportBody, TargetInfo
from ensconce.machine.identity import Identity
from ensconce.machine.keys import KeyHierarchy
from ensconce.platform.quoting import report_mac

__all__ = ["report_of"]

_BODY = ReportBody(
    attributes=Attributes(AttributeFlags.INIT | AttributeFlags.MODE64BIT, Xfrm.LEGACY),
    mr_enclave=b"\xe1" * 32,
    mr_signer=b"\x51" * 32,
    report_data=b"\xda" * 64,
)
_KEY_ID = b"\x1d" * 32


def report_of(platform: Identity, target: TargetInfo) -> Report:
    """Return a REPORT of an enclave on a platform, for a target."""
    body = replace(_BODY, cpu_svn=platform.cpu_svn)
    return Report(body, _KEY_ID, report_mac(KeyHierarchy(platform), body, target, _KEY_ID))
