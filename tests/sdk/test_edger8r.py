# SPDX-License-Identifier: Apache-2.0
"""The edger8r command: options and files."""

from pathlib import Path

import pytest

from ensconce.edl.files import read_source
from ensconce.errors import ConfigError, FormatError
from ensconce.sdk.edger8r import USAGE, generate, write

FILES = {
    "Enclave.edl": """enclave {
        from "lib.edl" import *;
        trusted { public int f(void); };
        untrusted { void g(); };
    };""",
    "lib.edl": "enclave { untrusted { void far(); }; };",
    "b/lib.edl": "enclave { untrusted { void near(); }; };",
    "a/lib.edl": "enclave { untrusted { void middle(); }; };",
    "private.edl": "enclave { trusted { void f(); }; };",
}


def read(path: str) -> str:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(path) from None


def test_both_sides_are_made_in_the_working_folder() -> None:
    made = generate(["Enclave.edl"], read)
    assert sorted(made.files) == ["Enclave_t.c", "Enclave_t.h", "Enclave_u.c", "Enclave_u.h"]


@pytest.mark.parametrize(
    ("options", "files"),
    [
        (["--trusted"], ["Enclave_t.c", "Enclave_t.h"]),
        (["--untrusted"], ["Enclave_u.c", "Enclave_u.h"]),
        (["--header-only"], ["Enclave_t.h", "Enclave_u.h"]),
        (["--Header-Only", "--TRUSTED"], ["Enclave_t.h"]),
        (["--trusted", "--untrusted", "--header-only"], ["Enclave_t.h", "Enclave_u.h"]),
        (["--trusted", "--trusted-dir", "x/y"], ["x/y/Enclave_t.c", "x/y/Enclave_t.h"]),
        (["--untrusted", "--untrusted-dir", "/z"], ["/z/Enclave_u.c", "/z/Enclave_u.h"]),
    ],
)
def test_options_choose_the_files(options: list[str], files: list[str]) -> None:
    assert sorted(generate([*options, "Enclave.edl"], read).files) == files


def test_a_prefix_is_put_before_the_hosts_functions() -> None:
    plain = generate(["Enclave.edl"], read).files
    prefixed = generate(["--use-prefix", "Enclave.edl"], read).files
    assert "sgx_status_t f(sgx_enclave_id_t eid, int* retval);" in plain["Enclave_u.h"]
    assert "sgx_status_t Enclave_f(sgx_enclave_id_t eid, int* retval);" in prefixed["Enclave_u.h"]
    assert plain["Enclave_t.c"] == prefixed["Enclave_t.c"]


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ([], "far"),
        (["--search-path", "a"], "middle"),
        (["--search-path", "a:b"], "middle"),
        (["--search-path", "b:a"], "near"),
        (["--search-path", "a", "--search-path", "b"], "near"),
        (["--search-path", "nowhere::"], "far"),
    ],
)
def test_the_last_search_path_is_searched_first(paths: list[str], found: str) -> None:
    assert f" {found}(void)" in generate([*paths, "Enclave.edl"], read).files["Enclave_t.h"]


def test_several_files_are_made_in_one_run() -> None:
    made = generate(["--header-only", "Enclave.edl", "lib.edl"], read)
    assert {"Enclave_t.h", "lib_u.h"} <= set(made.files)


def test_warnings_are_handed_over() -> None:
    made = generate(["--header-only", "private.edl"], read)
    assert [warning.position.source for warning in made.warnings] == ["private.edl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no EDL file is named"),
        (["--trusted"], "no EDL file is named"),
        (["Enclave.edl", "--search-path"], "--search-path needs a value"),
        (["Enclave.edl", "--trusted-dir"], "--trusted-dir needs a value"),
        (["--nonsense", "Enclave.edl"], "unknown option --nonsense"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(arguments, read)


def test_help_is_asked_for_without_a_file() -> None:
    assert generate(["--help"], read).help
    assert "--search-path" in USAGE


def test_an_enclave_needs_a_public_ecall_unless_only_headers_are_made() -> None:
    with pytest.raises(FormatError, match="has no public ECALL"):
        generate(["private.edl"], read)
    assert generate(["--header-only", "private.edl"], read).files


def test_files_are_read_and_written_whatever_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("E.edl").write_bytes(
        b'/* \xb9\xfa */ enclave { include "\xff.h" trusted { public void f(); }; };'
    )
    write(generate(["E.edl", "--trusted-dir", "out/t"]).files)
    assert b'#include "\xff.h"' in Path("out/t/E_t.h").read_bytes()


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is not on the search path"):
        generate([str(tmp_path / "absent.edl")])
    with pytest.raises(FormatError, match="can't be read"):
        generate([str(tmp_path)])
    large = tmp_path / "large.edl"
    large.write_bytes(bytes(5 << 20))
    with pytest.raises(FormatError, match="too large"):
        read_source(str(large))
