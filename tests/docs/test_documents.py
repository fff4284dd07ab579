# SPDX-License-Identifier: Apache-2.0
"""What the documents show is what happens; what they link to is there."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ensconce.cli import cli
from ensconce.cli.exits import EXIT_CODES
from ensconce.errors import EnsconceError

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")})
EVERY_DOCUMENT = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


@pytest.fixture(scope="module")
def hello() -> None:
    """Build hello world, as `make demo` does."""
    pytest.importorskip("ziglang", reason="the toolchain's wheel is not installed")
    host = ROOT / "examples/01-hello-world/host.py"
    environment = os.environ | {"ENSCONCE_BACKEND": "emulated"}
    subprocess.run(
        [sys.executable, host], check=True, capture_output=True, env=environment, timeout=300
    )


@pytest.mark.usefixtures("hello")
def test_the_readmes_session_is_what_python_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ENSCONCE_BACKEND", "emulated")
    text = (ROOT / "README.md").read_text()
    case = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    said: list[str] = []
    assert doctest.DocTestRunner().run(case, out=said.append).failed == 0, "".join(said)
    assert len(case.examples) > 4


@EVERY_DOCUMENT
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


@EVERY_DOCUMENT
def test_commands_that_are_shown_exist(document: Path) -> None:
    for words in re.findall(
        r"^ {4,}ensconce ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", document.read_text(), re.M
    ):
        command: click.Command = cli
        for word in filter(None, words):
            if not hasattr(command, "get_command"):
                break
            found = command.get_command(click.Context(command), word)
            assert found is not None, words
            command = found


def test_the_specification_names_tests_and_benchmarks_that_exist() -> None:
    text = (ROOT / "SPECIFICATION.md").read_text()
    named = re.findall(r"`((?:tests|benchmarks|fuzz)/[\w./-]+)(?:::(\w+))?`", text)
    assert len(named) > 5
    for file, function in named:
        assert (ROOT / file).exists(), file
        assert not function or f"def {function}(" in (ROOT / file).read_text(), function


def test_every_error_has_an_exit_code_of_its_own() -> None:
    def leaves(kind: type[BaseException]) -> set[type[BaseException]]:
        return {kind}.union(*(leaves(child) for child in kind.__subclasses__()))

    public = {kind for kind in leaves(EnsconceError) if kind.__module__ == "ensconce.errors"}
    assert public <= EXIT_CODES.keys()
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
