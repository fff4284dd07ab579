# SPDX-License-Identifier: Apache-2.0
"""Sizes and offsets; the comparison with a C compiler is among the tests of the bridges."""

import pytest

from ensconce.edl import loads
from ensconce.edl.headers import HeaderType
from ensconce.edl.layout import Extent, Layout
from ensconce.edl.model import Kind, Type
from ensconce.errors import FormatError

INTERFACE = loads("""enclave {
    enum small { A }; enum large { B = 4294967296 };
    struct s { char c; long double d; int a[3]; };
    union u { char c[9]; uint32_t n; };
    struct open { unheard_of_t x; };
    trusted {
        public char f(struct s x, [in, string] char* text, [in] int grid[2][2]);
        public void g(unheard_of_t x, [user_check] unheard_of_t* p);
        public void h([in, isptr, size=4] unheard_of_t p, [in, isary] unheard_of_t a);
        public sgx_status_t i(bool b);
    };
    untrusted { int o([in, string] char* text) propagate_errno; void n(); };
};""")


def test_builtin_and_defined_types_have_their_c_sizes() -> None:
    layout = Layout(INTERFACE)
    assert layout.extent(Type(Kind.STRUCT, "s")) == Extent(48, 16)
    assert layout.extent(Type(Kind.FOREIGN, "s")) == Extent(48, 16)
    assert layout.extent(Type(Kind.UNION, "u")) == Extent(12, 4)
    assert layout.sizeof(Type(Kind.ENUM, "small")) == 4
    assert layout.sizeof(Type(Kind.ENUM, "large")) == 8
    assert layout.alignof(Type(Kind.BUILTIN, "void", 1)) == 8


def test_an_ecall_has_its_result_first_and_a_length_behind_each_string() -> None:
    found = Layout(INTERFACE).marshalling(INTERFACE.ecalls[0])
    assert found is not None
    assert {name: (field.offset, field.size) for name, field in found.fields.items()} == {
        "ms_retval": (0, 1),
        "ms_x": (16, 48),
        "ms_text": (64, 8),
        "ms_text_len": (72, 8),
        "ms_grid": (80, 8),
    }
    assert (found.size, found.alignment) == (96, 16)


def test_an_ocall_has_errno_and_no_lengths() -> None:
    found = Layout(INTERFACE).marshalling(INTERFACE.ocalls[0])
    assert found is not None
    assert list(found.fields) == ["ms_retval", "ocall_errno", "ms_text"]
    assert Layout(INTERFACE).marshalling(INTERFACE.ocalls[1]) is None


def test_a_header_type_has_the_size_that_is_stated() -> None:
    g = INTERFACE.ecalls[1]
    with pytest.raises(FormatError, match="EDL does not tell the size of `unheard_of_t`"):
        Layout(INTERFACE).marshalling(g)
    found = Layout(INTERFACE, {"unheard_of_t": HeaderType(24, 4)}).marshalling(g)
    assert found is not None
    assert found.fields["ms_p"].offset == 24


def test_pointers_and_arrays_of_unknown_types_are_pointers() -> None:
    found = Layout(INTERFACE).marshalling(INTERFACE.ecalls[2])
    assert found is not None
    assert found.size == 16


def test_common_header_types_are_known() -> None:
    found = Layout(INTERFACE).marshalling(INTERFACE.ecalls[3])
    assert found is not None
    assert [field.size for field in found.fields.values()] == [4, 1]


def test_a_structure_of_unknown_parts_has_no_size() -> None:
    assert Layout(INTERFACE).extent(Type(Kind.STRUCT, "open")) is None
    assert Layout(INTERFACE).extent(Type(Kind.STRUCT, "absent")) is None
