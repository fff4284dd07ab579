# SPDX-License-Identifier: Apache-2.0
import contextlib
import io
import struct
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.oci.building import tar_of

from ensconce.errors import ConfigError, FormatError
from ensconce.oci.tar import Member, MemberKind, TarWalk
from ensconce.oci.tree import Entry, Kind, Tree, write_tar

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3)


def walk(content: bytes, limit: int = 1 << 30) -> list[Member]:
    return list(TarWalk(io.BytesIO(content), "layer", limit))


@given(st.dictionaries(PATHS.map("/".join), st.binary(max_size=2000), max_size=5))
def test_what_is_written_is_read_again(contents: dict[str, bytes]) -> None:
    files = Tree()
    for path, content in contents.items():
        with contextlib.suppress(ConfigError):  # a file in a file
            files.file(path, content)
    reader = TarWalk(io.BytesIO(write_tar(files, 0)), "layer", 1 << 30)
    found = {
        each.path: Entry(Kind.FILE, each.mode, reader.read())
        for each in reader
        if each.kind is MemberKind.FILE
    }
    assert found == {p: e for p, e in files if e.kind is Kind.FILE}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_come_in_every_format(form: int) -> None:
    path = "/".join(["folder" * 20] * 3)
    assert [each.path for each in walk(tar_of(path, b"x", form=form))] == [path]


def test_a_member_that_nobody_reads_is_passed_over() -> None:
    files = Tree()
    files.file("a", b"x" * 3_000_000)
    files.file("b", b"y")
    assert [each.path for each in walk(write_tar(files, 0))] == ["a", "b"]


@pytest.mark.parametrize("path", ["../etc/passwd", "a/../../b", "/../x"])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    with pytest.raises(FormatError, match="which leads out of it"):
        walk(tar_of(path))


def test_a_hard_link_that_leads_out_is_refused() -> None:
    with pytest.raises(FormatError, match="which leads out of it"):
        walk(tar_of("a", type=tarfile.LNKTYPE, linkname="../../etc/shadow"))


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({"size": "-1024"}, "a member of size"),
        ({"size": "9" * 18}, "is larger than"),
        ({"GNU.sparse.major": "1"}, "a sparse file"),
        ({"comment": "x" * 70000}, "an extended header of"),
        ({"path": "../x"}, "which leads out"),
    ],
)
def test_a_pax_header_of_no_honest_archive_is_refused(headers: Any, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        walk(tar_of("a", b"x", pax_headers=headers))


def test_a_global_header_that_renames_all_is_refused() -> None:
    stream = io.BytesIO()
    options: Any = {"format": tarfile.PAX_FORMAT, "pax_headers": {"path": "etc/passwd"}}
    with tarfile.open(fileobj=stream, mode="w", **options) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    with pytest.raises(FormatError, match="the same path for all members"):
        walk(stream.getvalue())


def test_an_archive_that_was_cut_or_changed_is_refused() -> None:
    content = tar_of("a", b"x" * 5000)
    with pytest.raises(FormatError, match="ends too early"):
        walk(content[:1500])
    with pytest.raises(FormatError, match="checksum is wrong"):
        walk(b"b" + content[1:])
    with pytest.raises(FormatError, match="is larger than 1000 bytes"):
        walk(content, 1000)


def test_a_size_in_base_256_that_is_negative_is_refused() -> None:
    content = bytearray(tar_of("a", b"x"))
    content[124:136] = b"\xff" * 12
    content[148:156] = b" " * 8
    content[148:156] = struct.pack("8s", b"%06o\0 " % sum(content[:512]))
    with pytest.raises(FormatError, match="has a header with the number"):
        walk(bytes(content))
