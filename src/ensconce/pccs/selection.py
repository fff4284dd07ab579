# SPDX-License-Identifier: Apache-2.0
"""Which of a platform's PCK certificates is the best that its present TCB may use.

Certificates are put into one bucket for each TCB level of the SGX TCB info, best level first: each
into the first one whose level it reaches, and into a last one if it reaches none. Within a bucket
higher TCBs come before lower ones. The answer is the first certificate, over all buckets, whose
TCB the platform's own reaches: a platform can't derive the key of a TCB above its own.
"""

from collections.abc import Iterable

from ensconce.dcap.tcb import at_least
from ensconce.dcap.tcb_info import TcbInfo
from ensconce.pccs.items import PckCertificate, TcbKey

__all__ = ["select_pck"]


def select_pck(
    certificates: Iterable[PckCertificate], tcb: TcbKey, info: TcbInfo
) -> PckCertificate | None:
    """Return the best certificate for a platform at a TCB, None if it may use none of them."""
    levels = [(*level.sgx_components, level.pce_svn) for level in info.levels]
    buckets: list[list[tuple[tuple[int, ...], PckCertificate]]] = [
        [] for _ in range(len(levels) + 1)
    ]
    for one in certificates:
        values = TcbKey(one.tcbm[:32], one.tcbm[32:]).values
        reached = (n for n, level in enumerate(levels) if at_least(values, level))
        bucket = buckets[next(reached, len(levels))]
        lower = (n for n, (other, _) in enumerate(bucket) if at_least(values, other))
        bucket.insert(next(lower, len(bucket)), (values, one))
    for bucket in buckets:
        for values, one in bucket:
            if at_least(tcb.values, values):
                return one
    return None
