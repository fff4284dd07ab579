# SPDX-License-Identifier: Apache-2.0
"""ensconce as the suite's COMMAND: `python ours.py verify quote.bin collateral.json root_ca.der`.

With $ENSCONCE_WATERMARKS naming a file it remembers the collateral's numbers from one run to the
next. The test of the suite calls `judge` without a process between.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from ensconce.dcap import (
    Collateral,
    Policy,
    Root,
    TcbStatus,
    Watermarks,
    validate,
    verify,
)
from ensconce.dcap.policy import TcbPolicy
from ensconce.errors import FormatError

__all__ = ["judge"]

_FORMAT = "format"
_GENUINE = "genuine"
_ANY_STATUS = TcbPolicy(tuple(status for status in TcbStatus if status is not TcbStatus.REVOKED))


def judge(
    quote: bytes,
    collateral: bytes,
    root: bytes,
    now: datetime,
    watermarks: Watermarks | None = None,
) -> tuple[str, str]:
    """Return the stable code for evidence, and its TCB status where that is known.

    What is genuine is compared with a policy that names the root where it is not Intel's, and
    takes any TCB status that is not Revoked: the suite asks for the status itself.
    """
    try:
        trusted = Root.parse(root)
        verdict = verify(
            quote, Collateral.parse(collateral), now, roots=(trusted,), watermarks=watermarks
        )
    except FormatError:
        return _FORMAT, ""
    status = verdict.tcb_status.value if verdict.tcb_status else ""
    if verdict.claims is None:
        return verdict.reason.value, status
    emulated = None if trusted.production else trusted.fingerprint
    mismatches = validate(verdict.claims, Policy(tcb=_ANY_STATUS, accept_emulated_root=emulated))
    return mismatches[0].key if mismatches else _GENUINE, status


def main(arguments: list[str]) -> int:
    """Verify three files; return the exit code."""
    if len(arguments) != 4 or arguments[0] != "verify":
        print(__doc__, file=sys.stderr)
        return 2
    quote, collateral, root = (Path(name).read_bytes() for name in arguments[1:])
    kept = os.environ.get("ENSCONCE_WATERMARKS")
    watermarks = Watermarks.load(Path(kept)) if kept else None
    reason, status = judge(quote, collateral, root, datetime.now(UTC), watermarks)
    if kept and watermarks:
        watermarks.save(Path(kept))
    print(json.dumps({"reason": reason, "tcb_status": status}))
    return {_GENUINE: 0, _FORMAT: 2}.get(reason, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
