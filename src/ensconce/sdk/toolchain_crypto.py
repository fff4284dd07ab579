# SPDX-License-Identifier: Apache-2.0
"""AWS-LC, the enclave's cryptography: where its source comes from and which of it is built.

It is taken out of the source package `awscrt`, which pip fetches once and checks against the hash
below. None of it is kept in this project.
"""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from importlib import util
from pathlib import Path

from ensconce.errors import ToolchainError
from ensconce.sdk.instruction import decode
from ensconce.sdk.loads import loads
from ensconce.sdk.toolchain import CompileFlags, Mitigation, Toolchain

__all__ = ["SOURCE_HASH", "crypto_license", "crypto_objects", "crypto_source"]

_PACKAGE, _VERSION = "awscrt", "0.38.1"
_FILE = f"{_PACKAGE}-{_VERSION}.tar.gz"
SOURCE_HASH = "0dcebfaa70cf079133cd2352119e3d05e9b8ca1d1621736cfb54c03f3d5fef0f"  # SHA-256

_ROOT = f"{_PACKAGE}-{_VERSION}/crt/aws-lc/"
_BIGNUM = "third_party/s2n-bignum/"
_ASSEMBLY = "generated-src/linux-x86_64/crypto/fipsmodule/"
_WANTED = ("crypto/", "include/", "third_party/fiat/", _ASSEMBLY, _BIGNUM)
_SUFFIXES = (".c", ".h", ".inc", ".S")
_MAX_FILE = 8 << 20  # bytes; the largest is below two million

_ALLOCATOR = "crypto/mem.c"

# Beside the module: ECDH, memory that is cleared, reference counts, OAEP, stacks.
_FILES = (
    "crypto/ecdh_extra/ecdh_extra.c",
    "crypto/mem.c",
    "crypto/refcount_c11.c",
    "crypto/rsa_extra/rsa_crypt.c",
    "crypto/stack/stack.c",
)
# Without MD5, XTS and the generator over RDRAND.
_ASSEMBLY_FILES = (
    "aesni-gcm-avx512",
    "aesni-gcm-x86_64",
    "aesni-x86_64",
    "ghash-ssse3-x86_64",
    "ghash-x86_64",
    "p256-x86_64-asm",
    "p256_beeu-x86_64-asm",
    "rsaz-2k-avx512",
    "rsaz-3k-avx512",
    "rsaz-4k-avx512",
    "rsaz-avx2",
    "sha1-x86_64",
    "sha256-x86_64",
    "sha512-x86_64",
    "vpaes-x86_64",
    "x86_64-mont",
    "x86_64-mont5",
)
_BIGNUM_FILES = ("bignum_montinv_p256", "p256_montjscalarmul", "p256_montjscalarmul_alt")

_STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")
_BYTES = re.compile(r"\s*\.byte\s+((?:0x)?[\da-f]+(?:,(?:0x)?[\da-f]+)*)\s*")
_SECTION = re.compile(
    r"\s*(?:\.section\s+)?(\.text|\.rodata|\.data|\.bss|\.note|\.pdata|\.xdata)\b"
)
_REP_RET = b"\xf3\xc3"

_DEFINES = ("BORINGSSL_IMPLEMENTATION", "S2N_BN_HIDE_SYMBOLS", "NDEBUG", "_GNU_SOURCE")


def crypto_source(toolchain: Toolchain) -> Path:
    """Return the source package in the cache, fetching it with pip when it is not there.

    Raises ToolchainError that says where to put the file when it cannot be fetched.
    """
    kept = toolchain.cache / "sources" / _FILE
    if kept.is_file():
        if _digest(kept) == SOURCE_HASH:
            return kept
        kept.unlink()
    with toolchain.work_folder() as folder:
        _download(folder, kept)
        fetched = folder / _FILE
        if not fetched.is_file() or _digest(fetched) != SOURCE_HASH:
            raise ToolchainError(f"pip brought another {_FILE} than the one with {SOURCE_HASH}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        fetched.replace(kept)
    return kept


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(folder: Path, kept: Path) -> None:
    """Let pip fetch the package; it checks the hash before it looks into the file."""
    mend = f"put the file at {kept}, or let pip reach its package index"
    if util.find_spec("pip") is None:
        raise ToolchainError(f"Could not fetch {_FILE}: pip is not installed; {mend}")
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{_PACKAGE}=={_VERSION} --hash=sha256:{SOURCE_HASH}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "-r", str(wanted), "-d", str(folder)]
    done = subprocess.run(  # noqa: S603 (pip of this Python, arguments as a list)
        command, env=dict(os.environ), capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        raise ToolchainError(f"Could not fetch {_FILE}: {mend}", output=done.stdout + done.stderr)


def _extract(package: Path, folder: Path) -> Path:
    """Write what is wanted of the package to a folder; return AWS-LC's root in it."""
    root = folder / "aws-lc"
    try:
        with tarfile.open(package, "r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix(_ROOT)
                if name == member.name or not name.startswith(_WANTED) or ".." in name:
                    continue
                if not (member.isfile() and name.endswith(_SUFFIXES) and member.size <= _MAX_FILE):
                    continue
                content = archive.extractfile(member)
                if content is not None:
                    path = root / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ToolchainError(f"Could not unpack {package}: {error}") from error
    return root


def crypto_license(toolchain: Toolchain) -> bytes:
    """Return the terms that AWS-LC comes under."""
    package = crypto_source(toolchain)
    with tarfile.open(package, "r:gz") as archive:
        content = archive.extractfile(f"{_ROOT}LICENSE")
        if content is None:
            raise ToolchainError(f"{package} has no license of AWS-LC")
        return content.read()


def _prepare(path: Path, mitigation: Mitigation) -> None:
    """Rewrite those lines of an assembly file that are bytes in place of an instruction.

    The author's name among the code is removed: as code it would be illegal. The assembler can
    add no fences to bytes, so here they are added for it.
    """
    kept, in_code = [], False
    for line in path.read_text().splitlines(keepends=True):
        if section := _SECTION.match(line):
            in_code = (section[1] or section[2]).startswith(".text")
        numbers = _BYTES.fullmatch(line)
        code = bytes(int(each, 0) for each in numbers[1].split(",")) if numbers else b""
        if b"CRYPTOGAMS" in code:
            continue
        if not in_code or mitigation is Mitigation.NONE or not code:
            kept.append(line)
            continue
        kept.append("\tret\n" if code == _REP_RET else line)
        found = decode(code)
        if mitigation is Mitigation.LOAD and found and found.length == len(code) and loads(found):
            kept.append("\tlfence\n")
    path.write_text("".join(kept))


def crypto_objects(
    toolchain: Toolchain, folder: Path, own: Path, headers: tuple[Path, ...], flags: tuple[str, ...]
) -> list[tuple[str, bytes]]:
    """Compile AWS-LC's part and our functions over it, whose folder is `own`."""
    root = _extract(crypto_source(toolchain), folder)
    bignum = root / _BIGNUM / "s2n-bignum-imported"
    system = [f"-isystem{path}" for path in (root / "include", root, bignum / "include")]
    system.append(f"-isystem{root / _BIGNUM}")
    # Messages of errors hold file names, which may not tell where this was built.
    quiet = ("-w", f"-ffile-prefix-map={root}=aws-lc")
    theirs = CompileFlags(
        include=headers, defines=_DEFINES, extra=(*flags, *system, *quiet, "-std=gnu11")
    )
    ours = CompileFlags(include=headers, defines=_DEFINES, extra=(*flags, *system, *_STRICT))
    # Without hooks for other allocators: GNU ld would make jumps through memory for them.
    alone = replace(theirs, extra=(*theirs.extra, "-U__ELF__"))
    sources = [(root / name, alone if name == _ALLOCATOR else theirs) for name in _FILES]
    sources += [
        (path, theirs if path.name == "module.c" else ours) for path in sorted(own.glob("*.c"))
    ]
    result = []
    for number, (source, how) in enumerate(sources):
        output = folder / f"crypto-{number}.o"
        toolchain.compile(source, output, how)
        result.append((source.name, output.read_bytes()))
    assembly = [root / _ASSEMBLY / f"{name}.S" for name in _ASSEMBLY_FILES]
    for source in assembly:
        _prepare(source, toolchain.mitigation)
    assembly += [bignum / "x86_att" / "p256" / f"{name}.S" for name in _BIGNUM_FILES]
    return [*result, *toolchain.compile_group(assembly, theirs, folder)]
