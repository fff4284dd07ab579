# SPDX-License-Identifier: Apache-2.0
"""SGX_VISIBLE_DEVICES: which devices a container was given, in a variable that always fits.

Linux takes no environment string over 128 KiB: with a device for each MiB, as the vendor's plugin
lists them, a container of some 23 GiB can't start a process. So there are three forms, and the
shortest that is also the plainest is taken: the list `0,1,2`; ranges `0-4095,8192`; and, where
devices lie scattered, a bitmap `bitmap:<base64>` whose bit n (of byte n/8, lowest first) is n's.
"""

import base64
from collections.abc import Iterable, Sequence

__all__ = ["LONGEST_LIST", "LONGEST_RANGES", "MOST_DEVICES", "runs", "visible_devices"]

LONGEST_LIST = 32 << 10
LONGEST_RANGES = 64 << 10
MOST_DEVICES = 150_000  # with health and NUMA node each takes 25 bytes of the kubelet's 4 MiB
_BITMAP = "bitmap:"


def visible_devices(indices: Sequence[int]) -> str:
    """Return the variable's text for devices by number, in the order given where it is a list."""
    plain = ",".join(map(str, indices))
    if len(plain) <= LONGEST_LIST:
        return plain
    ranges = ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in runs(indices)
    )
    if len(ranges) <= LONGEST_RANGES:
        return ranges
    bits = bytearray(max(indices) // 8 + 1)
    for index in indices:
        bits[index // 8] |= 1 << index % 8
    return _BITMAP + base64.b64encode(bits).decode()


def runs(indices: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Yield the first and last of each run of consecutive numbers, in ascending order."""
    first = last = -1
    for index in sorted(set(indices)):
        if index != last + 1 or first < 0:
            if first >= 0:
                yield first, last
            first = index
        last = index
    if first >= 0:
        yield first, last
