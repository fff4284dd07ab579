# SPDX-License-Identifier: Apache-2.0
"""MRENCLAVE beside an independent, plain version of the same hash."""

import hashlib
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from ensconce.isa import measurement
from ensconce.isa.measurement import Measurement


@dataclass(frozen=True)
class Page:
    offset: int
    flags: int
    content: bytes | None


def plain(size: int, ssa_frame_size: int, pages: list[Page]) -> bytes:
    """Hash the records one by one, as the manual's pseudo code reads."""
    digest = hashlib.sha256()
    digest.update(
        b"ECREATE\0" + ssa_frame_size.to_bytes(4, "little") + size.to_bytes(8, "little") + bytes(44)
    )
    for page in pages:
        digest.update(
            b"EADD\0\0\0\0"
            + page.offset.to_bytes(8, "little")
            + page.flags.to_bytes(8, "little")
            + bytes(40)
        )
        for chunk in range(0, 4096, 256) if page.content is not None else ():
            digest.update(b"EEXTEND\0" + (page.offset + chunk).to_bytes(8, "little") + bytes(48))
            digest.update((page.content or b"")[chunk : chunk + 256])
    return digest.digest()


RUNS = st.lists(
    st.tuples(
        st.integers(0, 1 << 20), st.sampled_from((0x203, 0x205, 0x100)), st.integers(1, 70)
    ).flatmap(
        lambda run: st.tuples(
            st.just(run[0] * 4096), st.just(run[1]), st.just(run[2]), st.sampled_from((b"", b"ab"))
        )
    ),
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(runs=RUNS)
def test_runs_of_pages_measure_as_single_records_do(
    runs: list[tuple[int, int, int, bytes]],
) -> None:
    running = Measurement(1 << 32, 1)
    pages = []
    for offset, flags, count, seed in runs:
        content = bytes(seed * (count * 2048)) if seed else None
        running.add_pages(offset, flags, content, count)
        for index in range(count):
            part = None if content is None else content[index * 4096 : (index + 1) * 4096]
            pages.append(Page(offset + index * 4096, flags, part))
    assert running.digest() == plain(1 << 32, 1, pages)


def test_one_chunk_at_a_time_measures_as_a_whole_page() -> None:
    content = bytes(range(256)) * 16
    whole, parts = Measurement(8192, 1), Measurement(8192, 1)
    whole.add_pages(4096, 0x203, content, 1)
    parts.add(4096, 0x203)
    for chunk in range(0, 4096, 256):
        parts.extend(4096 + chunk, content[chunk : chunk + 256])
    assert whole.digest() == parts.digest()


def test_a_copy_goes_its_own_way() -> None:
    first = Measurement(8192, 1)
    second = first.copy()
    second.add_pages(0, 0x203, bytes(4096), 1)
    assert first.digest() != second.digest()
    assert first.digest() == Measurement(8192, 1).digest()


@given(count=st.integers(1, 5), measured=st.booleans(), offset=st.integers(0, 1 << 40))
def test_the_native_records_are_the_python_ones(count: int, measured: bool, offset: int) -> None:
    pages = bytes(range(256)) * 16 * count if measured else None
    fast, slow = bytearray(count * 5184), bytearray(count * 5184)
    length = measurement.fill(fast, offset, 0x203, pages, count)
    assert length == measurement.fill_measurement(slow, offset, 0x203, pages, count)
    assert fast == slow
