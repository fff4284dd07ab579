# SPDX-License-Identifier: Apache-2.0
"""A root file system of Debian packages, which Debian's own client fetches and checks."""

import hashlib
import io
import logging
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ConfigError
from ensconce.oci.tar import MemberKind, TarWalk
from ensconce.oci.tree import Entry, Kind, Tree

__all__ = ["Package", "find_packages", "root_tree"]

_log = logging.getLogger(__name__)

_URI = re.compile(r"^'[^']+' (?P<file>\S+) \d+", re.MULTILINE)
_MERGED = ("bin", "lib", "lib64", "sbin")  # links to folders of /usr since Debian 12
_MAX_PACKAGE = 1 << 30
_UNSANDBOXED = ("-o", "APT::Sandbox::User=root")  # the cache is its user's alone
_USER = "nonroot:x:65532:65532:nonroot:/home/nonroot:/usr/sbin/nologin"


@dataclass(frozen=True, slots=True)
class Package:
    """A package's file, its name and version, and its control record."""

    file: Path
    name: str
    version: str
    control: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the file, in hex."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


def find_packages(names: Sequence[str], cache: Path) -> list[Package]:
    """Return the current packages of these names, out of `cache` where it has them.

    APT checks each against the distribution's signed index. Raises ConfigError where it can't.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:  # what is there already, APT leaves out
        listing = _apt("download", "--print-uris", "-q", *names, folder=Path(work))
        files = {match["file"].split("_")[0]: match["file"] for match in _URI.finditer(listing)}
        if files.keys() != set(names):
            raise ConfigError(f"APT has no files of {', '.join(sorted({*names} - files.keys()))}")
        missing = [name for name, file in files.items() if not (cache / file).exists()]
        if missing:
            _log.info("fetching %d Debian packages", len(missing))
            _apt("download", "-q", *missing, folder=Path(work))
        for each in Path(work).glob("*.deb"):
            each.rename(cache / each.name)
    return [_read(cache / file) for _, file in sorted(files.items())]


def root_tree(packages: Iterable[Package], wanted: Callable[[str], bool]) -> Tree:
    """Return the files of packages that are wanted, and the few that make a root file system.

    There are no shell and no package manager; `/var/lib/dpkg/status.d` tells scanners what is
    there. The user is 65532, `nonroot`.
    """
    tree = Tree()
    certificates = []
    for package in packages:
        unpacked = _unpack(package)
        for path, entry in unpacked:
            if path.startswith("usr/share/ca-certificates/mozilla/"):
                certificates.append(entry.content)
            elif entry.kind is not Kind.FOLDER and (wanted(path) or path.endswith("/copyright")):
                tree.put(path, entry)
        tree.file(f"var/lib/dpkg/status.d/{package.name}", package.control.encode())
    if certificates:
        tree.file("etc/ssl/certs/ca-certificates.crt", b"".join(certificates))
    for name in _MERGED:
        tree.folder(f"usr/{name}")
        tree.link(name, f"usr/{name}")
    tree.file("etc/passwd", f"root:x:0:0:root:/root:/usr/sbin/nologin\n{_USER}\n".encode())
    tree.file("etc/group", b"root:x:0:\nnonroot:x:65532:\n")
    tree.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    for folder in ("dev", "etc", "proc", "run", "sys", "var"):
        tree.folder(folder)
    tree.link("var/run", "../run")
    tree.folder("tmp", mode=0o1777)
    tree.folder("home/nonroot", mode=0o700, owner=65532)
    return tree


def _read(file: Path) -> Package:
    """Return a package's control record."""
    control = _run("dpkg-deb", "--field", str(file)).decode()
    fields = dict(re.findall(r"^(Package|Version): (.+)$", control, re.MULTILINE))
    return Package(file, fields["Package"], fields["Version"], control)


def _unpack(package: Package) -> Iterable[tuple[str, Entry]]:
    """Yield a package's files, below /usr where Debian has merged folders into it."""
    content = io.BytesIO(_run("dpkg-deb", "--fsys-tarfile", str(package.file)))
    walk = TarWalk(content, package.file.name, _MAX_PACKAGE)
    kinds = {MemberKind.FILE: Kind.FILE, MemberKind.FOLDER: Kind.FOLDER, MemberKind.LINK: Kind.LINK}
    files: dict[str, Entry] = {}
    for member in walk:
        top = member.path.split("/")[0]
        path = f"usr/{member.path}" if top in _MERGED else member.path
        if member.kind in kinds and path:
            link = member.kind is MemberKind.LINK
            content_ = member.target.encode() if link else walk.read()
            files[path] = Entry(
                kinds[member.kind], member.mode & 0o755 if not link else 0o777, content_
            )
        elif member.kind is MemberKind.HARD_LINK:
            files[path] = files[member.target]
    return files.items()


def _apt(*arguments: str, folder: Path) -> str:
    """Run Debian's client in a folder and return what it prints."""
    return _run("apt-get", *_UNSANDBOXED, *arguments, folder=folder).decode()


def _run(*command: str, folder: Path | None = None) -> bytes:
    """Run a command of Debian's; raise ConfigError with what it says."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True)  # noqa: S603  # fixed programs, no shell
    except FileNotFoundError as error:
        raise ConfigError(
            f"{command[0]} is not here: a root file system is made of Debian 12's packages by "
            "Debian's own tools; build on Debian, or name a base image with --base"
        ) from error
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.decode(errors="replace").split())
        raise ConfigError(
            f"{command[0]} failed: {said}; bring its package lists up to date with: apt-get update"
        ) from error
    return done.stdout
