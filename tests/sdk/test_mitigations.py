# SPDX-License-Identifier: Apache-2.0
"""Mitigations against load value injection: the code has them, and still does what it did."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ensconce import enclave
from ensconce.edl.files import load_file
from ensconce.errors import FormatError
from ensconce.image.config import EnclaveConfig
from ensconce.sdk.bridges import trusted_files
from ensconce.sdk.build import build
from ensconce.sdk.fences import Kind
from ensconce.sdk.lint import lint
from ensconce.sdk.sign import SigningKey, sign
from ensconce.sdk.toolchain import Mitigation, Toolchain
from ensconce.sdk.toolchain_archives import INCLUDE, trusted_archives
from ensconce.sdk.toolchain_crypto import crypto_source

_FOLDER = Path(__file__).parent / "mitigations"
_SOURCE, _EDL = _FOLDER / "mitigations.c", _FOLDER / "mitigations.edl"
_CRYPTO = Path(__file__).parent / "crypto"
_ANSWER = "enclave { trusted { public int answer(void); }; };"

# What a vendor's Makefile passes to gcc for MITIGATION-CVE-2020-0551=LOAD.
_VENDOR_FLAGS = (
    "-mindirect-branch-register",
    "-mfunction-return=thunk-extern",
    "-fcf-protection=none",
    "-fno-plt",
    "-Wa,-mlfence-after-load=yes",
    "-Wa,-mlfence-before-indirect-branch=memory",
    "-Wa,-mlfence-before-ret=shl",
)


def _level(image: Path) -> Mitigation:
    return lint(image.read_bytes(), str(image)).fences.level


def _load(image: Path, edl: Path, key: SigningKey, **ocalls: Any) -> Any:
    signed = image.with_suffix(".signed.so")
    sign(image, signed, key, config=EnclaveConfig())
    return enclave.load(signed, edl=edl, ocalls=ocalls)


@pytest.mark.parametrize("level", list(Mitigation))
def test_an_enclave_of_each_level_has_it_and_runs(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path: Path, level: Mitigation
) -> None:
    image = build([_SOURCE], _EDL, tmp_path / "e.so", toolchain=toolchain, mitigation=level)
    assert _level(image) is level
    with _load(image, _EDL, signing_key, host=lambda value: value + 1) as loaded:
        assert [loaded.apply(which, 7) for which in range(4)] == [14, 49, 6, -1]
        assert [loaded.jump(value) for value in (3, 0)] == [35, 15]
        assert [loaded.count() for _ in range(2)] == [3, 3]
        assert loaded.through_host(41) == 42
        out = bytearray(64)
        assert loaded.print("lfence", out) == len("lfence 6 1.25")
        assert out.startswith(b"lfence 6 1.25\0")


def test_the_three_sets_of_libraries_are_kept_apart(toolchain: Toolchain) -> None:
    runtimes = {trusted_archives(toolchain, lacking=(), mitigation=each)[0] for each in Mitigation}
    assert len(runtimes) == len({each.read_bytes() for each in runtimes}) == len(Mitigation)


def _answer(folder: Path, name: str, text: str) -> tuple[Path, Path]:
    source, edl = folder / name, folder / "enclave.edl"
    source.write_text(text)
    edl.write_text(_ANSWER)
    return source, edl


def test_a_level_that_code_does_not_reach_fails_the_build(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    assembly = (
        ".globl answer\n.type answer,@function\nanswer: lea f(%rip), %rax\nmov %rax, -8(%rsp)"
    )
    assembly += "\njmp *-8(%rsp)\nf: mov $42, %eax\nret\n.size answer, .-answer\n"
    source, edl = _answer(tmp_path, "enclave.s", assembly)
    for level, fails in zip(Mitigation, (False, True, True), strict=True):
        output = tmp_path / f"{level.value}.so"
        if fails:
            with pytest.raises(FormatError, match=r"through memory .* first at 0x\w+ in answer"):
                build([source], edl, output, toolchain=toolchain, mitigation=level)
        else:
            build([source], edl, output, toolchain=toolchain, mitigation=level)
        assert output.exists() is not fails


def test_code_of_other_compilers_finds_its_thunks(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path: Path
) -> None:
    assembly = ".globl answer\n.type answer,@function\nanswer: lea f(%rip), %r10\nsub $8, %rsp\n"
    assembly += "call __x86_indirect_thunk_r10\nadd $8, %rsp\njmp __x86_return_thunk\n"
    assembly += "f: mov $42, %eax\njmp __x86_return_thunk\n.size answer, .-answer\n"
    source, edl = _answer(tmp_path, "enclave.s", assembly)
    image = build([source], edl, tmp_path / "e.so", toolchain=toolchain, mitigation=Mitigation.LOAD)
    with _load(image, edl, signing_key) as loaded:
        assert loaded.answer() == 42


def _understands(flags: tuple[str, ...]) -> bool:
    """Say whether gcc and its assembler know the vendor's flags."""
    if shutil.which("gcc") is None:
        return False
    command = ["gcc", *flags, "-x", "c", "-c", "-o", "/dev/null", "-"]
    done = subprocess.run(command, input=b"int f;", capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not _understands(_VENDOR_FLAGS), reason="needs gcc 8 and binutils 2.35")
def test_objects_of_gcc_with_the_vendors_flags_link_and_run(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path: Path
) -> None:
    for name, text in trusted_files(load_file(_EDL, ())).items():
        (tmp_path / name).write_text(text)
    objects = []
    for source in (_SOURCE, tmp_path / "mitigations_t.c"):
        objects.append(tmp_path / f"{source.stem}.o")
        command = ["gcc", "-O2", "-fPIC", *_VENDOR_FLAGS, "-c", str(source), "-o", str(objects[-1])]
        # Without the last the linker makes accesses to thread data anew, one load without a fence.
        command += ["-U_FORTIFY_SOURCE", f"-I{tmp_path}", f"-I{INCLUDE}", "-ftls-model=local-exec"]
        subprocess.run(command, check=True, capture_output=True)
    load = toolchain.mitigated(Mitigation.LOAD)
    image = tmp_path / "gcc.so"
    load.link(objects, trusted_archives(load, lacking=()), image)
    assert _level(image) is Mitigation.LOAD
    with _load(image, _EDL, signing_key, host=lambda value: value) as loaded:
        assert loaded.apply(1, 9) == 81
        assert loaded.jump(2) == 25


@pytest.mark.slow
@pytest.mark.parametrize("level", [Mitigation.CF, Mitigation.LOAD])
def test_cryptography_of_each_level_has_it_and_gives_the_same(
    toolchain: Toolchain, signing_key: SigningKey, tmp_path: Path, level: Mitigation
) -> None:
    edl = _CRYPTO / "crypto.edl"
    image = build(
        [_CRYPTO / "crypto.c"], edl, tmp_path / "e.so", toolchain=toolchain, mitigation=level
    )
    report = lint(image.read_bytes(), "crypto")
    assert report.fences.level is level
    assert report.fences.tallies[Kind.RETURN].total > 100
    key, nonce, text = bytes(range(16)), bytes(12), bytes(range(256)) * 5
    with _load(image, edl, signing_key) as crypto:
        sealed, tag = bytearray(len(text)), bytearray(16)
        assert crypto.gcm_encrypt(key, 16, nonce, text, len(text), b"", 0, sealed, tag) == 0
        assert bytes(sealed + tag) == AESGCM(key).encrypt(nonce, text, b"")
        private, point, signature = bytearray(32), bytearray(64), bytearray(64)
        assert crypto.new_key(private, point) == 0
        assert crypto.sign_text(bytes(private), text, len(text), signature) == 0
        result = bytearray(1)
        assert crypto.verify_text(bytes(point), text, len(text), bytes(signature), result) == 0
        assert result == bytearray(1)


@pytest.mark.slow
def test_mitigated_libraries_built_anew_give_the_same_bytes(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    fresh = Toolchain(toolchain.zig, tmp_path / "cache")
    (tmp_path / "cache" / "sources").mkdir(parents=True)
    shutil.copy(crypto_source(toolchain), tmp_path / "cache" / "sources")
    sets = [trusted_archives(each, mitigation=Mitigation.LOAD) for each in (toolchain, fresh)]
    for kept, made in zip(*sets, strict=True):
        assert kept.read_bytes() == made.read_bytes(), kept.name
