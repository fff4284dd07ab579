# SPDX-License-Identifier: Apache-2.0
"""Cut the text of an EDL file into tokens, comments removed."""

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from ensconce.edl.model import Position
from ensconce.errors import SourceError

__all__ = ["MAX_NUMBER", "MAX_SOURCE", "Token", "TokenKind", "error", "scan", "without_comments"]

MAX_SOURCE = 1 << 20  # characters of one file; the largest EDL in the wild has some 60 KB
MAX_NUMBER = (1 << 63) - 1

_COMMENT = re.compile(r'//(?:\\\r?\n|[^\n])*|/\*.*?(?:\*/|\Z)|"[^"\n]*"', re.DOTALL)
_NOT_NEWLINE = re.compile(r"[^\n]")
_BLANK = " \t\r\f\v"
_TOKEN = re.compile(
    r'(?P<name>[A-Za-z_]\w*)|(?P<number>\d\w*)|(?P<string>"[^"\n]*")|(?P<mark>[{}()\[\]*,;=])',
    re.ASCII,
)


class TokenKind(Enum):
    """The kinds of token."""

    NAME = "name"
    NUMBER = "number"
    STRING = "string"
    MARK = "mark"
    END = "end"


class Token(NamedTuple):
    """One token; `text` of a string is without its quotes."""

    kind: TokenKind
    text: str
    position: Position

    def __str__(self) -> str:
        if self.kind is TokenKind.END:
            return "the end of the file"
        return f'the string "{self.text}"' if self.kind is TokenKind.STRING else f"`{self.text}`"


def error(position: Position, message: str) -> SourceError:
    """Return the error that says `message` about a place in an EDL file."""
    return SourceError(
        f"{position}: {message}",
        source=position.source,
        line=position.line,
        column=position.column,
    )


def without_comments(text: str, source: str) -> str:
    """Replace comments by blanks, so that every other character keeps its line and column."""
    if len(text) > MAX_SOURCE:
        raise error(
            Position(source, 1, 1),
            f"the file has {len(text)} characters, more than the {MAX_SOURCE} that are read: "
            "split it and import the parts",
        )

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found.startswith('"'):
            return found
        if found.startswith("/*") and not (found.endswith("*/") and len(found) >= 4):
            raise error(
                _position(text, match.start(), source),
                "this comment never ends: close it with */",
            )
        return _NOT_NEWLINE.sub(" ", found)

    return _COMMENT.sub(blank, text.removeprefix("\ufeff"))


def _position(text: str, offset: int, source: str) -> Position:
    """Turn an offset in a text into a line and column."""
    line = text.count("\n", 0, offset) + 1
    return Position(source, line, offset - (text.rfind("\n", 0, offset) + 1) + 1)


def scan(line: str, number: int, source: str, column: int = 1) -> Iterator[Token]:
    """Yield the tokens of one line (without comments) whose first character is at `column`."""
    offset = 0
    while True:
        while offset < len(line) and line[offset] in _BLANK:
            offset += 1
        if offset == len(line):
            return
        position = Position(source, number, column + offset)
        match = _TOKEN.match(line, offset)
        if match is None:
            raise error(position, _unknown(line[offset]))
        yield _token(match, position)
        offset = match.end()


def _unknown(character: str) -> str:
    """Say why a character starts no token."""
    if character == '"':
        return 'this string never ends: close it with " on the same line'
    return f"the character {character!a} has no meaning in EDL: remove it"


def _token(match: re.Match[str], position: Position) -> Token:
    """Make the token that `match` found."""
    text = match.group()
    kind = TokenKind(match.lastgroup)
    if kind is TokenKind.STRING:
        return Token(kind, text[1:-1], position)
    if kind is TokenKind.NUMBER:
        if not text.isdigit():
            raise error(position, f"`{text[:40]}` is no decimal number: EDL knows no other kind")
        if len(text) > 40 or int(text) > MAX_NUMBER:
            raise error(position, f"the number {text[:20]}… does not fit in 63 bits: lower it")
    return Token(kind, text, position)
