# SPDX-License-Identifier: Apache-2.0
import io
import tarfile
from pathlib import Path

import pytest

from ensconce.errors import ConfigError
from ensconce.oci.archive import build_time, make_layer
from ensconce.oci.tree import Tree, write_tar


def some_files() -> Tree:
    files = Tree()
    files.file("usr/bin/app", b"\x7fELF", program=True)
    files.file("etc/app.conf", b"x = 1\n")
    files.link("bin", "usr/bin")
    files.folder("home/user", mode=0o700, owner=65532)
    return files


def members(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {each.name: each for each in archive.getmembers()}


def test_a_layer_has_folders_first_and_says_nothing_of_who_made_it() -> None:
    found = members(write_tar(some_files(), 7))
    assert list(found)[:3] == ["bin", "etc", "etc/app.conf"]
    assert found["usr/bin/app"].mode == 0o755
    assert found["home/user"].uid == found["home/user"].gid == 65532
    assert {each.mtime for each in found.values()} == {7}
    assert {each.uname + each.gname for each in found.values()} == {""}
    assert not any(each.pax_headers for each in found.values())


def test_the_order_in_which_files_came_does_not_show() -> None:
    backwards = Tree(dict(reversed(some_files().entries.items())))
    assert make_layer(backwards, 0) == make_layer(some_files(), 0)


def test_files_are_the_same_wherever_and_by_whomever_they_were_written(tmp_path: Path) -> None:
    layers = []
    for name, mode in (("a", 0o600), ("b", 0o666)):
        (tmp_path / name / "app").mkdir(parents=True)
        (tmp_path / name / "app" / "file").write_bytes(b"content")
        (tmp_path / name / "app" / "file").chmod(mode)
        files = Tree()
        files.copy(tmp_path / name, "srv")
        layers.append(make_layer(files, 0))
    assert layers[0] == layers[1]


@pytest.mark.parametrize("path", ["../etc/passwd", "a/../../b", "/", "", "a\0b"])
def test_a_path_that_leads_out_of_the_image_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="is no path for a file in an image"):
        Tree().file(path, b"")


def test_a_file_has_no_files_in_it() -> None:
    files = some_files()
    with pytest.raises(ConfigError, match="can't be a file and have"):
        files.file("etc/app.conf/more", b"")


def test_a_build_time_is_a_number_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert build_time() == 1700000000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ConfigError, match="set it to a number of seconds"):
        build_time()
