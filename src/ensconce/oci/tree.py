# SPDX-License-Identifier: Apache-2.0
"""The files of an image as values, and as tar archives whose bytes follow from them alone."""

import io
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath

from ensconce.errors import ConfigError

__all__ = ["Entry", "Kind", "Tree", "write_tar"]


class Kind(Enum):
    """What a path in an image is; there are no devices, sockets and pipes."""

    FILE = tarfile.REGTYPE
    FOLDER = tarfile.DIRTYPE
    LINK = tarfile.SYMTYPE


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, folder or symbolic link: `content` are a file's bytes or a link's target."""

    kind: Kind
    mode: int
    content: bytes = b""
    owner: int = 0  # of user and group


_FOLDER = Entry(Kind.FOLDER, 0o755)
_READABLE, _PROGRAM = 0o644, 0o755


@dataclass(slots=True)
class Tree:
    """Paths, relative and without `.` or `..`, and what is there."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def put(self, path: str, entry: Entry) -> None:
        """Add an entry and the folders above it; raise ConfigError for a path that leads out."""
        pure = PurePosixPath(path)
        parts = [part for part in pure.parts if part != "/"]
        if not parts or ".." in parts or "\0" in path:
            raise ConfigError(f"{path!r} is no path for a file in an image: name one below /")
        for depth in range(1, len(parts)):
            above = self.entries.setdefault("/".join(parts[:depth]), _FOLDER)
            if above.kind is Kind.FILE:
                raise ConfigError(
                    f"/{'/'.join(parts[:depth])} can't be a file and have {path} in it"
                )
        self.entries["/".join(parts)] = entry

    def file(self, path: str, content: bytes, *, program: bool = False) -> None:
        """Add a file that all may read, and run if it is a program."""
        self.put(path, Entry(Kind.FILE, _PROGRAM if program else _READABLE, content))

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self.put(path, Entry(Kind.LINK, 0o777, target.encode()))

    def folder(self, path: str, *, mode: int = 0o755, owner: int = 0) -> None:
        """Add a folder."""
        self.put(path, Entry(Kind.FOLDER, mode, owner=owner))

    def copy(
        self, source: Path, path: str, wanted: Callable[[Path], bool] = lambda _: True
    ) -> None:
        """Add a file, or a folder with all that is in it and `wanted`; links stay links.

        Owners become 0 and modes 755 or 644, whoever built the image.
        """
        if source.is_dir() and not source.is_symlink():
            self.folder(path)
            for each in sorted(source.iterdir()):
                if wanted(each):
                    self.copy(each, f"{path}/{each.name}", wanted)
        elif source.is_symlink():
            self.link(path, str(source.readlink()))
        elif source.is_file():
            program = bool(source.stat().st_mode & stat.S_IXUSR)
            self.file(path, source.read_bytes(), program=program)
        else:
            raise ConfigError(f"{source} is neither a file nor a folder, so no image can have it")

    def update(self, other: "Tree") -> None:
        """Add all entries of another tree; its own win."""
        for path, entry in other.entries.items():
            self.put(path, entry)

    def extract(self, folder: Path) -> None:
        """Write the files below a folder that exists and is empty; owners are left out."""
        for path, entry in sorted(self.entries.items()):
            place = folder / path
            if entry.kind is Kind.FOLDER:
                place.mkdir(exist_ok=True)
            elif entry.kind is Kind.LINK:
                place.symlink_to(entry.content.decode())
            else:
                place.write_bytes(entry.content)
                place.chmod(entry.mode)

    def without(self, other: Mapping[str, Entry]) -> "Tree":
        """Return what is not in `other` in the very same way: the layer to put on top of it."""
        return Tree({p: entry for p, entry in self.entries.items() if other.get(p) != entry})

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return iter(sorted(self.entries.items()))


def write_tar(tree: Tree, when: int) -> bytes:
    """Return a layer: entries sorted, owned by number alone, all of one time (seconds).

    The same tree gives the same bytes, whatever made it.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, entry in tree:
            member = tarfile.TarInfo(path)
            member.type, member.mode, member.mtime = entry.kind.value, entry.mode, when
            member.uid = member.gid = entry.owner
            if entry.kind is Kind.LINK:
                member.linkname = entry.content.decode()
                archive.addfile(member)
            else:
                member.size = len(entry.content)
                archive.addfile(member, io.BytesIO(entry.content))
    return stream.getvalue()
