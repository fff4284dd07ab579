# SPDX-License-Identifier: Apache-2.0
import gzip
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.oci.building import Layout, small_archive, small_image

from ensconce.errors import FormatError
from ensconce.oci.archive import GZIP_LAYER, INDEX_TYPE, write_archive
from ensconce.oci.inspection import inspect_archive
from ensconce.oci.reading import StoredImage, open_archive
from ensconce.oci.tree import Tree, write_tar


def read(path: Path | BinaryIO) -> StoredImage:
    with open_archive(path, "x") as archive:
        return archive.image()


def test_an_image_is_read_as_it_was_written(tmp_path: Path) -> None:
    image = small_image(environment={"A": "1"}, labels={"b": "2"}, annotations={"c": "3"})
    found = read(small_archive(tmp_path, image))
    assert found.name == "docker.io/library/hello:1"
    assert found.entrypoint == ("/app/hello",)
    assert (found.environment, found.labels, found.annotations) == (
        {"A": "1"},
        {"b": "2"},
        {"c": "3"},
    )
    assert [each.diff_id for each in found.layers] == [each.diff_id for each in image.layers]


def test_an_unpacked_layout_is_the_same_image(tmp_path: Path) -> None:
    archive = small_archive(tmp_path)
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "xf", str(archive), "-C", str(tmp_path / "layout")], check=True)
    assert read(tmp_path / "layout") == read(archive)


def test_two_builds_in_two_folders_are_equal_to_the_byte(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_archive(small_image(), tmp_path / name / "image.tar", 0)
    assert (tmp_path / "one/image.tar").read_bytes() == (tmp_path / "two/image.tar").read_bytes()


def test_the_time_of_the_build_is_everywhere(tmp_path: Path) -> None:
    digest = write_archive(small_image(), tmp_path / "image.tar", 1_700_000_000)
    assert digest != write_archive(small_image(), tmp_path / "image.tar", 0)


def test_an_archive_of_another_program_has_no_image(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(write_tar(Tree(), 0))
    with pytest.raises(FormatError, match=r"it has no index\.json"):
        read(tmp_path / "x.tar")


def test_a_layer_of_several_gzip_members_is_read_whole() -> None:
    files, layout = Tree(), Layout()
    files.file("a", b"x" * 5000)
    content = write_tar(files, 0)
    layer = layout.add(gzip.compress(content[:700]) + gzip.compress(content[700:]), GZIP_LAYER)
    layout.config["rootfs"]["diff_ids"] = [f"sha256:{hashlib.sha256(content).hexdigest()}"]
    layout.manifest["layers"] = [layer]
    with open_archive(layout.stream(), "x") as archive:
        assert [each.path for each in archive.files(archive.image().layers[0])] == ["a"]


def test_a_layer_that_unpacks_to_nothing_but_air_is_refused() -> None:
    layout = Layout()
    layout.manifest["layers"] = [layout.add(gzip.compress(b"1" * 2_000_000), GZIP_LAYER)]
    with pytest.raises(FormatError, match="checksum is wrong"):
        inspect_archive(layout.stream(), "x")


Change = Callable[[Layout], Any]
WRONG: dict[str, tuple[Change, str]] = {
    "index": (lambda it: setattr(it, "index", []), "is no JSON object"),
    "manifest": (lambda it: setattr(it, "manifest", [1]), "the manifest is no JSON object"),
    "nothing": (lambda it: it.index.update(manifests=[]), "it holds 0 images"),
    "type": (lambda it: it.manifest.update(config={"mediaType": "x"}), "configuration is of type"),
    "digest": (lambda it: it.layer.update(digest="sha256:../../etc/passwd"), "is no SHA-256"),
    "negative": (lambda it: it.layer.update(size=-1), "negative 'size'"),
    "text": (lambda it: it.layer.update(size="1"), "wrong kind of 'size'"),
    "size": (lambda it: it.layer.update(size=1), "was changed or cut"),
    "missing": (
        lambda it: it.layer.update(digest=f"sha256:{64 * '0'}"),
        "it has no blobs/sha256/0",
    ),
    "diff": (lambda it: it.config["rootfs"].update(diff_ids=[]), "1 layers and names 0"),
    "diff digest": (lambda it: it.config["rootfs"].update(diff_ids=["x"]), "no SHA-256"),
    "env": (lambda it: it.config.update(config={"Env": [1]}), "other than text in 'Env'"),
    "many": (
        lambda it: (
            it.manifest.update(layers=[it.layer] * 129),
            it.config["rootfs"].update(diff_ids=[f"sha256:{64 * '0'}"] * 129),
        ),
        "129 layers",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_layout_that_is_wrong_is_refused_in_a_sentence(name: str) -> None:
    change, fault = WRONG[name]
    layout = Layout()
    change(layout)
    with pytest.raises(FormatError, match=fault):
        inspect_archive(layout.stream(), "x.tar")


def test_an_index_that_points_to_itself_for_ever_is_left() -> None:
    layout = Layout()
    inner: Any = {"manifests": []}
    for _ in range(6):
        inner = {"manifests": [layout.add(json.dumps(inner).encode(), INDEX_TYPE)]}
    layout.index = inner
    with pytest.raises(FormatError, match="it points to something of type"):
        read(layout.stream())


def test_a_blob_that_was_changed_is_noticed(tmp_path: Path) -> None:
    archive = small_archive(tmp_path)
    content = archive.read_bytes()
    at = content.index(b"\x1f\x8b\x08\0\0")
    archive.write_bytes(content[: at + 30] + bytes([content[at + 30] ^ 1]) + content[at + 31 :])
    with pytest.raises(FormatError, match="was changed or cut"):
        inspect_archive(archive)
