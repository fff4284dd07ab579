# SPDX-License-Identifier: Apache-2.0
"""Enclave.config.xml: every element, its range, the rules between elements, hostile files."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.errors import SourceError
from ensconce.image.config import ELEMENTS, EnclaveConfig, parse_config, render_config


def parse(*elements: str) -> EnclaveConfig:
    text = "<EnclaveConfiguration>" + "".join(elements) + "</EnclaveConfiguration>"
    return parse_config(text.encode(), source="e.xml")


def test_there_are_the_vendor_s_37_elements_and_a_field_for_each() -> None:
    assert len(ELEMENTS) == 37
    assert {element.field for element in ELEMENTS.values()} == {
        field.name for field in fields(EnclaveConfig)
    }


def test_an_empty_configuration_has_the_vendor_s_defaults() -> None:
    config = parse()
    assert config == EnclaveConfig()
    assert (config.tcs_num, config.threads_max, config.tcs_policy) == (1, 1, 1)
    assert (config.stack_min, config.stack_max_size) == (0x2000, 0x40000)
    assert (config.heap_min_size, config.heap_init, config.heap_max_size) == (
        *(0x1000, 0x1000000),
        0x1000000,
    )
    assert (config.misc_select, config.misc_mask) == (0, 0xFFFFFFFF)


def test_the_vendor_s_sample_reads_as_it_says() -> None:
    config = parse_config(
        b"""<?xml version="1.0" encoding="utf-8"?>
        <EnclaveConfiguration>
          <ProdID>0</ProdID> <ISVSVN>1</ISVSVN>
          <StackMaxSize>0x40000</StackMaxSize>
          <HeapMaxSize> 0x100000 </HeapMaxSize>
          <TCSNum>10</TCSNum><TCSPolicy>1</TCSPolicy>
          <!-- a comment -->
          <DisableDebug>0</DisableDebug>
          <MiscSelect>0</MiscSelect><MiscMask>0XFFFFFFFF</MiscMask>
        </EnclaveConfiguration>"""
    )
    assert config == EnclaveConfig(isv_svn=1, heap_max_size=0x100000, tcs_num=10)


@pytest.mark.parametrize(
    ("text", "value"), [("10", 10), ("0x10", 16), ("010", 8), ("+7", 7), ("0", 0), (" 9\n", 9)]
)
def test_numbers_are_read_as_c_reads_them(text: str, value: int) -> None:
    assert parse(f"<ProdID>{text}</ProdID>").isv_prod_id == value


@pytest.mark.parametrize("text", ["", " ", "x", "-1", "1.5", "0x", "09", "1 2", "1" * 99, "٣"])
def test_what_is_no_number_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(SourceError, match=r"e\.xml, line 3: ProdID is") as caught:
        parse("\n\n", f"<ProdID>{text.strip()}</ProdID>")
    assert caught.value.line == 3


@pytest.mark.parametrize("name", ELEMENTS)
def test_every_element_has_a_range(name: str) -> None:
    element = ELEMENTS[name]
    outside = [element.most + 1, *([element.least - 1] if element.least else [])]
    for value in outside:
        with pytest.raises(SourceError, match=f"{name} is {value}, outside"):
            parse(f"<{name}>{value}</{name}>")


@pytest.mark.parametrize(
    ("elements", "fault"),
    [
        ("<ProdId>1</ProdId>", "ProdId is no element"),
        ("<ProdID>1</ProdID><ProdID>1</ProdID>", "ProdID is given twice"),
        ('<ProdID unit="1">1</ProdID>', "ProdID has attributes"),
        ("<ProdID><ISVSVN>1</ISVSVN></ProdID>", "ISVSVN stands inside ProdID"),
        ("text", "'text' stands outside an element"),
        ("<ProdID>1", "not well-formed"),
    ],
)
def test_what_is_not_a_flat_list_of_known_elements_is_refused(elements: str, fault: str) -> None:
    with pytest.raises(SourceError, match=fault):
        parse(elements)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "no element found"),
        (b"<Enclave/>", "outermost element is Enclave"),
        (b"\x00\x01", "not well-formed"),
        (b'<?xml version="1.0" encoding="nonsense"?><EnclaveConfiguration/>', "encoding"),
        (b"<EnclaveConfiguration/>" + b" " * (1 << 20), "a few thousand"),
        (b"<EnclaveConfiguration/><EnclaveConfiguration/>", "junk after document"),
    ],
)
def test_what_is_no_configuration_is_one_clear_error(text: bytes, fault: str) -> None:
    with pytest.raises(SourceError, match=fault):
        parse_config(text, source="e.xml")


def test_entities_are_never_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "%s">]><EnclaveConfiguration/>' % (b"&a;" * 100)
    with pytest.raises(SourceError, match="a DOCTYPE has no place"):
        parse_config(bomb)


@pytest.mark.parametrize(
    ("elements", "fault"),
    [
        ({"StackMaxSize": 0x4001}, "StackMaxSize is not a multiple"),
        ({"UserRegionSize": 1}, "UserRegionSize is not a multiple"),
        ({"StackMinSize": 0x8000, "StackMaxSize": 0x4000}, "StackMinSize is greater"),
        ({"HeapMinSize": 0x3000, "HeapMaxSize": 0x2000}, "do not ascend"),
        ({"HeapInitSize": 0x3000, "HeapMaxSize": 0x2000}, "do not ascend"),
        ({"HeapMinSize": 0x3000, "HeapInitSize": 0x2000}, "do not ascend"),
        ({"ReservedMemMinSize": 0x1000}, "ReservedMemMinSize, .* do not ascend"),
        ({"ReservedMemInitSize": 0x2000, "ReservedMemMaxSize": 0x1000}, "do not ascend"),
        ({"UserRegionSize": 0x1000}, "UserRegionSize needs bit 0"),
        ({"UserRegionSize": 0x1000, "MiscSelect": 1, "MiscMask": 0}, "UserRegionSize needs"),
        ({"TCSNum": 4, "TCSMaxNum": 3}, "TCSMaxNum is smaller"),
        ({"TCSNum": 4, "TCSMinPool": 5}, "TCSMinPool is greater"),
        ({"TCSNum": 4, "TCSMaxNum": 6, "TCSMinPool": 7}, "TCSMinPool is greater"),
        ({"HW": 1}, "HW and LaunchKey belong together"),
        ({"LaunchKey": 1}, "HW and LaunchKey belong together"),
        ({"ISVFAMILYID_L": 1}, "need EnableKSS"),
        ({"ISVEXTPRODID_H": 1}, "need EnableKSS"),
        ({"EnableIPPFIPS": 1, "EnableOSSLFIPS": 1}, "exclude each other"),
        ({"EnclaveImageAddress": 0x1000}, "need ELRangeSize"),
        ({"ELRangeStartAddress": 0x1000}, "need ELRangeSize"),
        ({"ELRangeSize": 0x3000}, "a power of two"),
        ({"ELRangeSize": 0x2000, "EnclaveImageAddress": 0x1001}, "are pages"),
        ({"ELRangeSize": 0x2000, "ELRangeStartAddress": 0x1000}, "aligned to ELRangeSize"),
        ({"ELRangeSize": 0x2000, "ELRangeStartAddress": 0x2000}, "not above"),
    ],
)
def test_elements_that_contradict_each_other_are_refused(
    elements: dict[str, int], fault: str
) -> None:
    with pytest.raises(SourceError, match=fault):
        parse(*(f"<{name}>{value}</{name}>" for name, value in elements.items()))


def test_what_can_grow_is_dynamic() -> None:
    fixed = EnclaveConfig(
        stack_min_size=0x4000, stack_max_size=0x4000, heap_min_size=0x10000, heap_max_size=0x10000
    )
    assert not fixed.dynamic
    for change in (
        {"heap_max_size": 0x11000},
        {"stack_max_size": 0x5000},
        {"tcs_max_num": 2},
        {"reserved_mem_max_size": 0x1000, "reserved_mem_init_size": 0},
    ):
        assert replace(fixed, **change).dynamic


VALUES = st.fixed_dictionaries(
    {},
    optional={
        element.field: st.integers(element.least, element.most) for element in ELEMENTS.values()
    },
)


@given(values=VALUES)
def test_a_configuration_that_is_written_reads_back(values: dict[str, int]) -> None:
    config = EnclaveConfig(**values)
    if config.fault():
        with pytest.raises(SourceError):
            parse_config(render_config(config).encode())
    else:
        assert parse_config(render_config(config).encode()) == config
