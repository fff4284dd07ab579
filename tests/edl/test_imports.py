# SPDX-License-Identifier: Apache-2.0
"""Imports: found on search paths, numbered in order, joined without doubles."""

import pytest

from ensconce.edl import Interface, load
from ensconce.errors import FormatError

BASE = "enclave { trusted { void b1(); void b2(); }; untrusted { void bo(); }; };"


def build(
    files: dict[str, str], main: str = "main.edl", paths: tuple[str, ...] = (".",)
) -> Interface:
    def read(path: str) -> str:
        if path in files:
            return files[path]
        raise FileNotFoundError(path)

    return load(main, read, paths)


def names(interface: Interface) -> tuple[str, str]:
    ecalls = " ".join(item.name for item in interface.ecalls)
    return ecalls, " ".join(item.name for item in interface.ocalls)


def main(imports: str) -> str:
    return f"enclave {{ {imports} trusted {{ public void m(); }}; untrusted {{ void mo(); }}; }};"


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ('from "b.edl" import *;', ("m b1 b2", "mo bo")),
        ('import "b.edl";', ("m b1 b2", "mo bo")),
        ('from "b.edl" import b2;', ("m b2", "mo")),
        ('from "b.edl" import bo, b1;', ("m b1", "mo bo")),
        ('from "b.edl" import b2; from "b.edl" import *;', ("m b2 b1", "mo bo")),
        ('from "b.edl" import b2; from "b.edl" import b2;', ("m b2", "mo")),
    ],
)
def test_own_functions_come_first_then_the_imported(
    imports: str, expected: tuple[str, str]
) -> None:
    assert names(build({"main.edl": main(imports), "b.edl": BASE})) == expected


def test_imports_of_imports_follow_their_importer() -> None:
    files = {
        "main.edl": main('from "x.edl" import *; from "y.edl" import *;'),
        "x.edl": 'enclave { from "z.edl" import *; trusted { void x(); }; };',
        "y.edl": 'enclave { from "z.edl" import *; trusted { void y(); }; };',
        "z.edl": "enclave { trusted { void z(); }; };",
    }
    assert names(build(files))[0] == "m x z y"


def test_a_name_is_looked_for_in_the_imports_of_the_imported() -> None:
    files = {
        "main.edl": main('from "x.edl" import z, b1;'),
        "x.edl": 'enclave { import "y.edl"; import "b.edl"; trusted { void x(); }; };',
        "y.edl": "enclave { trusted { void y(); void z(); }; };",
        "b.edl": BASE,
    }
    assert names(build(files))[0] == "m z b1"


def test_types_and_includes_come_with_an_import_once() -> None:
    files = {
        "main.edl": main('include "a.h" from "x.edl" import f; from "x.edl" import g;'),
        "x.edl": 'enclave { include "a.h" include "x.h" struct s { int i; };'
        ' trusted { include "t.h" void f(); void g(); }; };',
    }
    interface = build(files)
    assert interface.includes == ("a.h", "x.h")
    assert interface.trusted_includes == ("t.h",)
    assert [item.name for item in interface.composites] == ["s"]


def test_an_equal_union_may_be_defined_twice_and_a_structure_not() -> None:
    union, structure = "union u { int a; };", "struct s { int a; };"
    twice = {"main.edl": main(union + 'from "x.edl" import *;'), "x.edl": f"enclave {{ {union} }};"}
    assert len(build(twice).composites) == 1
    twice = {
        "main.edl": main(structure + 'from "x.edl" import *;'),
        "x.edl": f"enclave {{ {structure} }};",
    }
    with pytest.raises(FormatError, match=r"x\.edl:1:18: the type `s` is already defined at main"):
        build(twice)


def test_search_paths_are_tried_in_order() -> None:
    files = {
        "main.edl": main('from "b.edl" import *;'),
        "first/b.edl": "enclave { trusted { void first(); }; };",
        "second/b.edl": BASE,
    }
    assert names(build(files, paths=(".", "first", "second")))[0] == "m first"
    assert names(build(files, paths=(".", "second", "first")))[0] == "m b1 b2"


def test_an_absolute_path_is_taken_as_it_is() -> None:
    files = {"/a/main.edl": main('from "/b/b.edl" import *;'), "/b/b.edl": BASE}
    assert names(build(files, "/a/main.edl", ("nowhere",)))[0] == "m b1 b2"


def test_one_file_reached_by_two_ways_is_one_file() -> None:
    files = {
        "main.edl": main('from "d/x.edl" import *; from "x.edl" import *;'),
        "d/x.edl": "enclave { struct s { int a; }; trusted { void x(); }; };",
    }
    assert names(build(files, paths=(".", "d")))[0] == "m x"


def test_two_files_of_one_name_are_two_files() -> None:
    files = {
        "main.edl": main('from "sgx/main.edl" import *;'),
        "sgx/main.edl": "enclave { trusted { void other(); }; };",
    }
    assert names(build(files))[0] == "m other"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "`main.edl` is not on the search path"),
        ({"main.edl": main('from "no.edl" import *;')}, "`no.edl` is not on the search path"),
        ({"main.edl": main('from "main.edl" import *;')}, "the imports run in a circle"),
        (
            {"main.edl": main('from "b.edl" import none;'), "b.edl": BASE},
            "`b.edl` has no function `none` to import",
        ),
        (
            {
                "main.edl": main('from "x.edl" import *;'),
                "x.edl": 'enclave { from "y.edl" import *; };',
                "y.edl": 'enclave { from "x.edl" import *; };',
            },
            "the imports run in a circle (main.edl imports x.edl imports y.edl imports x.edl)",
        ),
        (
            {
                "main.edl": main('from "b.edl" import *;'),
                "b.edl": "enclave { trusted { void m(); }; };",
            },
            "the function `m` is already defined at main.edl",
        ),
        ({"main.edl": main("from b import *;")}, "expected an EDL file's name in double quotes"),
        ({"main.edl": main('from "b.edl";')}, "expected `import`"),
        ({"main.edl": main('from "b.edl" import *')}, "expected `;`"),
    ],
)
def test_wrong_imports_are_refused(files: dict[str, str], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        build(files)
    assert message in str(caught.value)


def test_imports_that_fan_out_are_followed_once() -> None:
    files = {"main.edl": main('from "f0.edl" import *;')}
    for i in range(30):
        twice = f'from "f{i + 1}.edl" import *; ' * 2 if i < 29 else ""
        files[f"f{i}.edl"] = f"enclave {{ {twice} trusted {{ void t{i}(); }}; }};"
    assert len(build(files).ecalls) == 31


def test_imports_that_nest_too_deeply_are_refused() -> None:
    files = {"main.edl": main('from "f0.edl" import *;')}
    for i in range(40):
        files[f"f{i}.edl"] = f'enclave {{ from "f{i + 1}.edl" import *; }};'
    with pytest.raises(FormatError, match="nest too deeply"):
        build(files)


def test_a_reader_that_fails_gives_an_error_with_a_place() -> None:
    def read(path: str) -> str:
        if path == "main.edl":
            return main('from "x.edl" import *;')
        raise PermissionError("no")

    with pytest.raises(FormatError, match=r"main\.edl:1:11: x\.edl can't be read"):
        load("main.edl", read)


def test_more_text_than_anyone_writes_is_refused() -> None:
    files = {f"f{i}.edl": "enclave { };" + " " * 900_000 for i in range(6)}
    imports = "".join(f'import "f{i}.edl";' for i in range(6))
    with pytest.raises(FormatError, match=r"main\.edl:1:\d+: the imports are too much to read"):
        build({"main.edl": main(imports), **files})


def test_a_file_is_read_once_however_often_it_is_imported() -> None:
    reads = []

    def read(path: str) -> str:
        reads.append(path)
        return main('import "b.edl";' * 1000) if path == "main.edl" else BASE

    load("main.edl", read)
    assert reads == ["main.edl", "b.edl"]
