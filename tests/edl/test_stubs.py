# SPDX-License-Identifier: Apache-2.0
"""Type stubs of an enclave, as Python reads them."""

import ast
import runpy
from pathlib import Path

from hypothesis import given

from ensconce.edl import Interface, loads
from ensconce.edl.stubs import stub

STRATEGIES = runpy.run_path(str(Path(__file__).with_name("strategies.py")))

EDL = """enclave {
    enum e { A }; struct s { int a; };
    trusted {
        public int scalars(uint8_t a, double b, bool c, enum e d, e d2, struct s f, size_t is);
        public void pointers([in, size=4] void* a, [out] int b[4], [user_check] void* c,
            [in, string] char* d, [in, out, string] char* self, sgx_key_128bit_t k,
            [in, out] struct s* f);
        public void* lambda();
    };
    untrusted {
        struct s ocall([in] int* a, [out] int* b, [in, string] char* c, [user_check] int* d);
    };
};"""


def signatures(text: str) -> dict[str, str]:
    found = {}
    for item in ast.walk(ast.parse(text)):
        if isinstance(item, ast.FunctionDef):
            result = ast.unparse(item.returns) if item.returns else ""
            found[item.name] = f"({ast.unparse(item.args)}) -> {result}"
    return found


def test_ecalls_take_what_python_has_for_each_kind() -> None:
    found = signatures(stub(loads(EDL)))
    assert found["scalars"] == (
        "(self, a: int, b: float, c: bool, d: int, d2: int, f: bytes, is_: int, /) -> int"
    )
    assert found["pointers"] == (
        "(self, a: _Readable | None, b: _Writable | None, c: int, d: str | _Readable | None, "
        "self_: _Writable | None, k: bytes, f: _Struct | _Writable | None, /) -> None"
    )
    assert found["lambda_"] == "(self, /) -> int"


def test_ocalls_get_what_python_has_for_each_kind() -> None:
    assert signatures(stub(loads(EDL)))["ocall"] == (
        "(self, a: bytes | None, b: memoryview | None, c: str | None, d: int, /) -> bytes"
    )


def test_an_enclave_without_ocalls_has_an_empty_class() -> None:
    assert "class Ocalls(Protocol):\n    pass" in stub(loads("enclave { };"))


@given(interface=STRATEGIES["interfaces"]())
def test_every_interface_has_a_stub_that_python_reads(interface: Interface) -> None:
    functions = {item.name for item in (*interface.ecalls, *interface.ocalls)}
    assert set(signatures(stub(interface))) == functions
