# SPDX-License-Identifier: Apache-2.0
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.oci.conftest import ROOT

import ensconce
from ensconce.oci.inspection import inspect_archive
from ensconce.oci.reading import open_archive
from ensconce.oci.release import write_release_image
from ensconce.oci.tar import Member, MemberKind


def files(archive: Path) -> dict[str, tuple[Member, bytes]]:
    found = {}
    with open_archive(archive) as opened:
        for layer in opened.image().layers:
            walk = opened.files(layer)
            for member in walk:
                found[member.path] = (member, walk.read())
    return found


def test_the_image_has_one_command_and_an_ordinary_user(platform_archive: Path) -> None:
    found = inspect_archive(platform_archive)
    assert found.name == f"docker.io/library/ensconce:{ensconce.__version__}"
    assert found.entrypoint == ("/usr/bin/ensconce",)
    assert found.user == "65532:65532"
    assert [each.media_type[-8:] for each in found.layers] == ["tar+gzip"] * 3


def test_a_second_build_is_equal_to_the_byte(platform_archive: Path, tmp_path: Path) -> None:
    assert write_release_image(ROOT, tmp_path).read_bytes() == platform_archive.read_bytes()


def test_there_are_no_shell_no_compiler_and_no_setuid_program(platform_archive: Path) -> None:
    found = files(platform_archive)
    programs = {
        path for path in found if path.startswith(("usr/bin/", "usr/sbin/", "usr/local/bin/"))
    }
    assert programs == {"usr/bin/ensconce", "usr/bin/python3", "usr/bin/python3.11"}
    assert not any(member.mode & 0o6000 for member, _ in found.values())
    assert not any("ziglang" in path or path.endswith(".a") for path in found)


def test_the_bill_of_materials_names_what_is_there(platform_archive: Path) -> None:
    found = files(platform_archive)
    bill = json.loads(found["usr/share/sbom/ensconce.cdx.json"][1])
    kinds = {each["purl"].split(":")[1].split("/")[0] for each in bill["components"]}
    assert (bill["bomFormat"], kinds) == ("CycloneDX", {"deb", "pypi"})
    debian = {each["name"] for each in bill["components"] if each["purl"].startswith("pkg:deb")}
    status = {path.rsplit("/", 1)[1] for path in found if path.startswith("var/lib/dpkg/status.d/")}
    assert debian == status


def test_the_host_libraries_are_those_that_a_node_hands_out(platform_archive: Path) -> None:
    found = files(platform_archive)
    there = {path.rsplit("/", 1)[1] for path in found if path.startswith("opt/ensconce/lib/")}
    assert {"libsgx_urts.so.2", "libsgx_quote_ex.so.1", "libsgx_dcap_ql.so.1"} <= there
    assert found["opt/ensconce/lib/libsgx_urts.so"][0].kind is MemberKind.LINK


def test_no_file_names_the_machine_that_built_it(platform_archive: Path) -> None:
    home = str(Path.home() / ".cache").encode()
    checkout = str(ROOT).encode()
    own = {p: c for p, (_, c) in files(platform_archive).items() if "ensconce" in p}
    assert not [p for p, content in own.items() if home in content or checkout in content]


@pytest.mark.slow
def test_another_checkout_and_an_empty_cache_give_the_same_image(
    platform_archive: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "elsewhere"
    (checkout / "src").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "src" / "ensconce", checkout / "src" / "ensconce")
    code = "from ensconce.oci.release import write_release_image as write; write()"
    environment = os.environ | {
        "ENSCONCE_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(checkout / "src"),
    }
    command = [sys.executable, "-P", "-c", code]
    subprocess.run(command, cwd=checkout, env=environment, check=True)
    (other,) = (checkout / "dist").iterdir()
    assert other.read_bytes() == platform_archive.read_bytes()
