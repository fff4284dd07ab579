# SPDX-License-Identifier: Apache-2.0
"""The part of the C preprocessor that EDL files use.

The vendor's tool sends EDL through `gcc -E`. Here: conditions, macros without parameters, and
inclusion of quoted files through the caller's reader. A macro with parameters may be defined,
as shared headers do, and not used.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ensconce.edl.conditions import ConditionError, evaluate
from ensconce.edl.lexer import MAX_SOURCE, Token, TokenKind, error, scan, without_comments
from ensconce.edl.model import Position

__all__ = ["Reader", "tokens"]

Reader = Callable[[str], str]

_MAX_TOKENS = 400_000
_MAX_INCLUDES = 64
_MAX_DEPTH = 32
_BLANK = " \t\r\f\v"
_DIRECTIVE = re.compile(r"\s*#\s*([A-Za-z_]\w*|\d+)?\s*(.*)", re.ASCII | re.DOTALL)
_DEFINE = re.compile(r"([A-Za-z_]\w*)(\()?(.*)", re.ASCII | re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_IGNORED = ("pragma", "warning", "ident", "line")
# What gcc defines by itself on this platform and an EDL file may ask for.
_PREDEFINED_NAMES = (
    "__ELF__ __GNUC__ __LP64__ __STDC__ __amd64 __amd64__ __gnu_linux__ __linux __linux__ "
    "__unix __unix__ __x86_64 __x86_64__ _LP64"
)
_PREDEFINED = frozenset(_PREDEFINED_NAMES.split())


@dataclass(frozen=True, slots=True)
class _Macro:
    """A macro; its body is cut into tokens only where it is used."""

    body: str
    parameters: bool


@dataclass(slots=True)
class _Branch:
    """One open #if: where, whether this part counts, whether any part did, and #else seen."""

    position: Position
    active: bool
    taken: bool
    last: bool = False


def tokens(text: str, source: str, read: Reader | None = None) -> Iterator[Token]:
    """Yield the tokens of an EDL file after preprocessing; raises FormatError."""
    return _Preprocessor(read).file(text, source, 0)


class _Preprocessor:
    """The macros and limits of one file with all that it includes."""

    def __init__(self, read: Reader | None) -> None:
        self._read = read
        self._macros = {name: _Macro("1", parameters=False) for name in _PREDEFINED}
        self._predefined = _PREDEFINED
        self._steps = 0
        self._includes = 0
        self._characters = 0

    def file(self, text: str, source: str, depth: int) -> Iterator[Token]:
        lines = without_comments(text, source).split("\n")
        branches: list[_Branch] = []
        index = 0
        while index < len(lines):
            line, number = lines[index].rstrip(_BLANK), index + 1
            index += 1
            directive = line.lstrip(_BLANK).startswith("#")
            parts = [line.removesuffix("\\")]
            while directive and line.endswith("\\") and index < len(lines):
                line = lines[index].rstrip(_BLANK)
                parts.append(line.removesuffix("\\"))
                index += 1
            if directive:
                position = Position(source, number, 1)
                yield from self._directive(" ".join(parts), position, branches, depth)
            elif not branches or branches[-1].active:
                for token in scan(parts[0], number, source):
                    yield from self._expand(token, frozenset())
        if branches:
            raise error(branches[-1].position, "this condition never ends: close it with #endif")

    # Macros

    def _step(self, position: Position) -> None:
        self._steps += 1
        if self._steps > _MAX_TOKENS:
            raise error(
                position,
                f"the file has more than {_MAX_TOKENS} tokens after its macros: split it",
            )

    def _expand(self, token: Token, hidden: frozenset[str]) -> Iterator[Token]:
        self._step(token.position)
        macro = self._macros.get(token.text) if token.kind is TokenKind.NAME else None
        if macro is None or token.text in hidden or token.text in self._predefined:
            yield token
            return
        if macro.parameters:
            raise error(
                token.position,
                f"the macro `{token.text}` has parameters, which EDL files can't use here: "
                "write it out",
            )
        if len(hidden) == _MAX_DEPTH:
            raise error(token.position, f"the macro `{token.text}` nests too deeply: write it out")
        for part in scan(macro.body, token.position.line, token.position.source):
            moved = Token(part.kind, part.text, token.position)
            yield from self._expand(moved, hidden | {token.text})

    # Directives

    def _directive(
        self, text: str, position: Position, branches: list[_Branch], depth: int
    ) -> Iterator[Token]:
        match = _DIRECTIVE.fullmatch(text)
        name, rest = (match[1] or "", match[2].rstrip(_BLANK)) if match else ("", "")
        if name in ("if", "ifdef", "ifndef", "elif", "else", "endif"):
            self._condition(name, rest, position, branches)
            return
        if branches and not branches[-1].active:
            return
        if name == "include":
            yield from self._include(rest, position, depth)
        elif name == "define":
            self._define(rest, position)
        elif name == "undef":
            self._macros.pop(self._name(rest, position), None)
        elif name == "error":
            raise error(position, f"the file stops itself: #error {rest[:200]}")
        elif name and not name.isdigit() and name not in _IGNORED:
            raise error(position, f"unknown directive `#{name[:40]}`: remove it")

    def _name(self, rest: str, position: Position) -> str:
        match = _NAME.match(rest)
        if match is None:
            raise error(position, "this directive needs a name: add it")
        return match.group()

    def _define(self, rest: str, position: Position) -> None:
        match = _DEFINE.fullmatch(rest)
        if match is None:
            raise error(position, "#define needs a name: add it")
        self._predefined -= {match[1]}
        self._macros[match[1]] = _Macro(match[3].strip(_BLANK), bool(match[2]))

    def _condition(self, name: str, rest: str, position: Position, branches: list[_Branch]) -> None:
        if name in ("if", "ifdef", "ifndef"):
            if len(branches) == 1000:
                raise error(position, "conditions nest too deeply: close some with #endif")
            outer = not branches or branches[-1].active
            active = outer and self._holds(name, rest, position)
            branches.append(_Branch(position, active, taken=active or not outer))
            return
        if not branches or (branches[-1].last and name != "endif"):
            raise error(position, f"#{name} has no #if: remove it")
        branch = branches[-1]
        if name == "endif":
            branches.pop()
        elif name == "else":
            branch.active, branch.taken, branch.last = not branch.taken, True, True
        else:
            branch.active = not branch.taken and self._holds("if", rest, position)
            branch.taken = branch.taken or branch.active

    def _holds(self, name: str, rest: str, position: Position) -> bool:
        if name != "if":
            return (self._name(rest, position) in self._macros) == (name == "ifdef")
        try:
            return evaluate(rest, self._body) != 0
        except ConditionError as fault:
            raise error(position, f"in this condition {fault}: mend it") from None

    def _body(self, name: str) -> str | None:
        macro = self._macros.get(name)
        return None if macro is None else "0" if macro.parameters else macro.body

    def _include(self, rest: str, position: Position, depth: int) -> Iterator[Token]:
        self._includes += 1
        if depth == _MAX_DEPTH or self._includes > _MAX_INCLUDES:
            raise error(position, "files include each other without end: break the circle")
        if len(rest) < 3 or rest[0] != '"' or rest[-1] != '"':
            raise error(position, "#include takes a file name in double quotes: mend it")
        path = posixpath.join(posixpath.dirname(position.source), rest[1:-1])
        if self._read is None:
            raise error(position, f"{path} can't be included here: write its content out")
        try:
            text = self._read(path)
        except (OSError, ValueError) as fault:
            raise error(position, f"{path} can't be read ({fault}): correct the name") from fault
        self._characters += len(text)
        if self._characters > MAX_SOURCE:
            raise error(position, f"more is included than is read, at {path}: leave some out")
        yield from self.file(text, path, depth + 1)
