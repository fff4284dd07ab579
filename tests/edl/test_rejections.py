# SPDX-License-Identifier: Apache-2.0
"""Every rule of the language refuses what breaks it, and says where and why."""

import pytest

from ensconce.edl import loads, require_public_ecall
from ensconce.errors import FormatError

IN_PARAMETERS = {
    # directions
    "int* p": "needs `in`, `out`, both, or `user_check`",
    "int p[4]": "needs `in`, `out`, both, or `user_check`",
    "[in, user_check] int* p": "a direction and `user_check` exclude each other",
    "[in, in] int* p": "`in` stands here twice",
    "[in, out, in] int* p": "`in` stands here twice",
    "[out, out] int* p": "`out` stands here twice",
    "[in] int p": "`int` is passed by value",
    "[user_check] thing_t p": "`thing_t` is passed by value",
    "[size=4] int p": "`int` is passed by value",
    # size and count
    "[size=4] int* p": "`size` and `count` need a direction",
    "[user_check, size=4] int* p": "`size` and `count` need a direction",
    "[in, size=4, size=5] int* p": "`size` stands here twice",
    "[in, count=4, count=5] int* p": "`count` stands here twice",
    "[in, size] int* p": "`size` needs a value",
    "[in, size=n] int* p": "names no parameter",
    "[in, size=p] int* p": "names a parameter that is no integer",
    "[in, count=n] int* p, double n": "names a parameter that is no integer",
    "[in, count=n] int* p, struct s n": "names a parameter that is no integer",
    "[in, count=n] int* p, [in] int* n": "names a parameter that is no integer",
    "[in, size=4] int p[4]": "a declared array knows its size",
    "[in, count=4] int p[4]": "a declared array knows its size",
    "[in, sizefunc=f] int* p": "`sizefunc` is no longer part of EDL",
    "[in, size=4294967296, count=4294967296] void* p": "size times count",
    "[in] void* p": "has no size",
    "[in, count=4] void* p": "has no size",
    "[in] void p[4]": "no arrays of void",
    "[user_check] void p[4]": "no arrays of void",
    # strings
    "[in, string, wstring] char* p": "`string` and `wstring` exclude each other",
    "[in, string, size=4] char* p": "a string's size is its length",
    "[in, wstring, count=4] wchar_t* p": "a string's size is its length",
    "[string] char* p": "`string` and `wstring` need a direction",
    "[user_check, string] char* p": "`string` and `wstring` need a direction",
    "[out, string] char* p": "a string that only goes out has no length",
    "[in, string] int* p": "`string` is for `char*`, not for `int*`",
    "[in, string] char** p": "`string` is for `char*`, not for `char**`",
    "[in, string] text_t* p": "`string` is for `char*`",
    "[in, wstring] char* p": "`wstring` is for `wchar_t*`, not for `char*`",
    "[in, string] char p": "passed by value",
    # const
    "[out] const int* p": "what is constant can't be `out`",
    "[in, out] const int* p": "what is constant can't be `out`",
    "const int p": "`const` is only for pointers",
    # foreign pointers and arrays
    "[in, isptr] int* p": "`isptr` is for a type defined in a header",
    "[in, isptr] thing_t* p": "`isptr` is for a type defined in a header",
    "[in, isary] int p": "`isary` is for a type defined in a header",
    "[in, readonly] thing_t p": "passed by value",
    "[in, readonly] int* p": "`readonly` goes only with `isptr`",
    "[out, isptr, readonly, size=4] thing_t p": "what is constant can't be `out`",
    "[isptr] thing_t p": "needs `in`, `out`, both, or `user_check`",
    "[isary] thing_t p": "needs `in`, `out`, both, or `user_check`",
    "[in, isary, isptr] thing_t p": "`isary` and `isptr` exclude each other",
    "[in, isary, size=4] thing_t p": "`isary` knows its size",
    "[in, isary, count=4] thing_t p": "`isary` knows its size",
    "[in, isary, string] thing_t p": "`isary` can't be a string",
    "[in, isary] thing_t p[4]": "this declares one",
    "[in, isptr] thing_t p[4]": "an array of pointers can't cross",
    "[in] int* p[4]": "an array of pointers can't cross",
    "[in, isary] flat p": "`flat` is defined in EDL",
    "[in, isptr] flat p": "`flat` is defined in EDL",
    # arrays
    "[in] int p[0]": "this array has no elements",
    "[in] int p[]": "an array of unknown size can't cross",
    "[in] int p[][4]": "an array of unknown size can't cross",
    "[in] int p[4][0]": "this array has no elements",
    "[in] int p[65536][65536][65536]": "larger than any enclave",
    "[in] int p[n], int n": "expected the number of elements",
    # structures
    "struct deep p": "its members ask for a deep copy: pass a pointer",
    "[out] struct deep* p": "which `out` alone can't be",
    "[out] struct deep p[3]": "which `out` alone can't be",
    "[in] deep* p": "write `struct deep`",
    "deep p": "write `struct deep`",
    # form
    "void p": "can't have the type void",
    "[] int* p": "this attribute list is empty",
    "[inout] int* p": "unknown attribute `inout`",
    "[in=4] int* p": "`in` takes no value",
    "[in, size=-1] int* p": "no meaning in EDL",
    "[in, size=0x10] int* p": "`0x10` is no decimal number",
    "[in, size=99999999999999999999] int* p": "does not fit in 63 bits",
    "int": "expected a parameter",
    "int a, int a": "the parameter `a` is already defined",
    "int register": "`register` is a word of the language",
    "int allow": "`allow` is a word of the language",
    "int eid": "the parameter name `eid` is taken",
    "int retval": "the parameter name `retval` is taken",
    "[in, string] char* s, size_t s_len": "the parameter name `s_len` is taken",
    "void, int a": "expected a parameter",
    "int a,": "expected a type",
    "int a int b": "expected `,` or `)`",
    "long float a": "expected a parameter",
    "unsigned double a": "expected a parameter",
    "struct {int a;} a": "expected the struct",
    "int (*f)(void)": "expected a parameter",
    "int a : 3": "no meaning in EDL",
    "...": "no meaning in EDL",
}

IN_ENCLAVES = {
    "": "found the end of the file, expected `enclave`",
    "enclave": "expected `{`",
    "enclave {": "expected include, from, import, struct",
    "enclave { }": "expected `;`",
    "enclave { }; enclave { };": "an EDL file holds one enclave",
    "enclave { trusted { } };": "expected `;` after the trusted block",
    "enclave { nonsense };": "expected include, from, import, struct",
    "enclave { include header };": "expected a header's name in double quotes",
    'enclave { include "a.h"; };': "`include` takes no semicolon",
    'enclave { include "" };': "a header's name is empty",
    'enclave { include "a.h };': "this string never ends",
    "enclave { /* };": "this comment never ends",
    "enclave { /*/ };": "this comment never ends",
    "enclave { £ };": "no meaning in EDL",
    # functions
    "enclave { trusted { int f(); int f(); }; };": "the function `f` is already defined",
    "enclave { trusted { int f(); }; untrusted { int f(); }; };": "`f` is already defined",
    "enclave { trusted { int[4] f(); }; };": "a function can't return an array",
    "enclave { trusted { const int* f(); }; };": "a result can't be const",
    "enclave { trusted { [cdecl] int f(); }; };": "a trusted function takes no attributes",
    "enclave { trusted { int f() allow(g); }; };": "expected `;`",
    "enclave { trusted { int f() propagate_errno; }; };": "expected `;`",
    'enclave { trusted { int f(); include "a.h" }; };': "before the block's first function",
    "enclave { untrusted { public int f(); }; };": "`public` is for trusted functions",
    "enclave { untrusted { [cdecl, stdcall] int f(); }; };": "`stdcall` excludes `cdecl`",
    "enclave { untrusted { [fastcall, fastcall] int f(); }; };": "`fastcall` excludes",
    "enclave { untrusted { [dllimport, dllimport] int f(); }; };": "`dllimport` stands here twice",
    "enclave { untrusted { [in] int f(); }; };": "unknown function attribute `in`",
    "enclave { untrusted { int f() allow(g); }; };": "allows the ECALL `g`, which there is not",
    "enclave { untrusted { int f() allow(f); }; };": "allows the ECALL `f`, which there is not",
    "enclave { untrusted { int f() propagate_errno propagate_errno; }; };": "stands here twice",
    "enclave { untrusted { int int(); }; };": "found `int`, expected a function",
    "enclave { trusted { f(); }; };": "expected a function",
    # types
    "enclave { struct s { int a; }; struct s { int a; }; };": "the type `s` is already defined",
    "enclave { struct s { int a; }; union s { int a; }; };": "the type `s` is already defined",
    "enclave { union u { int a; }; union u { long a; }; };": "the type `u` is already defined",
    "enclave { enum e { A }; enum f { A }; };": "the enumerator `A` is already defined",
    "enclave { enum e { }; };": "expected an enumerator",
    "enclave { enum e { A, }; };": "expected an enumerator",
    "enclave { enum e { A = -1 }; };": "no meaning in EDL",
    "enclave { struct s { }; };": "expected a type",
    "enclave { struct { int a; }; };": "expected the struct",
    "enclave { struct s { int a; int a; }; };": "the member `a` is already defined",
    "enclave { struct s { void a; }; };": "can't have the type void",
    "enclave { union u { void a; }; };": "can't have the type void",
    "enclave { union u { [size=4] int* a; }; };": "a union's member takes no attributes",
    "enclave { struct s { const char* a; }; };": "a member can't be const",
    "enclave { struct s { [in, size=4] int* a; }; };": "a direction belongs to the parameter",
    "enclave { struct s { [string] char* a; }; };": "`string` is not for members",
    "enclave { struct s { [user_check] int* a; }; };": "`user_check` is not for members",
    "enclave { struct s { [size=4] int a; }; };": "which needs a pointer",
    "enclave { struct s { [size=4] int a[3]; }; };": "which needs a pointer",
    "enclave { struct s { [size=n] int* a; }; };": "names no member",
    "enclave { struct s { [size=a] int* a; }; };": "names a member that is no integer",
    "enclave { struct s { int n[2]; [size=n] int* a; }; };": "names a member that is no integer",
    "enclave { struct s { [count=4] void* a; }; };": "has no size",
    "enclave { struct s { struct s a; }; };": "`s` contains itself",
    "enclave { struct s { struct t a; }; struct t { union u b; }; union u { s c; }; };": "itself",
    "enclave { struct s { int n; [count=n] char* p; }; trusted { struct s f(); }; };": "deep copy",
}


@pytest.mark.parametrize(("parameters", "message"), IN_PARAMETERS.items())
def test_a_wrong_parameter_is_refused(parameters: str, message: str) -> None:
    text = (
        "enclave { struct flat { int a; }; struct s { int a; };\n"
        "struct deep { int n; [count=n] char* text; };\n"
        f"trusted {{ public int f({parameters}); }}; }};"
    )
    with pytest.raises(FormatError) as caught:
        loads(text, "Test.edl")
    assert message in str(caught.value)
    assert caught.value.line == 3


@pytest.mark.parametrize(("text", "message"), IN_ENCLAVES.items())
def test_a_wrong_enclave_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        loads(text, "Test.edl")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"Test.edl:{caught.value.line}:{caught.value.column}: ")


def test_an_error_tells_the_place() -> None:
    with pytest.raises(FormatError) as caught:
        loads("enclave {\n  trusted {\n    /* é */ public int f([in] int x);\n  };\n};", "a/E.edl")
    error = caught.value
    assert (error.source, error.line, error.column) == ("a/E.edl", 3, 27)


def test_an_enclave_that_nothing_can_enter_is_refused() -> None:
    for text in ("enclave { };", "enclave { trusted { void f(); }; };"):
        with pytest.raises(FormatError, match="has no public ECALL"):
            require_public_ecall(loads(text))
