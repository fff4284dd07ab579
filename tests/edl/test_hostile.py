# SPDX-License-Identifier: Apache-2.0
"""Whatever the text, only a FormatError comes out."""

import contextlib
import re

from hypothesis import example, given
from hypothesis import strategies as st

from ensconce.edl import loads
from ensconce.edl.printer import render
from ensconce.errors import FormatError

WORDS = re.findall(
    r"\S+",
    """enclave trusted untrusted from import allow public include propagate_errno const struct
union enum int unsigned long char void size_t wchar_t foo_t a b n { } ( ) [ ] * , ; = "x.h" 0 4
99999999999 in out size count string wstring isptr isary readonly user_check cdecl #define #if
#ifdef #endif #include // /* */ transition_using_threads""",
)
SHAPES = st.lists(st.sampled_from([*WORDS, "\n"]), max_size=60).map(" ".join)
INSIDE = SHAPES.map(lambda text: f"enclave {{ trusted {{ public int f({text}); }}; }};")


def only_format_errors(text: str) -> None:
    with contextlib.suppress(FormatError):
        interface = loads(text)
        assert loads(render(interface)) == interface


@given(text=st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape")))
@example(text="\udcff")
@example(text='enclave { include "\udcff" };')
@example(text="\x00")
def test_random_bytes_give_a_format_error_or_an_interface(text: str) -> None:
    only_format_errors(text)


@given(text=st.one_of(SHAPES, INSIDE))
def test_random_words_give_a_format_error_or_an_interface(text: str) -> None:
    only_format_errors(text)
