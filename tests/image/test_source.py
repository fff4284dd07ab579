# SPDX-License-Identifier: Apache-2.0
"""Opening files: mapped, never read whole, and only regular ones."""

import mmap
import os
from pathlib import Path

import pytest

from ensconce.errors import FormatError
from ensconce.image import SdkImage, open_image


def test_a_path_is_mapped_read_only(tmp_path: Path, enclave: bytes) -> None:
    (tmp_path / "e.so").write_bytes(enclave)
    image = open_image(tmp_path / "e.so")
    assert isinstance(image, SdkImage)
    assert image.source == str(tmp_path / "e.so")
    assert isinstance(image.file.elf.data.obj, mmap.mmap)
    assert image.file.elf.data.readonly


def test_a_file_that_is_replaced_while_open_stays_as_it_was(tmp_path: Path, enclave: bytes) -> None:
    path = tmp_path / "e.so"
    path.write_bytes(enclave)
    image = open_image(path)
    (tmp_path / "new").write_bytes(b"something else")
    (tmp_path / "new").replace(path)
    assert image.measure() == open_image(enclave).measure()


@pytest.mark.parametrize("kind", ["folder", "fifo", "empty", "device"])
def test_only_regular_files_are_opened_and_none_is_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "e.so"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()
    else:
        path = Path("/dev/zero")
    with pytest.raises(FormatError, match=r"is not a regular file|is empty"):
        open_image(path)


def test_a_missing_file_is_the_operating_system_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "e.so")
