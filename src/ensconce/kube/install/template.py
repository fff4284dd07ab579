# SPDX-License-Identifier: Apache-2.0
"""The part of Helm's template language that the chart is written in (ADR 35).

What a template may say:

- `{{ VALUE }}` with `-` on either side to trim white space; comments `{{/* … */}}`
- `{{ if V }}`, `{{ else if V }}`, `{{ else }}`, `{{ end }}`; `{{ with V }}`;
  `{{ range V }}` of a list
- `{{ define "name" }}` and `include "name" V`
- values: `.`, `$`, `.Path.to.it`, `$.Path.to.it`, texts, whole numbers, `true`, `false`, `( … )`,
  a function with its arguments, and `|`, which hands a value on as the last argument
- functions: and, b64enc, default, eq, include, int, join, ne, nindent, not, or, prepend, quote,
  toJson, toYaml

All else is refused, so that nothing renders here that Helm renders otherwise: a value that is not
set, and a number that is not written by `int` (Helm writes 1000000 as 1e+06).
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from ensconce.errors import SourceError

__all__ = ["Template", "render"]

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s+|(?P<text>"[^"\\]*")|(?P<number>\d+)|(?P<path>\$?(?:\.[A-Za-z_]\w*)+|\$|\.)"""
    r"""|(?P<word>[A-Za-z]\w*)|(?P<sign>[()|])"""
)
_DEEPEST = 20


@dataclass(slots=True)
class _Node:
    """Text, a value to write, a branch, or a definition."""

    kind: str  # "text", "write", "if", "with", "range", "define"
    text: str = ""
    words: list[str] = field(default_factory=list)
    body: list["_Node"] = field(default_factory=list)
    other: list["_Node"] = field(default_factory=list)
    line: int = 0


class Template:
    """One file of a chart, parsed. Raises SourceError."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.definitions: dict[str, list[_Node]] = {}
        self._pieces = iter(_pieces(text))
        self._line = 1
        self.body, end = self._block()
        if end:
            raise self._wrong(f"{end[0]} without a beginning")

    def _block(self) -> tuple[list[_Node], list[str]]:
        """Return nodes up to `end` or `else`, and that action's words; none at the file's end."""
        nodes: list[_Node] = []
        for kind, text, line in self._pieces:
            self._line = line
            if kind == "text":
                nodes.append(_Node("text", text))
                continue
            words = self._words(text)
            match words[:1]:
                case ["end" | "else"]:
                    return nodes, words
                case ["if" | "with" | "range" as opening]:
                    nodes.append(self._branch(opening, words[1:], line))
                case ["define"]:
                    self._define(words)
                case _:
                    nodes.append(_Node("write", words=words, line=line))
        return nodes, []

    def _branch(self, kind: str, words: list[str], line: int) -> _Node:
        """Return an if, with or range with what is in it."""
        node = _Node(kind, words=words, line=line)
        node.body, end = self._block()
        if end[:2] == ["else", "if"] and kind == "if":
            node.other = [self._branch("if", end[2:], self._line)]
        elif end == ["else"]:
            node.other, end = self._block()
            self._expect_end(end, kind)
        else:
            self._expect_end(end, kind)
        return node

    def _define(self, words: list[str]) -> None:
        """Keep a definition."""
        if len(words) != 2 or not words[1].startswith('"'):
            raise self._wrong("define takes a name in quotation marks")
        body, end = self._block()
        self._expect_end(end, "define")
        self.definitions[words[1][1:-1]] = body

    def _expect_end(self, end: list[str], kind: str) -> None:
        """Refuse a block that is not closed by a plain `end`."""
        if end != ["end"]:
            raise self._wrong(f"{kind} has no end")

    def _words(self, text: str) -> list[str]:
        """Split an action into its words."""
        words, at = [], 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if not found:
                raise self._wrong(f"{text[at:]!r} is not of the chart's part of the language")
            if not found.group().isspace():
                words.append(found.group())
            at = found.end()
        if not words:
            raise self._wrong("an action is empty")
        return words

    def _wrong(self, what: str) -> SourceError:
        """Return the error for this line."""
        return _wrong(self.source, self._line, what)


def render(
    templates: list[Template], root: Mapping[str, Any], given: Iterable[str] = ()
) -> dict[str, str]:
    """Return each template's text by its name; `root` has Values, Release and Chart.

    `given`: definitions of Helm's alone, which are empty here as the values have what they make.
    """
    definitions: dict[str, list[_Node]] = {name: [] for name in given}
    definitions |= {name: body for each in templates for name, body in each.definitions.items()}
    return {
        each.source: _Renderer(each.source, root, definitions).text(each.body, root)
        for each in templates
    }


@dataclass(slots=True)
class _Renderer:
    """Writes one template; `depth` is how many includes deep it is."""

    source: str
    root: Any
    definitions: Mapping[str, list[_Node]]
    depth: int = 0

    def text(self, nodes: list[_Node], dot: Any) -> str:
        """Return the text of nodes."""
        return "".join(self._pieces(nodes, dot))

    def _pieces(self, nodes: list[_Node], dot: Any) -> Iterator[str]:
        """Yield the text of each node."""
        for node in nodes:
            if node.kind == "text":
                yield node.text
                continue
            value = _Value(self, node, dot).all()
            if node.kind == "write":
                yield self._written(value, node)
            elif not value:
                yield self.text(node.other, dot)
            elif node.kind == "range":
                if not isinstance(value, list):
                    raise _wrong(self.source, node.line, "range takes a list")
                yield from (self.text(node.body, item) for item in value)
            else:
                yield self.text(node.body, value if node.kind == "with" else dot)

    def _written(self, value: Any, node: _Node) -> str:
        """Return a value as Helm writes it."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return value
        raise _wrong(
            self.source, node.line, f"{' '.join(node.words)} is no text; use int, quote or toYaml"
        )

    def include(self, name: str, dot: Any, line: int) -> str:
        """Return the text of a definition."""
        if name not in self.definitions or self.depth > _DEEPEST:
            raise _wrong(self.source, line, f"include {name!r} names no definition, or itself")
        inner = _Renderer(self.source, dot, self.definitions)
        inner.depth = self.depth + 1
        return inner.text(self.definitions[name], dot)


class _Value:
    """Evaluates one action's words."""

    def __init__(self, renderer: _Renderer, node: _Node, dot: Any) -> None:
        self._renderer = renderer
        self._node = node
        self._dot = dot
        self._words = list(node.words)
        self._at = 0

    def all(self) -> Any:
        """Return the value of all words."""
        value = self._pipeline()
        if self._at != len(self._words):
            raise self._wrong(f"{self._words[self._at]!r} is out of place")
        return value

    def _next(self) -> str:
        """Return the word to come; nothing at the end."""
        return self._words[self._at] if self._at < len(self._words) else ""

    def _pipeline(self) -> Any:
        """Return the value of commands joined by |."""
        value = self._command([])
        while self._next() == "|":
            self._at += 1
            value = self._command([value])
        return value

    def _command(self, piped: list[Any]) -> Any:
        """Return the value of an operand, or of a function and its arguments."""
        word = self._next()
        if not word[:1].isalpha() or word in ("true", "false"):
            value = self._operand()
            if piped or self._next() not in ("", "|", ")"):
                raise self._wrong(f"{word!r} is no function")
            return value
        self._at += 1
        arguments = []
        while self._next() not in ("", "|", ")"):
            arguments.append(self._operand())
        return self._call(word, arguments + piped)

    def _operand(self) -> Any:
        """Return the value of one word, or of what is in parentheses."""
        word = self._next()
        self._at += 1
        if word == "(":
            value = self._pipeline()
            if self._next() != ")":
                raise self._wrong("a parenthesis is not closed")
            self._at += 1
            return value
        if word in ("true", "false"):
            return word == "true"
        if word.startswith('"'):
            return word[1:-1]
        if word.isdecimal():
            return int(word)
        if word.startswith(("$", ".")):
            return self._path(word)
        raise self._wrong(f"{word!r} is no value")

    def _path(self, word: str) -> Any:
        """Return what a path leads to."""
        value = self._renderer.root if word.startswith("$") else self._dot
        for name in word.lstrip("$").split(".")[1:]:
            if not name:
                continue
            if not isinstance(value, Mapping) or name not in value:
                raise self._wrong(f"{word} is not set")
            value = value[name]
        return value

    def _call(self, name: str, arguments: list[Any]) -> Any:
        """Return a function's value."""
        if name == "include" and len(arguments) == 2:
            return self._renderer.include(arguments[0], arguments[1], self._node.line)
        function, count = _FUNCTIONS.get(name, (None, 0))
        if function is None:
            raise self._wrong(f"there is no function {name} in the chart's part of the language")
        if len(arguments) != count and (count or not arguments):
            raise self._wrong(f"{name} takes {count or 'some'} arguments, not {len(arguments)}")
        try:
            return function(*arguments)
        except (TypeError, ValueError, AttributeError) as error:
            raise self._wrong(f"{name} can't take {arguments}: {error}") from error

    def _wrong(self, what: str) -> SourceError:
        """Return the error for this action."""
        return _wrong(self._renderer.source, self._node.line, what)


def _pieces(text: str) -> list[tuple[str, str, int]]:
    """Return a file's pieces: their kind, text and line, with white space trimmed as told."""
    pieces: list[tuple[str, str, int]] = []
    at, trim = 0, False
    for found in _ACTION.finditer(text):
        before = text[at : found.start()]
        before = before.lstrip() if trim else before
        pieces.append(("text", before.rstrip() if found[1] else before, 0))
        inner = found[2].strip()
        if not (inner.startswith("/*") and inner.endswith("*/")):
            pieces.append(("action", inner, text.count("\n", 0, found.start()) + 1))
        at, trim = found.end(), bool(found[3])
    rest = text[at:]
    pieces.append(("text", rest.lstrip() if trim else rest, 0))
    return pieces


def _wrong(source: str, line: int, what: str) -> SourceError:
    """Return the error for a line of a template."""
    return SourceError(f"{source}, line {line}: {what}", source=source, line=line)


def _quote(value: Any) -> str:
    """Return a value in quotation marks, as Go's %q does for what values may hold."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _nindent(width: int, text: str) -> str:
    """Return a text on a new line, every line indented."""
    return "\n" + "\n".join(" " * width + line for line in text.split("\n"))


def _yaml(value: Any) -> str:
    """Return a value as YAML."""
    return yaml.safe_dump(value, sort_keys=True, width=1 << 16).removesuffix("...\n").strip("\n")


def _any(*values: Any) -> Any:
    """Return the first value that is true, or the last."""
    return next((value for value in values if value), values[-1])


def _every(*values: Any) -> Any:
    """Return the first value that is false, or the last."""
    return next((value for value in values if not value), values[-1])


# each with its number of arguments; 0 is any number
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "and": (_every, 0),
    "b64enc": (lambda text: base64.b64encode(text.encode()).decode(), 1),
    "default": (lambda otherwise, value: value or otherwise, 2),
    "eq": (lambda left, right: left == right, 2),
    "int": (lambda value: str(int(value)), 1),
    "join": (lambda between, items: between.join(items), 2),
    "ne": (lambda left, right: left != right, 2),
    "nindent": (_nindent, 2),
    "not": (lambda value: not value, 1),
    "or": (_any, 0),
    "prepend": (lambda items, first: [first, *items], 2),
    "quote": (_quote, 1),
    "toJson": (lambda value: json.dumps(value, separators=(",", ":")), 1),
    "toYaml": (_yaml, 1),
}
