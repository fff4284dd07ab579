# SPDX-License-Identifier: Apache-2.0
"""Write indented C text, and keep local names apart from the user's."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["Scope", "Writer"]

_INDENT = "    "
_WIDTH = 100


class Writer:
    """C text under construction, indented by blocks."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._depth = 0

    def line(self, text: str = "") -> None:
        """Add one line at the current depth, broken after commas where it would grow too long.

        An empty line never follows another.
        """
        if not text:
            if self._lines and self._lines[-1]:
                self._lines.append("")
            return
        indent = _INDENT * self._depth
        while len(indent) + len(text) > _WIDTH:
            comma = text.rfind(", ", 0, _WIDTH - len(indent))
            if comma < 0:
                break
            self._lines.append(indent + text[: comma + 1])
            text, indent = text[comma + 2 :], _INDENT * (self._depth + 1)
        self._lines.append(indent + text)

    def lines(self, texts: Iterable[str]) -> None:
        """Add several lines."""
        for text in texts:
            self.line(text)

    def text(self, text: str) -> None:
        """Add a piece of C that is already laid out, and an empty line."""
        self._lines += text.strip("\n").split("\n")
        self.line()

    def call(self, head: str, arguments: Iterable[str], tail: str = ";") -> None:
        """Add a call or prototype."""
        self.line(f"{head}({', '.join(arguments)}){tail}")

    @contextmanager
    def block(self, head: str = "", tail: str = "}") -> Iterator[None]:
        """Put what is written meanwhile between braces."""
        self.line(f"{head} {{" if head else "{")
        self._depth += 1
        yield
        if not self._lines[-1]:
            self._lines.pop()
        self._depth -= 1
        self.line(tail)

    @contextmanager
    def indented(self) -> Iterator[None]:
        """Indent what is written meanwhile."""
        self._depth += 1
        yield
        self._depth -= 1

    def __str__(self) -> str:
        return "\n".join(self._lines).rstrip("\n") + "\n"


class Scope:
    """The names of one C function: the user's are taken, ours give way by a trailing `_`."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._names: dict[str, str] = {}

    def __call__(self, wanted: str) -> str:
        """Return the local name that stands for `wanted`, always the same one."""
        if wanted not in self._names:
            name = wanted
            while name in self._taken:
                name += "_"
            self._taken.add(name)
            self._names[wanted] = name
        return self._names[wanted]
