# SPDX-License-Identifier: Apache-2.0
"""XSAVE masks of loaded code are narrowed to XFRM, after measuring and nowhere else."""

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.machine.building import HEAP, PAGE, RW, RX, Parts, bare, basic_parts, initialize

from ensconce import _core
from ensconce.isa.attributes import Xfrm
from ensconce.isa.secinfo import PageType, SecInfo, secinfo_flags
from ensconce.machine.encls_build import eadd, eextend
from ensconce.machine.encls_paging import eblock, eldu, epa, etrack, ewb
from ensconce.machine.narrowing import narrowed
from ensconce.machine.processor import Processor

EAX, EDX = bytes.fromhex("b8ffffffff"), bytes.fromhex("baffffffff")
NARROW = bytes.fromhex("b803000000ba00000000")
INSTRUCTIONS = [
    bytes.fromhex(code)
    for code in ("480fc721", "480fae21", "480fae29", "0fae20", "0faee8", "480faeb700010000")
]
SITES = [code for code in INSTRUCTIONS if code != bytes.fromhex("0faee8")]


@pytest.mark.parametrize("code", SITES, ids=bytes.hex)
def test_a_mask_before_an_xsave_instruction_is_found(code: bytes) -> None:
    assert narrowed(b"\x90" + EAX + EDX + code, 3) == [(1, NARROW)]
    swapped = narrowed(EDX + EAX + b"\x90\x90" + code, 0x1_0000_0007)
    assert swapped == [(0, bytes.fromhex("ba01000000b807000000"))]


@pytest.mark.parametrize(
    "code",
    [
        EAX + EDX,
        EAX + EDX + bytes.fromhex("0faee8"),
        EAX + EDX + bytes(9) + SITES[0],
        EAX + bytes.fromhex("ba00000000") + SITES[0],
        EAX + SITES[0],
    ],
    ids=["no xsave", "lfence", "far away", "other mask", "half"],
)
def test_nothing_else_is_touched(code: bytes) -> None:
    assert narrowed(code, 3) == []


@given(code=st.binary(max_size=200), xfrm=st.integers(0, (1 << 64) - 1))
def test_any_bytes_can_be_searched(code: bytes, xfrm: int) -> None:
    for offset, new in narrowed(code, xfrm):
        assert len(new) == 10
        assert code[offset : offset + 10] in (EAX + EDX, EDX + EAX)


SITE = EAX + EDX + SITES[0]
NARROWED = NARROW + SITES[0]
wide = pytest.mark.skipif(
    not _core.xcr0() & ~int(Xfrm.LEGACY), reason="XCR0 is no wider than the enclave's XFRM here"
)


@pytest.fixture
def parts() -> Parts:
    """Give two code pages with a site across their border, one in data, one at an end."""
    spread = bytes(PAGE - 6) + SITE + bytes(PAGE + 6 - len(SITE))
    return [
        *basic_parts(),
        (HEAP, RX, spread[:PAGE]),
        (HEAP + 1, RX, spread[PAGE:]),
        (HEAP + 2, RW, SITE.ljust(PAGE, b"\0")),
        (HEAP + 4, SecInfo(secinfo_flags(PageType.REG, 7)), SITE.ljust(PAGE, b"\0")),
    ]


@wide
def test_code_is_narrowed_after_it_was_measured(
    cpu: Processor, key: rsa.RSAPrivateKey, parts: Parts
) -> None:
    with bare(cpu, []) as secs, bare(cpu, []) as untouched:
        for enclave in (secs, untouched):
            for page, secinfo, content in parts:
                eadd(cpu, enclave, enclave.base + page * PAGE, secinfo, content)
                eextend(cpu, enclave, enclave.base + page * PAGE)
        initialize(cpu, secs, key)
        assert secs.secs.mr_enclave == untouched.measurement.digest()
        at = (HEAP + 1) * PAGE - 6
        assert bytes(secs.alias[at : at + len(SITE)]) == NARROWED
        assert secs.content(HEAP + 2)[: len(SITE)] == SITE
        assert secs.content(HEAP + 4)[: len(SITE)] == NARROWED


@wide
def test_code_that_was_out_at_einit_is_narrowed_when_it_comes_back(
    cpu: Processor, key: rsa.RSAPrivateKey, parts: Parts
) -> None:
    va = epa(cpu)
    with bare(cpu, parts) as secs:
        address = secs.base + (HEAP + 1) * PAGE
        eblock(cpu, secs, address)
        etrack(cpu, secs)
        evicted = ewb(cpu, secs, address, va, 0)
        initialize(cpu, secs, key)
        at = (HEAP + 1) * PAGE - 6
        assert bytes(secs.alias[at : at + 6]) == SITE[:6]
        eldu(cpu, secs, evicted, va, 0)
        assert bytes(secs.alias[at : at + len(SITE)]) == NARROWED
