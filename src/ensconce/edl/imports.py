# SPDX-License-Identifier: Apache-2.0
"""Find EDL files on search paths, follow their imports, and join them to one interface."""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ensconce.edl.checks import check, ordered
from ensconce.edl.lexer import error
from ensconce.edl.model import Composite, Ecall, Interface, Ocall, Position, UnionDefinition
from ensconce.edl.parser import Document, Import, parse
from ensconce.edl.preprocessor import Reader

__all__ = ["load", "loads"]

_MAX_FILES = 256
_MAX_TEXT = 4 << 20  # characters of all files together
_MAX_VISITS = 4096
_MAX_DEPTH = 32


def load(path: str, read: Reader, search_paths: Sequence[str] = (".",)) -> Interface:
    """Read an EDL file and all that it imports; return the checked interface.

    `read` returns a file's text or raises FileNotFoundError. A relative path, this one included,
    is tried under each search path in turn and never beside the file that imports it.
    Raises FormatError.
    """
    loader = _Loader(read, tuple(search_paths))
    root = loader.file(path, Position(path, 1, 1))
    loader.collect(root, None)
    return _interface(loader, path)


def loads(text: str, source: str = "Enclave.edl") -> Interface:
    """Return the checked interface of one EDL text that imports nothing. Raises FormatError."""

    def read(path: str) -> str:
        if path == source:
            return text
        raise FileNotFoundError(path)

    return load(source, read, ("",))


@dataclass(slots=True, eq=False)
class _File:
    """One EDL file, parsed once however many times and ways it is imported."""

    path: str
    document: Document
    functions: set[str]


def _parsed(path: str, text: str, read: Reader) -> _File:
    document = parse(text, path, read)
    names = {item.name for item in (*document.ecalls, *document.ocalls)}
    return _File(path, document, names)


@dataclass(slots=True)
class _Loader:
    """The files met on the way and what has been taken from each, in the order of numbering."""

    read: Reader
    search_paths: tuple[str, ...]
    names: dict[str, _File] = field(default_factory=dict)
    files: dict[tuple[str, str], _File] = field(default_factory=dict)
    characters: int = 0
    stack: list[_File] = field(default_factory=list)
    taken: dict[_File, dict[str, None]] = field(default_factory=dict)
    visits: dict[tuple[_File, frozenset[str] | None], set[str]] = field(default_factory=dict)
    ecalls: list[Ecall] = field(default_factory=list)
    ocalls: list[Ocall] = field(default_factory=list)

    def file(self, name: str, wanted_at: Position) -> _File:
        """Return the parsed file of that name."""
        if name not in self.names:
            path, text = self._find(name, wanted_at)
            self.characters += len(text)
            if len(self.names) == _MAX_FILES or self.characters > _MAX_TEXT:
                raise error(
                    wanted_at, f"the imports are too much to read, at {path}: leave some out"
                )
            # The same text under the same name is the same file, whichever way it was reached.
            key = (posixpath.basename(name), text)
            if key not in self.files:
                self.files[key] = _parsed(path, text, self.read)
            self.names[name] = self.files[key]
        return self.names[name]

    def _find(self, name: str, wanted_at: Position) -> tuple[str, str]:
        absolute = name.startswith("/")
        paths = [name] if absolute else [posixpath.join(base, name) for base in self.search_paths]
        for path in paths:
            path = path.removeprefix("./")
            try:
                return path, self.read(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError) as fault:
                raise error(wanted_at, f"{path} can't be read: {fault}") from fault
        raise error(
            wanted_at,
            f"`{name}` is not on the search path ({', '.join(self.search_paths)}): correct the "
            "name or add its folder",
        )

    def collect(self, file: _File, names: frozenset[str] | None) -> set[str]:
        """Take functions (all for None) from a file and its imports; return those found."""
        if (file, names) in self.visits:
            return self.visits[file, names]
        if len(self.visits) == _MAX_VISITS:
            raise error(Position(file.path, 1, 1), "the imports are too many to follow: join some")
        self._take(file, names)
        self.stack.append(file)
        found = set(file.functions if names is None else file.functions & names)
        missing = None if names is None else names - found
        for wanted in file.document.imports:
            found |= self._follow(wanted, missing)
        self.stack.pop()
        self.visits[file, names] = found
        return found

    def _follow(self, wanted: Import, missing: frozenset[str] | None) -> set[str]:
        """Follow one import: with its own names, or looking for the ones still missing."""
        target = self.file(wanted.path, wanted.position)
        if target in self.stack:
            circle = " imports ".join(file.path for file in (*self.stack, target))
            raise error(wanted.position, f"the imports run in a circle ({circle}): break it")
        if len(self.stack) == _MAX_DEPTH:
            raise error(wanted.position, "the imports nest too deeply: join some files")
        if missing is not None:
            return self.collect(target, missing)
        names = None if wanted.names is None else frozenset(wanted.names)
        found = self.collect(target, names)
        absent = sorted((names or frozenset()) - found)
        if absent:
            raise error(
                wanted.position,
                f"`{wanted.path}` has no function `{absent[0]}` to import: correct the name",
            )
        return found

    def _take(self, file: _File, names: frozenset[str] | None) -> None:
        taken = self.taken.setdefault(file, {})
        for functions, into in (
            (file.document.ecalls, self.ecalls),
            (file.document.ocalls, self.ocalls),
        ):
            fresh = [
                item
                for item in functions
                if item.name not in taken and (names is None or item.name in names)
            ]
            into.extend(fresh)  # type: ignore[arg-type]
        taken.update(dict.fromkeys(file.functions if names is None else file.functions & names))


def _interface(loader: _Loader, path: str) -> Interface:
    """Join what was taken to an interface, and check it."""
    documents = [file.document for file in loader.taken]
    base = posixpath.basename(path)
    interface = Interface(
        base.rpartition(".")[0] or base,
        _once(name for item in documents for name in item.includes),
        _once(name for item in documents for name in item.trusted_includes),
        _once(name for item in documents for name in item.untrusted_includes),
        ordered(_without_equal_unions(item for file in documents for item in file.composites)),
        tuple(loader.ecalls),
        tuple(loader.ocalls),
    )
    return replace(interface, warnings=check(interface))


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _without_equal_unions(composites: Iterable[Composite]) -> list[Composite]:
    """Drop a union that was already defined with the same members, which EDL allows."""
    kept: list[Composite] = []
    unions: set[Composite] = set()
    for item in composites:
        if item not in unions:
            kept.append(item)
        if isinstance(item, UnionDefinition):
            unions.add(item)
    return kept
