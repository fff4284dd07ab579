# SPDX-License-Identifier: Apache-2.0
"""The signing tool's commands and its command line."""

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.image.building import SMALL, EnclaveFile, Symbol, signed

from ensconce.crypto import generate_signing_key, rsa3072_sign
from ensconce.errors import (
    ConfigError,
    FormatError,
    SourceError,
    UnsignedError,
    VerificationError,
)
from ensconce.image import check_image, key_signer, open_image
from ensconce.image.config import render_config
from ensconce.isa.sigstruct import SigStruct
from ensconce.sdk import sign as tool

DAY = datetime.date(2024, 2, 29)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return generate_signing_key()


@pytest.fixture
def folder(tmp_path: Path, key: rsa.RSAPrivateKey) -> Path:
    """A folder with an unsigned enclave, its configuration, and the two halves of a key."""
    (tmp_path / "e.so").write_bytes(bytes(EnclaveFile()))
    (tmp_path / "e.xml").write_text(render_config(SMALL))
    (tmp_path / "k.pem").write_bytes(pem(key))
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "p.pem").write_bytes(public)
    return tmp_path


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None
) -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def command(folder: Path, text: str) -> str:
    """Run a command line whose file names are in the folder."""
    words = text.split()
    return tool.run([str(folder / word) if "." in word else word for word in words], date=DAY)


def test_sign_writes_an_enclave_that_verifies(folder: Path) -> None:
    said = command(folder, "sign -enclave e.so -config e.xml -key k.pem -out s.so")
    report = check_image(open_image(folder / "s.so"))
    assert report.isv_prod_id == 7
    assert report.date == 0x20240229
    assert said == f"The required memory is {report.memory.added}B.\nSucceed.\n"


def test_sign_writes_what_the_library_builds(folder: Path, key: rsa.RSAPrivateKey) -> None:
    command(folder, "sign -enclave e.so -config e.xml -key k.pem -out s.so")
    assert (folder / "s.so").read_bytes() == signed(key)


def test_without_a_configuration_the_defaults_hold(folder: Path) -> None:
    command(folder, "sign -enclave e.so -key k.pem -out s.so")
    memory = check_image(open_image(folder / "s.so")).memory
    assert (memory.heap, memory.stack_max, memory.threads) == (0x1000000, 0x40000, 1)


def test_a_signature_made_elsewhere_goes_in_by_gendata_and_catsig(
    folder: Path, key: rsa.RSAPrivateKey
) -> None:
    command(folder, "gendata -enclave e.so -config e.xml -out d.bin")
    data = (folder / "d.bin").read_bytes()
    assert len(data) == 256
    (folder / "s.bin").write_bytes(rsa3072_sign(key, data))
    command(
        folder,
        "catsig -enclave e.so -config e.xml -key p.pem -sig s.bin -unsigned d.bin -out c.so",
    )
    command(folder, "sign -enclave e.so -config e.xml -key k.pem -out s.so")
    assert (folder / "c.so").read_bytes() == (folder / "s.so").read_bytes()


def test_catsig_keeps_the_day_of_gendata(folder: Path, key: rsa.RSAPrivateKey) -> None:
    data = tool.gendata(folder / "e.so", config=SMALL, date=datetime.date(2001, 1, 2))
    made = tool.catsig(
        folder / "e.so",
        folder / "c.so",
        key.public_key(),
        signature=rsa3072_sign(key, data),
        unsigned=data,
        config=SMALL,
    )
    assert made.sigstruct.date == 0x20010102


def test_catsig_refuses_what_was_signed_for_another_configuration(
    folder: Path, key: rsa.RSAPrivateKey
) -> None:
    data = tool.gendata(folder / "e.so", date=DAY)
    for unsigned, fault in ((data, "is not what .* give"), (data[:255], "-unsigned has 255")):
        with pytest.raises((VerificationError, ConfigError), match=fault):
            tool.catsig(
                folder / "e.so",
                folder / "c.so",
                key.public_key(),
                signature=rsa3072_sign(key, data),
                unsigned=unsigned,
                config=SMALL,
            )
    assert not (folder / "c.so").exists()


def test_catsig_refuses_another_key_s_signature(folder: Path, key: rsa.RSAPrivateKey) -> None:
    data = tool.gendata(folder / "e.so", date=DAY)
    with pytest.raises(VerificationError, match="not the signing key's"):
        tool.catsig(
            folder / "e.so",
            folder / "c.so",
            key.public_key(),
            signature=rsa3072_sign(generate_signing_key(), data),
            unsigned=data,
        )


def test_a_signer_callback_needs_no_private_key(folder: Path, key: rsa.RSAPrivateKey) -> None:
    vault = tool.SigningKey(key.public_key(), key_signer(key))
    tool.sign(folder / "e.so", folder / "s.so", vault, config=SMALL, date=DAY)
    assert check_image(open_image(folder / "s.so")).signature_valid


def test_signing_again_needs_resign_and_keeps_the_measurement(folder: Path) -> None:
    command(folder, "sign -enclave e.so -config e.xml -key k.pem -out s.so")
    before = check_image(open_image(folder / "s.so"))
    with pytest.raises(ConfigError, match="say -resign"):
        command(folder, "sign -enclave s.so -key k.pem -out t.so")
    (folder / "o.pem").write_bytes(pem(generate_signing_key()))
    command(folder, "sign -enclave s.so -key o.pem -out t.so -resign")
    after = check_image(open_image(folder / "t.so"))
    assert after.mr_enclave == before.mr_enclave
    assert after.mr_signer != before.mr_signer
    command(folder, "sign -enclave t.so -key k.pem -config e.xml -out u.so -resign")
    assert (folder / "u.so").read_bytes() == (folder / "s.so").read_bytes()


def test_dump_shows_the_metadata_as_the_vendor_s_tool_does(folder: Path) -> None:
    command(
        folder,
        "sign -enclave e.so -config e.xml -key k.pem -out s.so -dumpfile a.txt -cssfile a.bin",
    )
    command(folder, "dump -enclave s.so -dumpfile b.txt -cssfile b.bin")
    text = (folder / "b.txt").read_text()
    image = open_image(folder / "s.so")
    assert text == (folder / "a.txt").read_text()
    assert image.sigstruct is not None
    assert (folder / "a.bin").read_bytes() == (folder / "b.bin").read_bytes()
    assert (folder / "b.bin").read_bytes() == bytes(image.sigstruct)
    assert "metadata->magic_num: 0x86a80294635d0e4c\nmetadata->version: 0x100000005\n" in text
    hashed = text.split("metadata->enclave_css.body.enclave_hash.m:\n")[1].split("metadata")[0]
    assert bytes(int(word, 16) for word in hashed.split()) == image.measure()
    signer = text.split("mrsigner->value:\n")[1]
    assert bytes(int(word, 16) for word in signer.split()) == image.sigstruct.mr_signer


def test_dump_shows_every_copy(folder: Path, key: rsa.RSAPrivateKey) -> None:
    content = signed(key, replace(SMALL, misc_select=1, misc_mask=0))
    (folder / "s.so").write_bytes(content)
    text, sigstruct = tool.dump(folder / "s.so")
    assert isinstance(sigstruct, SigStruct)
    assert "Compatible metadata number 1:" in text
    assert text.count("metadata->version:") == 2


def test_dump_of_an_unsigned_file_is_refused(folder: Path) -> None:
    with pytest.raises(UnsignedError, match="no metadata to dump"):
        command(folder, "dump -enclave e.so -dumpfile b.txt")


def test_a_failure_leaves_an_older_output_alone(folder: Path) -> None:
    (folder / "s.so").write_bytes(b"older")
    (folder / "e.xml").write_text("<EnclaveConfiguration><ProdId>1</ProdId></EnclaveConfiguration>")
    with pytest.raises(SourceError, match=r"e\.xml, line 1: ProdId is no element"):
        command(folder, "sign -enclave e.so -config e.xml -key k.pem -out s.so")
    assert (folder / "s.so").read_bytes() == b"older"
    assert {path.suffix for path in folder.iterdir()} == {".so", ".xml", ".pem"}


def test_an_output_that_can_t_be_written_leaves_nothing_behind(folder: Path) -> None:
    before = set(folder.iterdir())
    (folder / "d.d").mkdir()
    with pytest.raises(OSError, match="irectory"):
        command(folder, "sign -enclave e.so -config e.xml -key k.pem -out d.d")
    assert set(folder.iterdir()) - before == {folder / "d.d"}


def test_the_ignore_options_let_pass_what_they_name(folder: Path) -> None:
    (folder / "i.so").write_bytes(bytes(EnclaveFile(sections=[(".init", 1, 6)])))
    with pytest.raises(FormatError, match="-ignore-init-sec-error"):
        command(folder, "sign -enclave i.so -key k.pem -out s.so")
    command(folder, "sign -enclave i.so -key k.pem -out s.so -ignore-init-sec-error")
    (folder / "u.so").write_bytes(bytes(EnclaveFile(symbols=[Symbol("puts", section=0)])))
    with pytest.raises(FormatError, match="does not define puts"):
        command(folder, "sign -enclave u.so -key k.pem -out s.so -ignore-init-sec-error")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "'' is no command"),
        ("frobnicate", "'frobnicate' is no command"),
        ("sign", "sign needs -enclave, -key, -out"),
        ("sign -enclave e.so -key k.pem", "sign needs -out"),
        ("sign -enclave", "-enclave needs a file name"),
        ("sign -enclave -key", "-enclave needs a file name"),
        ("sign -what e.so", "-what is no option of sign"),
        ("sign -sig e.so", "sign takes no -sig"),
        ("gendata -key k.pem", "gendata takes no -key"),
        ("dump -resign", "dump takes no -resign"),
        ("sign -enclave e.so -enclave e.so", "-enclave is given twice"),
        ("sign -resign -resign", "-resign is given twice"),
        ("sign -enclave e.so -key k.pem -out e.so", "two options name the same file"),
    ],
)
def test_a_wrong_command_line_is_one_clear_error(folder: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        command(folder, text)


def test_keys_of_other_kinds_are_refused(folder: Path, key: rsa.RSAPrivateKey) -> None:
    (folder / "ec.pem").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    (folder / "text.pem").write_text("no key")
    (folder / "locked.pem").write_bytes(pem(key, b"secret"))
    for name, fault in (
        ("ec.pem", "holds no RSA key"),
        ("text.pem", "holds no private key in PEM"),
        ("p.pem", "holds no private key in PEM"),
        ("locked.pem", "can be read"),
    ):
        with pytest.raises(ConfigError, match=fault):
            tool.load_signing_key(folder / name)
    for name in ("ec.pem", "text.pem", "k.pem"):
        with pytest.raises(ConfigError, match="holds no public key in PEM"):
            tool.load_public_key(folder / name)
    unlocked = tool.load_signing_key(folder / "locked.pem", password=b"secret")
    assert unlocked.public.public_numbers() == key.public_key().public_numbers()
