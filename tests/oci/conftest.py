# SPDX-License-Identifier: Apache-2.0
"""The images of a release, built once for all tests that look at them."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

import ensconce
from ensconce.oci.release import write_release_image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def platform_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of ensconce's own image."""
    needed = ["apt-cache", "policy", "python3.11-minimal"]
    if shutil.which("apt-cache") is None:
        pytest.skip("Debian's package tools are not here")
    if "Candidate" not in subprocess.run(needed, capture_output=True, text=True).stdout:
        pytest.skip("APT knows no python3.11: it needs Debian 12's package lists")
    pytest.importorskip("ziglang", reason="the toolchain's wheel is not installed")
    return write_release_image(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def hello_archive(platform_archive: Path) -> Path:
    """The archive of example 7, hello world."""
    path = ROOT / "examples" / "07-container" / "image.py"
    spec = importlib.util.spec_from_file_location("hello_image", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["BUILD"] = platform_archive.parent / "build"
    archive: Path = module.write_image(platform_archive.parent).archive
    assert archive.name == f"hello-world-{ensconce.__version__}.oci.tar"
    return archive
