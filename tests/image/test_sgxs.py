# SPDX-License-Identifier: Apache-2.0
"""SGXS files: written and read back, partly measured pages, streams that are not canonical."""

import hashlib
import io
import struct
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from ensconce.errors import FormatError
from ensconce.image import (
    Mode,
    PageRun,
    SgxsImage,
    check_image,
    key_signer,
    measure_runs,
    open_image,
    sign_sigstruct,
    write_sgxs,
)
from ensconce.isa.attributes import AttributeFlags, Attributes, Xfrm
from ensconce.isa.sigstruct import SigStruct

SIZE = 1 << 24
RX, RW, TCS = 0x205, 0x203, 0x100


def create(size: int = SIZE, frame: int = 1, tag: bytes = b"ECREATE\0") -> bytes:
    return struct.pack("<8sIQ44x", tag, frame, size)


def add(offset: int, flags: int = RW) -> bytes:
    return struct.pack("<8sQQ40x", b"EADD", offset, flags)


def chunk(offset: int, fill: int = 1, tag: bytes = b"EEXTEND\0") -> bytes:
    return struct.pack("<8sQ48x", tag, offset) + bytes([fill]) * 256


def parse(content: bytes) -> SgxsImage:
    return SgxsImage.parse(memoryview(content), source="e.sgxs")


def written(runs: list[PageRun]) -> bytes:
    out = io.BytesIO()
    write_sgxs(out, SIZE, 1, runs)
    return out.getvalue()


@st.composite
def page_runs(draw: st.DrawFn) -> list[PageRun]:
    runs, at = [], 0
    for _ in range(draw(st.integers(0, 6))):
        at += 4096 * draw(st.integers(0, 3))
        count = draw(st.integers(1, 5))
        mask = draw(st.one_of(st.sampled_from((0, 0xFFFF)), st.integers(0, 0xFFFF)))
        random = Random(draw(st.integers(0, 1 << 32)))  # noqa: S311  # page contents
        content = draw(
            st.sampled_from(
                (None, random.randbytes(4096), random.randbytes(4096 * count), bytes(4096))
            )
        )
        runs.append(PageRun(at, count, draw(st.sampled_from((RX, RW, TCS))), content, mask))
        at += 4096 * count
    return runs


def flat(runs: list[PageRun]) -> list[tuple[int, int, bytes, int]]:
    pages = []
    for run in runs:
        for first, count, content in run.chunks():
            for index in range(count):
                page = bytes(4096) if content is None else bytes(content)[index * 4096 :][:4096]
                pages.append((run.offset + (first + index) * 4096, run.flags, page, run.extended))
    return pages


@settings(max_examples=60, deadline=None)
@given(runs=page_runs())
def test_what_is_written_is_read_back_page_by_page(runs: list[PageRun]) -> None:
    assert flat(list(parse(written(runs)).operations())) == flat(runs)


@settings(max_examples=60, deadline=None)
@given(runs=page_runs())
def test_the_hash_of_the_stream_is_the_measurement_of_its_pages(runs: list[PageRun]) -> None:
    image = parse(written(runs))
    assert (
        image.measure() == measure_runs(SIZE, 1, image.operations()) == measure_runs(SIZE, 1, runs)
    )


def test_a_fully_measured_file_measures_to_its_own_hash() -> None:
    content = create() + add(0) + b"".join(chunk(at, at >> 8) for at in range(0, 4096, 256))
    assert parse(content).measure() == hashlib.sha256(content).digest()


def test_unmeasured_bytes_are_loaded_and_not_measured() -> None:
    measured = create() + add(0) + chunk(0x100)
    image = parse(measured + chunk(0x300, 7, b"UNMEASRD") + add(0x2000, RX))
    first, second = image.operations()
    assert image.measure() == hashlib.sha256(measured + add(0x2000, RX)).digest()
    assert first.extended == 0b10
    assert bytes(first.content or b"")[0x300:0x400] == b"\7" * 256
    assert (second.content, second.extended) == (None, 0)


def test_alike_neighbours_become_one_run() -> None:
    content = create() + b"".join(add(at * 4096) for at in range(1000))
    assert [(run.count, run.content) for run in parse(content).operations()] == [(1000, None)]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"ECREATE\0", "no ECREATE block"),
        (create(tag=b"UNSIZED\0"), "UNSIZED"),
        (create(tag=b"NOTHING\0"), "does not start with an ECREATE"),
        (create(size=SIZE + 1), "no power of two"),
        (create(size=1 << 60), "no power of two"),
        (create(frame=0), "no page"),
        (create()[:-1] + b"\1", "reserved bytes"),
        (create() + add(0)[:63], "cut short in a block"),
        (create() + add(0) + chunk(0)[:-1], "cut short in a chunk"),
        (create() + add(0) + create(), "where EADD belongs"),
        (create() + chunk(0), "where EADD belongs"),
        (create() + add(0x123), "none of the enclave's"),
        (create() + add(SIZE), "none of the enclave's"),
        (create() + add((1 << 64) - 4096), "none of the enclave's"),
        (create() + add(0x1000) + add(0), "after a later one"),
        (create() + add(0) + add(0), "after a later one"),
        (create() + add(0, 0x300), "SECINFO flags 0x300"),
        (create() + add(0, 0x103), "SECINFO flags 0x103"),
        (create() + add(0, 0x20203), "SECINFO flags 0x20203"),
        (create() + add(0)[:-1] + b"\1", "SECINFO flags"),
        (create() + add(0) + chunk(0x1000), "out of order"),
        (create() + add(0x1000) + chunk(0), "out of order"),
        (create() + add(0) + chunk(0x80), "out of order"),
        (create() + add(0) + chunk(0x200) + chunk(0x100), "out of order"),
        (create() + add(0) + chunk(0x100) + chunk(0x100), "out of order"),
    ],
)
def test_a_stream_that_is_not_canonical_is_refused(content: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault) as caught:
        parse(content)
    assert "e.sgxs" in str(caught.value)


def test_enclu_across_two_pages_still_means_a_processor() -> None:
    pages = bytearray(8192)
    pages[4094:4097] = b"\x0f\x01\xd7"
    assert parse(written([PageRun(0, 2, RX, bytes(pages), 0xFFFF)])).mode is Mode.HW
    assert parse(written([PageRun(0, 2, RW, bytes(pages), 0xFFFF)])).mode is Mode.SIM


def test_the_sigstruct_beside_a_file_belongs_to_it(tmp_path: Path, key: rsa.RSAPrivateKey) -> None:
    content = written([PageRun(0, 1, TCS, bytes(4096), 0xFFFF)])
    unsigned = SigStruct(
        enclave_hash=parse(content).measure(),
        attributes=Attributes(AttributeFlags.MODE64BIT | AttributeFlags.KSS, Xfrm.LEGACY),
    )
    sigstruct = sign_sigstruct(unsigned, key.public_key(), key_signer(key))
    (tmp_path / "e.sgxs").write_bytes(content)
    assert open_image(tmp_path / "e.sgxs").sigstruct is None
    (tmp_path / "e.sig").write_bytes(bytes(sigstruct))
    image = open_image(tmp_path / "e.sgxs")
    assert check_image(image).mr_signer == sigstruct.mr_signer
    assert image.attributes == unsigned.attributes
    (tmp_path / "e.sig").write_bytes(bytes(sigstruct)[:-1])
    with pytest.raises(FormatError, match="not a SIGSTRUCT of 1808 bytes"):
        open_image(tmp_path / "e.sgxs")


def test_a_given_sigstruct_goes_before_the_file_beside() -> None:
    content = written([])
    other = replace(SigStruct(), isv_svn=5)
    assert open_image(content, sigstruct=other).sigstruct == other
