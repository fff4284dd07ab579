# SPDX-License-Identifier: Apache-2.0
"""Generated C compiles without a warning, and its structures lie where the layout says."""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings

from ensconce.edl import Interface, loads
from ensconce.edl.layout import Layout
from ensconce.edl.model import StructDefinition
from ensconce.sdk.bridges import trusted_files, untrusted_files

HERE = Path(__file__).parent
STRATEGIES = runpy.run_path(str(HERE.parents[1] / "edl" / "strategies.py"))
FLAGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror", f"-I{HERE / 'include'}")


def compile_quietly(folder: Path, files: dict[str, str], *command: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "types.h").write_text(STRATEGIES["HEADER"])
    sources = [str(folder / name) for name in files if name.endswith(".c")]
    done = subprocess.run(
        [*command, *FLAGS, f"-I{folder}", "-c", *sources],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr, done.stderr


def all_files(interface: Interface) -> dict[str, str]:
    return {**trusted_files(interface), **untrusted_files(interface)}


@settings(max_examples=20, deadline=None)
@given(interface=STRATEGIES["interfaces"]())
def test_whatever_edl_allows_compiles_as_c(
    interface: Interface, tmp_path_factory: pytest.TempPathFactory
) -> None:
    compile_quietly(tmp_path_factory.mktemp("c"), all_files(interface), "gcc", "-O2", "-std=gnu11")


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler here")
@settings(max_examples=15, deadline=None)
@given(interface=STRATEGIES["interfaces"]())
def test_whatever_edl_allows_compiles_as_cpp(
    interface: Interface, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cpp")
    compile_quietly(folder, all_files(interface), "g++", "-x", "c++")


@settings(max_examples=25, deadline=None)
@given(interface=STRATEGIES["interfaces"]())
def test_the_c_compiler_agrees_with_the_layout(
    interface: Interface, tmp_path_factory: pytest.TempPathFactory
) -> None:
    layout = Layout(interface, STRATEGIES["HEADERS"])
    facts = []
    for function in (*interface.ecalls, *interface.ocalls):
        found = layout.marshalling(function)
        if found is not None:
            name = f"ms_{function.name}_t"
            facts.append(f"sizeof({name}) == {found.size}")
            facts.append(f"_Alignof({name}) == {found.alignment}")
            facts += [
                f"__builtin_offsetof({name}, {field.name}) == {field.offset}"
                for field in found.fields.values()
            ]
    for item in interface.composites:
        if isinstance(item, StructDefinition):
            facts += [
                f"__builtin_offsetof({item.name}, {field.name}) == {field.offset}"
                for field in layout.structure(item).values()
            ]
    source = trusted_files(interface)["Enclave_t.c"]
    source += "\n".join(f'_Static_assert({fact}, "{fact}");' for fact in facts)
    files = {**trusted_files(interface), "Enclave_t.c": source}
    compile_quietly(tmp_path_factory.mktemp("layout"), files, "gcc", "-fsyntax-only")


@given(interface=STRATEGIES["interfaces"]())
def test_the_same_interface_always_gives_the_same_text(interface: Interface) -> None:
    assert all_files(interface) == all_files(interface)


def test_an_enclave_without_functions_compiles(tmp_path: Path) -> None:
    compile_quietly(tmp_path, all_files(loads("enclave { };")), "gcc")


def test_lines_stay_short() -> None:
    names = ", ".join(f"[in, size=n] void* a_rather_long_name_{i}" for i in range(9))
    edl = f"enclave {{ trusted {{ public void f({names}, size_t n); }}; }};"
    assert max(len(line) for line in all_files(loads(edl))["Enclave_t.c"].split("\n")) <= 100
