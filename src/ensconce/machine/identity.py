# SPDX-License-Identifier: Apache-2.0
"""A platform's identity: the fuses that a real processor is made with, kept in one private file.

The file is JSON, read and written by its owner alone: mode 0600 in a folder that others can't
write, never through a symbolic link. It is made once, when first asked for; two processes that
ask at the same moment get the same identity.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ensconce.errors import ConfigError, FormatError
from ensconce.isa.record import BytesLike

__all__ = [
    "CPU_SVN_BYTES",
    "DEFAULT_CPU_SVN",
    "Identity",
    "default_path",
    "load",
    "load_or_create",
    "read_private",
    "recover",
    "save",
    "write_private",
]

CPU_SVN_BYTES = 16
DEFAULT_CPU_SVN = bytes((4, 4, 2, 2, 4, 1, 0, 3)) + bytes(8)

_VERSION = 1
_MAX_FILE = 1 << 16
_NOTICE = (
    "This file holds the secret keys of an emulated SGX platform: whoever reads it can unseal "
    "and sign whatever enclaves on it did."
)
_SIZES = {
    "platform_id": 16,
    "cpu_svn": CPU_SVN_BYTES,
    "owner_epoch": 16,
    "provisioning_fuses": 32,
    "seal_fuses": 16,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes one emulated processor differ from every other; its text form hides the keys.

    `platform_id` (16 bytes) is public, like a PPID. `cpu_svn` (16 components) is the TCB level
    that the platform runs at. `provisioning_fuses` are the secret that the platform's maker
    shares, `seal_fuses` the one that nobody does (SDM vol. 3D, 38.4.3; DCAP's PCE builds its
    key from the first).
    """

    platform_id: bytes
    cpu_svn: bytes
    owner_epoch: bytes = field(repr=False)
    provisioning_fuses: bytes = field(repr=False)
    seal_fuses: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name, size in _SIZES.items():
            if len(getattr(self, name)) != size:
                raise FormatError(
                    f"a platform identity's {name} takes {size} bytes; restore the file "
                    "from an export",
                    source="platform identity",
                )

    @classmethod
    def generate(cls, cpu_svn: bytes = DEFAULT_CPU_SVN) -> "Identity":
        """Return a new identity from the operating system's random numbers."""
        return cls(os.urandom(16), cpu_svn, os.urandom(16), os.urandom(32), os.urandom(16))

    @classmethod
    def parse(cls, data: BytesLike, *, source: str = "platform identity") -> "Identity":
        """Return the identity in a file's bytes. Raises FormatError."""
        fields = _fields(data, source)
        values = {}
        for name, size in _SIZES.items():
            text = fields.get(name)
            try:
                value = bytes.fromhex(text) if isinstance(text, str) else b""
            except ValueError:
                value = b""
            if len(value) != size:
                raise FormatError(
                    f"{source}: {name} is not {size} bytes of hexadecimal digits; restore the "
                    "file from an export, or remove it to start anew",
                    source=source,
                )
            values[name] = value
        return cls(**values)

    def __bytes__(self) -> bytes:
        """Return the identity as a file, secrets included, with a notice that says so."""
        fields: dict[str, object] = {"ensconce_platform": _VERSION, "notice": _NOTICE}
        fields |= {name: getattr(self, name).hex() for name in _SIZES}
        return json.dumps(fields, indent=1).encode() + b"\n"

    def recovered(self, cpu_svn: bytes | None = None) -> "Identity":
        """Return this platform after a TCB recovery: the same fuses at a higher CPUSVN.

        Without a `cpu_svn` the components of the two microcode loads rise by one. Keys of every
        earlier CPUSVN stay derivable. Raises ConfigError where no component rises or one falls.
        """
        old = self.cpu_svn
        if cpu_svn is None:
            cpu_svn = bytes(min(svn + 1, 255) for svn in old[:2]) + old[2:]
        falls = len(cpu_svn) != CPU_SVN_BYTES or any(
            new < svn for new, svn in zip(cpu_svn, old, strict=True)
        )
        if falls or cpu_svn == old:
            raise ConfigError(
                f"a TCB recovery can't go from CPUSVN {old.hex()} to {cpu_svn.hex()}; give "
                f"{CPU_SVN_BYTES} components of which at least one rises and none falls"
            )
        return replace(self, cpu_svn=cpu_svn)

    def secret(self, label: bytes, length: int = 32) -> bytes:
        """Return a secret that only this platform's maker could know, one for each label.

        HKDF-Expand with SHA-256 (RFC 5869) over the provisioning fuses; at most 8,160 bytes.
        """
        out, block, counter = b"", b"", 1
        while len(out) < length:
            block = hmac.digest(
                self.provisioning_fuses,
                block + b"ensconce\0" + label + bytes((counter,)),
                hashlib.sha256,
            )
            out += block
            counter += 1
        return out[:length]


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the identity lies: $ENSCONCE_PLATFORM, else under the user's state folder."""
    named = environment.get("ENSCONCE_PLATFORM")
    if named:
        return Path(named)
    state = environment.get("XDG_STATE_HOME")
    folder = Path(state) if state else Path.home() / ".local" / "state"
    return folder / "ensconce" / "platform"


def load(path: Path) -> Identity:
    """Read an identity. Raises FileNotFoundError, ConfigError (not private), FormatError."""
    with _folder(path, create=False) as folder:
        return Identity.parse(_read(folder, path), source=str(path))


def load_or_create(path: Path | None = None) -> Identity:
    """Read the identity, or make it; whoever asks at the same moment gets the same one."""
    path = path or default_path()
    with _folder(path, create=True) as folder:
        try:
            return Identity.parse(_read(folder, path), source=str(path))
        except FileNotFoundError:
            made = Identity.generate()
        with contextlib.suppress(FileExistsError):
            _publish(folder, path.name, bytes(made), replace_old=False)
        return Identity.parse(_read(folder, path), source=str(path))


def read_private(path: Path) -> bytes:
    """Return a private file beside an identity. Raises FileNotFoundError, ConfigError."""
    with _folder(path, create=False) as folder:
        return _read(folder, path)


def write_private(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a private file beside an identity, whole or not at all. Raises FileExistsError."""
    with _folder(path, create=True) as folder:
        _publish(folder, path.name, data, replace_old=overwrite)


def save(path: Path, identity: Identity, *, overwrite: bool = False) -> None:
    """Write an identity, as from an export. Raises ConfigError where one is there already."""
    with _folder(path, create=True) as folder:
        try:
            _publish(folder, path.name, bytes(identity), replace_old=overwrite)
        except FileExistsError:
            raise ConfigError(
                f"{path} holds a platform identity already; say that it shall be overwritten, "
                "which loses everything sealed on it"
            ) from None


def recover(path: Path, cpu_svn: bytes | None = None) -> Identity:
    """Carry out a TCB recovery of the identity at a path and return it; see `recovered`."""
    with _folder(path, create=False) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)
        identity = Identity.parse(_read(folder, path), source=str(path)).recovered(cpu_svn)
        _publish(folder, path.name, bytes(identity), replace_old=True)
        return identity


def _fields(data: BytesLike, source: str) -> dict[str, Any]:
    """Return the JSON object in an identity's bytes, with its version checked."""
    fields = None
    if len(data) <= _MAX_FILE:
        with contextlib.suppress(ValueError, RecursionError):
            fields = json.loads(bytes(data))
    if not isinstance(fields, dict) or fields.get("ensconce_platform") != _VERSION:
        raise FormatError(
            f"{source} is not a platform identity of version {_VERSION}; restore it from an "
            "export, or remove it to start anew",
            source=source,
        )
    unknown = fields.keys() - _SIZES.keys() - {"ensconce_platform", "notice"}
    if unknown:
        raise FormatError(
            f"{source}: {sorted(unknown)[0]!r} is no field of a platform identity; remove it",
            source=source,
        )
    return fields


@contextlib.contextmanager
def _folder(path: Path, *, create: bool) -> Iterator[int]:
    """Open the folder of an identity, made with mode 0700 where it is missing."""
    try:
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(
            f"{path.parent} can't hold a platform identity ({error.strerror}); name a folder of "
            "yours in $ENSCONCE_PLATFORM"
        ) from error
    try:
        mode = os.fstat(folder).st_mode
        if mode & 0o022 and not mode & stat.S_ISVTX:
            raise ConfigError(
                f"{path.parent} can be written by others, who could put a platform of theirs "
                "in it; chmod it to 0700"
            )
        yield folder
    finally:
        os.close(folder)


def _read(folder: int, path: Path) -> bytes:
    """Return an identity file's bytes if it is private. Raises FileNotFoundError, ConfigError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path.name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(
            f"{path} can't be opened as a private file ({error.strerror}); it must be a plain "
            "file, not a link, that you may read"
        ) from error
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a plain file; remove it or name another path")
        if status.st_uid != os.geteuid():
            raise ConfigError(f"{path} belongs to another user; use an identity of your own")
        if status.st_mode & 0o077:
            raise ConfigError(
                f"{path} holds secret keys and others may read or write it; chmod it to 0600, "
                "and make a new identity if somebody may have read it"
            )
        return stream.read(_MAX_FILE + 1)


def _publish(folder: int, name: str, data: bytes, *, replace_old: bool) -> None:
    """Put a file in place whole or not at all. Raises FileExistsError."""
    draft = f".{name}.{os.getpid()}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(draft, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise ConfigError(
            f"a platform identity can't be written as {name} ({error.strerror}); name a path "
            "that you may write in $ENSCONCE_PLATFORM"
        ) from error
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(file)
        if replace_old:
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.link(draft, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        os.fsync(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
