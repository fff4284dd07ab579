# SPDX-License-Identifier: Apache-2.0
"""What the language allows, and what it makes of it."""

import pytest

from ensconce.edl import Interface, loads
from ensconce.edl.model import (
    Convention,
    Direction,
    EnumDefinition,
    Enumerator,
    Kind,
    Parameter,
    StructDefinition,
    Type,
    UnionDefinition,
)
from ensconce.errors import FormatError


def parameter(declaration: str) -> Parameter:
    text = f"enclave {{ trusted {{ public void f({declaration}); }}; }};"
    return loads(text).ecalls[0].parameters[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("char", "char"),
        ("unsigned char", "unsigned char"),
        ("short", "short int"),
        ("short int", "short int"),
        ("unsigned short", "unsigned short int"),
        ("unsigned short int", "unsigned short int"),
        ("int", "int"),
        ("unsigned", "unsigned int"),
        ("unsigned int", "unsigned int"),
        ("long", "long int"),
        ("long int", "long int"),
        ("unsigned long", "unsigned long int"),
        ("unsigned long int", "unsigned long int"),
        ("long long", "long long"),
        ("unsigned long long", "unsigned long long"),
        ("float", "float"),
        ("double", "double"),
        ("long double", "long double"),
        *((name, name) for name in ("size_t", "wchar_t", "int8_t", "int16_t", "int32_t")),
        *((name, name) for name in ("int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t")),
    ],
)
def test_every_type_of_the_language_is_read(written: str, meant: str) -> None:
    assert parameter(f"{written} x").type == Type(Kind.BUILTIN, meant)


def test_tagged_and_foreign_types_are_told_apart() -> None:
    assert parameter("struct s x").type == Type(Kind.STRUCT, "s")
    assert parameter("union u x").type == Type(Kind.UNION, "u")
    assert parameter("enum e x").type == Type(Kind.ENUM, "e")
    assert parameter("sgx_status_t x").type == Type(Kind.FOREIGN, "sgx_status_t")
    assert str(parameter("[in] struct s ** x").type) == "struct s**"


def test_attributes_become_fields() -> None:
    assert parameter("[in, size=4, count=9] const void* p") == Parameter(
        "p", Type(Kind.BUILTIN, "void", 1), (), Direction.IN, 4, 9, const=True
    )
    assert parameter("[out, in, string] char* p").direction is Direction.IN_OUT
    found = parameter("[in, isptr, readonly, size=4] handle_t p")
    assert (found.isptr, found.readonly, found.by_value) == (True, True, False)
    assert parameter("[user_check, isary] key_t p").user_check


def test_arrays_have_dimensions() -> None:
    found = parameter("[in, out] uint8_t grid[2][3][4]")
    assert (found.dimensions, found.elements) == ((2, 3, 4), 24)
    assert found.pointee == Type(Kind.BUILTIN, "uint8_t")


def test_functions_have_their_properties() -> None:
    interface = loads("""enclave {
        trusted { public int a(void); long b() transition_using_threads; };
        untrusted {
            [cdecl, dllimport] void c() allow(a, b) propagate_errno transition_using_threads;
            void d() allow() transition_using_threads propagate_errno;
            [stdcall] void e() propagate_errno;
            [fastcall] void* f();
        };
    };""")
    a, b = interface.ecalls
    assert (a.public, a.switchless, b.public, b.switchless) == (True, False, False, True)
    c, d, e, f = interface.ocalls
    assert (c.convention, c.dllimport, c.allow) == (Convention.CDECL, True, ("a", "b"))
    assert (c.propagate_errno, c.switchless, d.propagate_errno, d.switchless) == (True,) * 4
    assert (e.convention, f.convention) == (Convention.STDCALL, Convention.FASTCALL)
    assert (e.switchless, e.naked, f.naked, a.naked, b.naked) == (False,) * 5
    assert loads("enclave { trusted { void g(void); }; };").ecalls[0].naked


def test_composites_are_read() -> None:
    interface = loads("""enclave {
        enum { RED, GREEN = 4, BLUE = GREEN };
        enum kind { SMALL };
        union u { int8_t a[4]; char* b; };
        struct s { union u inner; [size=n, count=2] void* data; size_t n; struct s* next; };
    };""")
    anonymous, kind, union, structure = interface.composites
    assert anonymous == EnumDefinition(
        "", (Enumerator("RED"), Enumerator("GREEN", 4), Enumerator("BLUE", "GREEN"))
    )
    assert isinstance(kind, EnumDefinition)
    assert isinstance(union, UnionDefinition)
    assert isinstance(structure, StructDefinition)
    assert [member.name for member in structure.deep_members] == ["data"]


def test_definitions_come_out_in_the_order_that_c_needs() -> None:
    interface = loads("""enclave {
        struct c { struct b inner; d* other; };
        struct b { a inner; };
        struct a { struct c* back; };
        struct d { int x; };
    };""")
    assert [item.name for item in interface.composites] == ["a", "b", "d", "c"]


def test_includes_belong_to_their_blocks() -> None:
    interface = loads("""enclave {
        include "both.h"
        trusted { include "enclave.h" include "more.h" void f(); };
        untrusted { include "host.h" };
        include "last.h"
    };""")
    assert interface.includes == ("both.h", "last.h")
    assert interface.trusted_includes == ("enclave.h", "more.h")
    assert interface.untrusted_includes == ("host.h",)


def test_blocks_may_come_several_times_and_in_any_order() -> None:
    interface = loads("""enclave {
        untrusted { void o(); }; trusted { void a(); };
        trusted { }; trusted { void b(); };
    };""")
    assert [item.name for item in interface.ecalls] == ["a", "b"]


def test_comments_and_newlines_of_every_kind_are_skipped() -> None:
    text = "\ufeff// a \\\n still\r\nenclave { /* 'x'\n * \" */ trusted {\f\v void f(); }; };//end"
    assert loads(text).ecalls[0].name == "f"


def test_numbers_are_decimal_even_with_a_leading_zero() -> None:
    assert parameter("[in, size=010] void* p").size == 10


def test_a_name_from_a_path_becomes_a_c_identifier() -> None:
    interface = loads("enclave { };", "dir/my-enclave.v2.edl")
    assert (interface.name, interface.identifier) == ("my-enclave.v2", "my_enclave_v2")


def warnings(text: str) -> list[str]:
    return [warning.message for warning in loads(text).warnings]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trusted { void f(); };", "the private ECALL `f` can never be called"),
        ("trusted { public void f([in, size=0] void* p); };", "nothing is copied"),
        ("struct s { char* p; }; untrusted { void f(struct s x); };", "is not copied"),
        ("struct s { int p; }; untrusted { void f([in] s* x); };", "write `struct s`"),
        (
            "struct a { int n; [count=n] int* p; }; struct b { [count=1] struct a* q; };",
            "they cross unchecked",
        ),
    ],
)
def test_what_is_allowed_and_unwise_gives_a_warning(text: str, message: str) -> None:
    (found,) = warnings(f"enclave {{ {text} }};")
    assert message in found


def test_a_private_ecall_that_an_ocall_allows_gives_no_warning() -> None:
    assert not warnings("enclave { trusted { void f(); }; untrusted { void g() allow(f); }; };")


def test_an_interface_knows_its_deep_copies() -> None:
    interface = loads("""enclave {
        struct deep { int n; [count=n] char* p; };
        untrusted { void f([in] struct deep* a, [in] struct deep b[2], [user_check] struct deep* c,
            [in] struct deep** d); };
    };""")
    found = [interface.deep_structure(item) for item in interface.ocalls[0].parameters]
    deep = interface.composite("deep")
    assert found == [deep, deep, None, None]


# Limits


def raises(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        loads(text)


def test_a_huge_file_is_refused_before_it_is_read() -> None:
    raises(" " * (1 << 20) + "enclave { };", "characters, more than the")


def test_a_file_of_too_many_tokens_is_refused() -> None:
    raises("enclave {" + "{" * 500_000, "expected include")
    raises("enclave { trusted { void f(int x" + "*" * 500_000, "expected `,` or")
    raises("enclave { trusted { void f(int " + "*" * 500_000, "tokens after its macros")


def test_many_structures_are_sorted_in_time() -> None:
    chain = "".join(
        f"struct s{i} {{ struct s{i + 1} a; struct s{i + 1} b; }};" for i in range(5000)
    )
    interface = loads(f"enclave {{ {chain} }};")
    assert interface.composites[0].name == "s4999"


def test_unclosed_comments_and_quotes_take_no_time() -> None:
    raises("enclave { " + "/* " * 300_000, "this comment never ends")
    raises('"' * 1_000_001, "found the string|never ends|is empty")


def test_an_interface_of_many_functions_is_checked_in_time() -> None:
    text = "".join(f"public void f{i}([in, size=n] void* p, size_t n);" for i in range(3000))
    assert len(loads(f"enclave {{ trusted {{ {text} }}; }};").ecalls) == 3000


def test_one_function_of_many_parameters_is_checked_in_time() -> None:
    text = ",".join(f"[in, size=n{i}] void* p{i}, int n{i}" for i in range(5000))
    interface: Interface = loads(f"enclave {{ trusted {{ void f({text}); }}; }};")
    assert len(interface.ecalls[0].parameters) == 10000
