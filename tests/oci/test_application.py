# SPDX-License-Identifier: Apache-2.0
"""Images of apps, on a base of the test's own, so that no package is fetched."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from tests.image.building import ENCLU, EnclaveFile, signed
from tests.oci.building import small_archive, small_image

from ensconce.crypto import generate_signing_key
from ensconce.errors import ConfigError, MeasurementError, PolicyError, UnsignedError
from ensconce.image import open_image, verify_image
from ensconce.oci.application import App, build_app
from ensconce.oci.inspection import inspect_archive
from ensconce.oci.reading import open_archive
from ensconce.oci.tree import Tree

KEY = generate_signing_key()
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
NO_PASSWORD = serialization.NoEncryption()


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An app of one enclave and a program of this machine, on a base that has a C library."""
    base = Tree()
    base.file("usr/lib/x86_64-linux-gnu/libc.so.6", b"")
    (tmp_path / "enclave.signed.so").write_bytes(signed(KEY))
    return App(
        name="registry.example/app:1",
        program=Path("/bin/true"),
        enclaves=[tmp_path / "enclave.signed.so"],
        base=small_archive(tmp_path, small_image(base, environment={"PATH": "/bin"})),
    )


def with_file(app: App, content: bytes, path: str = "etc/app/file") -> App:
    source = app.enclaves[0].parent / "file"
    source.write_bytes(content)
    return replace(app, files=[(source, path)])


def test_an_image_says_which_enclaves_are_in_it(app: App, tmp_path: Path) -> None:
    built = build_app(app, tmp_path / "app.tar")
    found = inspect_archive(tmp_path / "app.tar")
    report = verify_image(open_image(app.enclaves[0]))
    assert found.enclaves == built.enclaves
    assert [each.mr_enclave for each in found.enclaves] == [report.mr_enclave.hex()]
    assert found.name == "registry.example/app:1"
    assert found.entrypoint == ("/app/true",)
    assert found.user == "65532:65532"
    assert not found.faults


def test_the_same_inputs_in_two_folders_give_the_same_bytes(app: App, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    copy = tmp_path / "other" / "enclave.signed.so"
    copy.write_bytes(app.enclaves[0].read_bytes())
    copy.chmod(0o600)
    build_app(app, tmp_path / "a.tar")
    build_app(replace(app, enclaves=[copy]), tmp_path / "other" / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "other" / "b.tar").read_bytes()


def test_options_show_in_the_configuration(app: App, tmp_path: Path) -> None:
    more = replace(
        app,
        environment={"LOG": "info"},
        labels={"team": "a"},
        entrypoint=["/app/true", "x"],
        command=["y"],
        user="1000",
    )
    build_app(more, tmp_path / "app.tar")
    found = inspect_archive(tmp_path / "app.tar")
    assert found.environment == {"PATH": "/bin", "LOG": "info"}
    assert (found.labels, found.user) == ({"team": "a"}, "1000")
    assert (found.entrypoint, found.command) == (("/app/true", "x"), ("y",))


def test_a_folder_goes_in_with_all_that_it_has(app: App, tmp_path: Path) -> None:
    (tmp_path / "conf" / "deep").mkdir(parents=True)
    (tmp_path / "conf" / "deep" / "a").write_text("1")
    build_app(replace(app, files=[(tmp_path / "conf", "/etc/app")]), tmp_path / "app.tar")
    with open_archive(tmp_path / "app.tar") as archive:
        walk = archive.files(archive.image().layers[-1])
        assert "etc/app/deep/a" in [each.path for each in walk]


def test_the_key_that_the_enclave_was_signed_with_stays_out(app: App, tmp_path: Path) -> None:
    key = KEY.private_bytes(PEM, PKCS8, NO_PASSWORD)
    for content in (
        key,
        b"# notes\n" + key,
        KEY.private_bytes(serialization.Encoding.DER, PKCS8, NO_PASSWORD),
    ):
        with pytest.raises(PolicyError, match="is the key that the enclave was signed with"):
            build_app(with_file(app, content), tmp_path / "app.tar")
    assert not (tmp_path / "app.tar").exists()


def test_other_keys_and_files_of_credentials_stay_out(app: App, tmp_path: Path) -> None:
    other = generate_signing_key()
    sealed = other.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x"))
    for content in (other.private_bytes(PEM, PKCS8, NO_PASSWORD), sealed):
        with pytest.raises(PolicyError, match="/etc/app/file is a private key, and everyone"):
            build_app(with_file(app, content), tmp_path / "app.tar")
    with pytest.raises(PolicyError, match="is a file of credentials"):
        build_app(with_file(app, b"x", "root/.docker/config.json"), tmp_path / "app.tar")


def test_a_secret_goes_in_where_it_is_named(app: App, tmp_path: Path) -> None:
    key = with_file(app, generate_signing_key().private_bytes(PEM, PKCS8, NO_PASSWORD))
    build_app(replace(key, dangerous_files=frozenset({"etc/app/file"})), tmp_path / "app.tar")
    assert (tmp_path / "app.tar").exists()


def test_public_keys_and_programs_that_name_keys_are_no_secrets(app: App, tmp_path: Path) -> None:
    public = KEY.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    build_app(with_file(app, public + b"-----BEGIN PRIVATE KEY-----\0"), tmp_path / "app.tar")
    assert (tmp_path / "app.tar").exists()


def test_an_unsigned_enclave_is_refused(app: App, tmp_path: Path) -> None:
    app.enclaves[0].write_bytes(bytes(EnclaveFile()))
    with pytest.raises(UnsignedError, match=r"enclave\.signed\.so"):
        build_app(app, tmp_path / "app.tar")


def test_an_enclave_that_was_changed_since_is_refused(app: App, tmp_path: Path) -> None:
    content = bytearray(app.enclaves[0].read_bytes())
    content[content.index(ENCLU) + len(ENCLU)] ^= 1
    app.enclaves[0].write_bytes(content)
    with pytest.raises(MeasurementError, match=r"enclave\.signed\.so"):
        build_app(app, tmp_path / "app.tar")


def test_production_wants_enclaves_that_nobody_debugs(app: App, tmp_path: Path) -> None:
    assert build_app(app, tmp_path / "app.tar").enclaves[0].debug
    with pytest.raises(PolicyError, match="may be debugged, so its host can read its memory"):
        build_app(replace(app, production=True), tmp_path / "app.tar")


def test_a_library_that_nobody_brings_is_missed(app: App, tmp_path: Path) -> None:
    bare = replace(app, base=small_archive(tmp_path))
    with pytest.raises(ConfigError, match=r"/app/true needs libc\.so\.6, which neither"):
        build_app(bare, tmp_path / "app.tar")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": "App"}, "is no image's name"),
        ({"packages": ["-oDir=/"]}, "is no Debian package's name"),
        ({"environment": {"a b": ""}}, "is no variable's name"),
        ({"user": "root"}, "is no user and group in numbers"),
        ({"program": Path("/nowhere")}, "is no file"),
        ({"files": [(Path("/nowhere"), "x")]}, "There is no /nowhere"),
        ({"files": [(Path("/bin/true"), "app/enclave.signed.so")]}, "Two things would be at"),
        ({"files": [(Path("/bin/true"), "../x")]}, "is no path for a file in an image"),
    ],
)
def test_what_can_not_be_packed_is_refused(
    app: App, tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        build_app(replace(app, **change), tmp_path / "app.tar")  # type: ignore[arg-type]


def test_annotations_that_name_another_enclave_are_seen(app: App, tmp_path: Path) -> None:
    build_app(app, tmp_path / "app.tar")
    lie = small_image(annotations={"dev.ensconce.image.enclaves": "[]", "x": "y"})
    with open_archive(tmp_path / "app.tar") as archive:
        image = archive.image()
    claim = image.annotations["dev.ensconce.image.enclaves"]
    lie = replace(lie, annotations={"dev.ensconce.image.enclaves": claim})
    faults = inspect_archive(small_archive(tmp_path, lie)).faults
    assert faults == {
        "dev.ensconce.image.enclaves": "names other enclaves than those that the image holds"
    }


def test_a_layer_above_takes_an_enclave_away(app: App, tmp_path: Path) -> None:
    below, above = Tree(), Tree()
    below.file("app/e.so", app.enclaves[0].read_bytes())
    above.file("app/.wh.e.so", b"")
    one, two = small_image(below), small_image(above)
    assert len(inspect_archive(small_archive(tmp_path, one)).enclaves) == 1
    both = replace(one, layers=[*one.layers, *two.layers])
    assert not inspect_archive(small_archive(tmp_path, both)).enclaves
