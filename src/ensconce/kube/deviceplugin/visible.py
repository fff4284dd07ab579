# SPDX-License-Identifier: Apache-2.0
"""SGX_VISIBLE_DEVICES: which devices a container was given, in a variable that always fits.

Linux takes no environment string over 128 KiB: with a device for each MiB, as the vendor's plugin
lists them, a container of some 23 GiB can't start a process. So there are three forms, and the
shortest that is also the plainest is taken: the list `0,1,2`; ranges `0-4095,8192`; and, where
devices lie scattered, a bitmap `bitmap:<base64>` whose bit n (of byte n/8, lowest first) is n's.
"""

import base64
from collections.abc import Iterable, Sequence

from ensconce.errors import FormatError

__all__ = ["LONGEST_LIST", "LONGEST_RANGES", "MOST_DEVICES", "parse_visible", "visible_devices"]

LONGEST_LIST = 32 << 10
LONGEST_RANGES = 64 << 10
MOST_DEVICES = 200_000  # also what a list of devices with topology may have within 4 MiB
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


def parse_visible(text: str) -> list[int]:
    """Return the devices' numbers in any of the forms; FormatError for a text in none."""
    try:
        if text.startswith(_BITMAP):
            bits = base64.b64decode(text.removeprefix(_BITMAP), validate=True)
            return [
                index
                for index in range(min(len(bits) * 8, MOST_DEVICES))
                if bits[index // 8] >> index % 8 & 1
            ]
        return [index for part in text.split(",") if part for index in _range(part)]
    except ValueError as error:
        raise FormatError(
            f"SGX_VISIBLE_DEVICES is none of a list, ranges and a bitmap: {error}",
            source="SGX_VISIBLE_DEVICES",
        ) from error


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


def _range(part: str) -> range:
    """Return the numbers of `a` or `a-b`."""
    first, _, last = part.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers or not 0 <= numbers[0] <= numbers[-1] < MOST_DEVICES:
        raise ValueError(f"{part!r} is no range of devices")
    return numbers
