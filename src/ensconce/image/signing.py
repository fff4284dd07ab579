# SPDX-License-Identifier: Apache-2.0
"""Signing an SDK enclave: its metadata, its measurement and its SIGSTRUCT, in these steps.

1. Check that the file could run (`linkage`).
2. Build the metadata that the configuration asks for (`builder`), or keep what is there.
3. Measure the pages that the metadata describes; that is ENCLAVEHASH.
4. Have the SIGSTRUCT's 256 bytes signed, here or elsewhere.
5. Put the SIGSTRUCT into every copy of the metadata, and the metadata into the file's note.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ensconce.errors import ConfigError
from ensconce.image.builder import MetadataCopies, build_metadata, unsigned_sigstruct
from ensconce.image.config import EnclaveConfig
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.generation import generation_of
from ensconce.image.linkage import check_linkage
from ensconce.image.metadata import ExtendId, Metadata
from ensconce.image.sdk_image import SdkImage
from ensconce.image.sigstruct import verify_sigstruct
from ensconce.isa.secinfo import PAGE_SIZE
from ensconce.isa.sigstruct import SigStruct

__all__ = ["Prepared", "prepare", "prepare_again", "replace_file", "write_signed"]

_RSA_BITS, _RSA_EXPONENT, _RSA_BYTES = 3072, 65537, 384
_COPY_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """An enclave that is ready to be signed; `memory` is what its pages take, in bytes."""

    file: EnclaveElf
    copies: MetadataCopies
    sigstruct: SigStruct
    memory: int

    @property
    def signing_data(self) -> bytes:
        """The 256 bytes that the signature is made over."""
        return self.sigstruct.signed_bytes()

    def note(self, sigstruct: SigStruct) -> bytes:
        """Return the contents of the file's metadata note, given the finished SIGSTRUCT."""
        verify_sigstruct(sigstruct, source=self.file.source)
        content = bytearray(self.copies.sign(sigstruct))
        for metadata in Metadata.parse_all(memoryview(content), source="the metadata", offset=0):
            entry = metadata.extensions.get(ExtendId.FIPS_SIGNATURE)
            if entry is not None:
                at = metadata.offset + entry.offset
                content[at : at + entry.size] = _fips_signature(bytes(sigstruct))
        return bytes(content)


def prepare(
    file: EnclaveElf,
    config: EnclaveConfig,
    *,
    date: int,
    text_relocations_allowed: bool = False,
    init_section_allowed: bool = False,
    resign: bool = False,
) -> Prepared:
    """Return an enclave ready to be signed with a configuration; `date` is BCD, yyyymmdd.

    Raises `FormatError` for a file that could not run, `ConfigError` for a configuration that
    does not fit it, and for a signed file unless `resign` says that its signature may go.
    """
    _check_unsigned(file, resign=resign)
    check_linkage(
        file,
        text_relocations_allowed=text_relocations_allowed,
        init_section_allowed=init_section_allowed,
    )
    generation = generation_of(file)
    unsigned = unsigned_sigstruct(config, generation, date)
    copies = build_metadata(file, config, generation, unsigned)
    return _measured(file, copies, unsigned)


def prepare_again(file: EnclaveElf, *, date: int) -> Prepared:
    """Return a signed enclave ready to be signed by another key, its metadata as it is."""
    if not file.metadata:
        raise ConfigError(f"{file.source} is not signed yet; sign it with a configuration")
    copies = tuple(bytes(metadata.data) for metadata in file.metadata)
    unsigned = replace(file.metadata[0].header.sigstruct, date=date)
    return _measured(file, MetadataCopies(copies[0], copies), unsigned)


def _measured(file: EnclaveElf, copies: MetadataCopies, unsigned: SigStruct) -> Prepared:
    """Return an enclave with the SIGSTRUCT for what it measures to."""
    metadata = Metadata.parse(memoryview(copies.measured), source=f"the metadata of {file.source}")
    image = SdkImage(file, metadata)
    sigstruct = replace(unsigned, enclave_hash=image.measure())
    memory = sum(run.count for run in image.operations()) * PAGE_SIZE
    return Prepared(file, copies, sigstruct, memory)


def _check_unsigned(file: EnclaveElf, *, resign: bool) -> None:
    """Raise for a file that has a signature nobody gave up."""
    if not resign and file.metadata:
        raise ConfigError(f"{file.source} is signed already; to replace its signature say -resign")


def _fips_signature(sigstruct: bytes) -> bytes:
    """Return the signature over a SIGSTRUCT by a key made for it, as the loader checks it.

    Modulus and exponent are little-endian, the signature is big-endian.
    """
    key = rsa.generate_private_key(public_exponent=_RSA_EXPONENT, key_size=_RSA_BITS)
    modulus = key.public_key().public_numbers().n.to_bytes(_RSA_BYTES, "little")
    signature = key.sign(sigstruct, padding.PKCS1v15(), hashes.SHA256())
    return modulus + _RSA_EXPONENT.to_bytes(4, "little") + signature


def write_signed(prepared: Prepared, sigstruct: SigStruct, out: Path) -> None:
    """Write the signed enclave; `out` is replaced whole or not at all."""
    file = prepared.file
    note = prepared.note(sigstruct).ljust(file.note_size, b"\0")
    start, end = file.note_offset, file.note_offset + file.note_size

    def write(put: Callable[[bytes | memoryview], object]) -> None:
        data = file.elf.data
        for at in range(0, start, _COPY_SIZE):
            put(data[at : min(at + _COPY_SIZE, start)])
        put(note)
        for at in range(end, len(data), _COPY_SIZE):
            put(data[at : at + _COPY_SIZE])

    replace_file(out, write, mode=0o755)


def replace_file(
    path: Path, write: Callable[[Callable[[bytes | memoryview], object]], object], *, mode: int
) -> None:
    """Write a file beside its place and move it there; `mode` is cut by the umask."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream.write)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
