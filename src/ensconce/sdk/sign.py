# SPDX-License-Identifier: Apache-2.0
"""The signing tool's commands: sign, gendata, catsig and dump.

`gendata` writes the 256 bytes that a signature is made over, `catsig` takes the signature that
was made elsewhere; `sign` does both with a key, or with a signer that has one.
"""

import datetime
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ensconce.crypto import RSA_BYTES, generate_signing_key
from ensconce.errors import ConfigError, VerificationError
from ensconce.image.builder import bcd_date
from ensconce.image.config import EnclaveConfig, parse_config
from ensconce.image.enclave_elf import EnclaveElf
from ensconce.image.signing import Prepared, prepare, prepare_again, replace_file, write_signed
from ensconce.image.sigstruct import (
    HEADER_SIZE,
    Signer,
    check_signing_key,
    finish_sigstruct,
    key_signer,
    sign_sigstruct,
)
from ensconce.image.source import map_file
from ensconce.isa.sigstruct import SigStruct
from ensconce.sdk.dump import render_metadata

__all__ = [
    "Checks",
    "Signed",
    "SigningKey",
    "catsig",
    "dump",
    "gendata",
    "load_public_key",
    "load_signing_key",
    "make_signing_key",
    "read_config",
    "run",
    "sign",
]

_MAX_KEY_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Checks:
    """What a signing command lets pass: its -ignore-… and -resign options."""

    ignore_rel_error: bool = False
    ignore_init_sec_error: bool = False
    resign: bool = False


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and something that signs with its private part."""

    public: rsa.RSAPublicKey
    signer: Signer

    @property
    def mr_signer(self) -> bytes:
        """MRSIGNER of the enclaves that it signs."""
        modulus = self.public.public_numbers().n
        return hashlib.sha256(modulus.to_bytes(RSA_BYTES, "little")).digest()


@dataclass(frozen=True, slots=True)
class Signed:
    """What signing gave: the SIGSTRUCT, and the memory that the enclave's pages take in bytes."""

    sigstruct: SigStruct
    memory: int


def sign(
    enclave: Path,
    out: Path,
    key: SigningKey,
    *,
    config: EnclaveConfig | None = None,
    checks: Checks = Checks(),  # it is frozen
    date: datetime.date | None = None,
) -> Signed:
    """Sign an enclave; its file is written whole or not at all.

    Without a configuration the defaults hold, or, to sign a signed file again, all that was
    signed before. `date` is the day in SIGSTRUCT, today in UTC by default.
    """
    prepared = _prepare(enclave, config, checks, _day(date))
    sigstruct = sign_sigstruct(prepared.sigstruct, key.public, key.signer)
    write_signed(prepared, sigstruct, out)
    return Signed(sigstruct, prepared.memory)


def gendata(
    enclave: Path,
    *,
    config: EnclaveConfig | None = None,
    checks: Checks = Checks(),  # it is frozen
    date: datetime.date | None = None,
) -> bytes:
    """Return the 256 bytes that have to be signed, PKCS #1 v1.5 with SHA-256."""
    return _prepare(enclave, config, checks, _day(date)).signing_data


def catsig(
    enclave: Path,
    out: Path,
    key: rsa.RSAPublicKey,
    *,
    signature: bytes,
    unsigned: bytes,
    config: EnclaveConfig | None = None,
    checks: Checks = Checks(),  # it is frozen
) -> Signed:
    """Put a signature that was made over `gendata`'s bytes (`unsigned`) into an enclave.

    Raises `VerificationError` when the bytes are not this enclave's, or the signature is not
    this key's.
    """
    if len(unsigned) != 2 * HEADER_SIZE:
        raise ConfigError(f"gendata writes 256 bytes, and -unsigned has {len(unsigned)}")
    date = int.from_bytes(unsigned[20:24], "little")
    prepared = _prepare(enclave, config, checks, date)
    if prepared.signing_data != unsigned:
        raise VerificationError(
            f"what was signed is not what {enclave} and its configuration give; "
            "run gendata again with the same configuration"
        )
    sigstruct = finish_sigstruct(prepared.sigstruct, key, signature)
    write_signed(prepared, sigstruct, out)
    return Signed(sigstruct, prepared.memory)


def dump(enclave: Path) -> tuple[str, SigStruct]:
    """Return the metadata of a signed enclave as text, and its SIGSTRUCT."""
    file = EnclaveElf(map_file(enclave), str(enclave))
    text = render_metadata(file)
    return text, file.metadata[0].header.sigstruct


def _prepare(enclave: Path, config: EnclaveConfig | None, checks: Checks, date: int) -> Prepared:
    """Return an enclave ready to be signed."""
    file = EnclaveElf(map_file(enclave), str(enclave))
    if config is None and checks.resign and file.metadata:
        return prepare_again(file, date=date)
    return prepare(
        file,
        EnclaveConfig() if config is None else config,
        date=date,
        text_relocations_allowed=checks.ignore_rel_error,
        init_section_allowed=checks.ignore_init_sec_error,
        resign=checks.resign,
    )


def _day(date: datetime.date | None) -> int:
    return bcd_date(date or datetime.datetime.now(datetime.UTC).date())


def read_config(path: Path) -> EnclaveConfig:
    """Return the configuration in a file."""
    return parse_config(map_file(path), source=str(path))


def load_signing_key(path: Path, *, password: bytes | None = None) -> SigningKey:
    """Return the private key in a PEM file; raise `ConfigError` for any other kind of key."""
    try:
        key = load_pem_private_key(_key_file(path), password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{path} holds no private key in PEM that can be read: {error}"
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError(f"{path} holds no RSA key; enclaves are signed with RSA-3072")
    check_signing_key(key, source=str(path))
    return SigningKey(key.public_key(), key_signer(key))


def make_signing_key(path: Path) -> SigningKey:
    """Make a new signing key and write it to a file for its owner alone, in PEM without a password.

    Raises `ConfigError` where the file is there already: a key that is lost is lost with all
    that was sealed to it.
    """
    key = generate_signing_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
            stream.write(pem)
    except FileExistsError:
        raise ConfigError(
            f"{path} is there already, and a key is not overwritten; move it away or name another"
        ) from None
    return SigningKey(key.public_key(), key_signer(key))


def load_public_key(path: Path) -> rsa.RSAPublicKey:
    """Return the public key in a PEM file; raise `ConfigError` for any other kind of key."""
    try:
        key = load_pem_public_key(_key_file(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} holds no public key in PEM: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise ConfigError(f"{path} holds no RSA key; enclaves are signed with RSA-3072")
    check_signing_key(key, source=str(path))
    return key


def _key_file(path: Path) -> bytes:
    """Return a key file's bytes."""
    data = map_file(path)
    if len(data) > _MAX_KEY_FILE:
        raise ConfigError(f"{path} is too large for a key file")
    return bytes(data)


_PATHS = (
    *("-enclave", "-config", "-key", "-out"),
    *("-sig", "-unsigned", "-dumpfile", "-cssfile"),
)
_FLAGS: Mapping[str, str] = {
    "-ignore-rel-error": "ignore_rel_error",
    "-ignore-init-sec-error": "ignore_init_sec_error",
    "-resign": "resign",
}
# command -> the options it needs, and those it takes
_COMMANDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sign": (("-enclave", "-key", "-out"), ("-config", "-dumpfile", "-cssfile")),
    "gendata": (("-enclave", "-out"), ("-config",)),
    "catsig": (
        ("-enclave", "-key", "-out", "-sig", "-unsigned"),
        ("-config", "-dumpfile", "-cssfile"),
    ),
    "dump": (("-enclave", "-dumpfile"), ("-cssfile",)),
}


@dataclass(slots=True)
class _Arguments:
    """A command line of the signing tool."""

    command: str
    paths: dict[str, Path] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)

    @property
    def checks(self) -> Checks:
        """What the flags let pass."""
        return Checks(**self.flags)


def _parse(arguments: Sequence[str]) -> _Arguments:
    """Return a command line; the options are those of the vendor's tool."""
    command, *rest = arguments or [""]
    if command not in _COMMANDS:
        raise ConfigError(f"{command!r} is no command; use {', '.join(_COMMANDS)}")
    needed, taken = _COMMANDS[command]
    parsed = _Arguments(command)
    words = iter(rest)
    for word in words:
        if word in parsed.paths or _FLAGS.get(word) in parsed.flags:
            raise ConfigError(f"{word} is given twice")
        if word in _FLAGS and (command, word) != ("dump", "-resign"):
            parsed.flags[_FLAGS[word]] = True
        elif word in needed + taken:
            value = next(words, "")
            if not value or value.startswith("-"):
                raise ConfigError(f"{word} needs a file name")
            parsed.paths[word] = Path(value)
        else:
            known = word in _PATHS or word in _FLAGS
            raise ConfigError(
                f"{command} takes no {word}" if known else f"{word} is no option of {command}"
            )
    if missing := [option for option in needed if option not in parsed.paths]:
        raise ConfigError(f"{command} needs {', '.join(missing)}")
    if len(set(parsed.paths.values())) != len(parsed.paths):
        raise ConfigError("two options name the same file")
    return parsed


def run(arguments: Sequence[str], *, date: datetime.date | None = None) -> str:
    """Run the vendor tool's command line and return what it says.

    `arguments` are without the program's name, such as
    `["sign", "-enclave", "e.so", "-key", "k.pem", "-out", "e.signed.so"]`.
    """
    parsed = _parse(arguments)
    paths = parsed.paths
    enclave = paths["-enclave"]
    if parsed.command == "dump":
        text, sigstruct = dump(enclave)
        _write(paths["-dumpfile"], text.encode())
        if "-cssfile" in paths:
            _write(paths["-cssfile"], bytes(sigstruct))
        return "Succeed.\n"
    config = read_config(paths["-config"]) if "-config" in paths else None
    if parsed.command == "gendata":
        data = gendata(enclave, config=config, checks=parsed.checks, date=date)
        _write(paths["-out"], data)
        return "Succeed.\n"
    if parsed.command == "sign":
        key = load_signing_key(paths["-key"])
        signed = sign(enclave, paths["-out"], key, config=config, checks=parsed.checks, date=date)
    else:
        signed = catsig(
            enclave,
            paths["-out"],
            load_public_key(paths["-key"]),
            signature=bytes(map_file(paths["-sig"])[:_MAX_KEY_FILE]),
            unsigned=bytes(map_file(paths["-unsigned"])[:_MAX_KEY_FILE]),
            config=config,
            checks=parsed.checks,
        )
    if "-dumpfile" in paths:
        _write(paths["-dumpfile"], dump(paths["-out"])[0].encode())
    if "-cssfile" in paths:
        _write(paths["-cssfile"], bytes(signed.sigstruct))
    return f"The required memory is {signed.memory}B.\nSucceed.\n"


def _write(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all."""
    replace_file(path, lambda put: put(content), mode=0o644)
