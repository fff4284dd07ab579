# SPDX-License-Identifier: Apache-2.0
"""The SGX extension of PCK certificates is read strictly, and written as it is read."""

from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from tests.dcap.corpus import every_case, facts_of, needs_corpus, quote_of

from ensconce.dcap import der
from ensconce.dcap.pck import SGX_EXTENSION, PckExtension, SgxType
from ensconce.dcap.quote import Quote
from ensconce.errors import FormatError

EXTENSIONS = st.builds(
    PckExtension,
    ppid=st.binary(min_size=16, max_size=16),
    components=st.lists(st.integers(0, 255), min_size=16, max_size=16).map(tuple),
    pce_svn=st.integers(0, 0xFFFF),
    cpu_svn=st.binary(min_size=16, max_size=16),
    pce_id=st.binary(min_size=2, max_size=2),
    fmspc=st.binary(min_size=6, max_size=6),
    sgx_type=st.sampled_from(SgxType),
    platform_instance_id=st.none() | st.binary(min_size=16, max_size=16),
    dynamic_platform=st.none() | st.booleans(),
    cached_keys=st.none() | st.booleans(),
    smt_enabled=st.none() | st.booleans(),
)


@given(EXTENSIONS)
def test_an_extension_round_trips(extension: PckExtension) -> None:
    assert PckExtension.parse(bytes(extension)) == extension


@given(EXTENSIONS, st.data())
def test_an_extension_cut_short_or_with_more_behind_it_is_refused(
    extension: PckExtension, data: st.DataObject
) -> None:
    raw = bytes(extension)
    with pytest.raises(FormatError):
        PckExtension.parse(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(FormatError):
        PckExtension.parse(raw + data.draw(st.binary(min_size=1, max_size=4)))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_extension_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        PckExtension.parse(raw)


@given(EXTENSIONS)
def test_an_entry_given_twice_or_missing_is_refused(extension: PckExtension) -> None:
    entries = der.children(der.only_child(bytes(extension), der.SEQUENCE, "x"), "x")
    for chosen in ([*entries, entries[0]], entries[1:]):
        body = b"".join(der.encode(tag, contents) for tag, contents in chosen)
        with pytest.raises(FormatError, match=r"twice|lacks"):
            PckExtension.parse(der.encode(der.SEQUENCE, body))


@pytest.mark.parametrize(
    "raw", ["3080", "30820001", "3081", "30840000000100", "3f00", "020200ff30", "30"]
)
def test_lengths_and_tags_that_der_forbids_are_refused(raw: str) -> None:
    with pytest.raises(FormatError, match="not valid DER"):
        der.only_child(bytes.fromhex(raw), der.SEQUENCE, "input")


@given(st.integers(0, 1 << 64))
def test_a_number_round_trips(value: int) -> None:
    contents = der.only_child(der.encode_integer(value), der.INTEGER, "input")
    assert der.integer(contents, "input") == value


@pytest.mark.parametrize("raw", ["", "ff", "0001"])
def test_a_number_that_is_negative_or_padded_is_refused(raw: str) -> None:
    with pytest.raises(FormatError):
        der.integer(bytes.fromhex(raw), "input")


@needs_corpus
@every_case
def test_real_extensions_are_read_and_written_alike(case: Path) -> None:
    facts = facts_of(case)
    chain = x509.load_pem_x509_certificates(
        Quote.parse(quote_of(case)).certification.data.rstrip(b"\0")
    )
    found = chain[0].extensions.get_extension_for_oid(x509.ObjectIdentifier(SGX_EXTENSION)).value
    assert isinstance(found, x509.UnrecognizedExtension)
    extension = PckExtension.parse(found.value)
    assert bytes(extension) == found.value
    assert extension.fmspc.hex() == facts["fmspc"]
    assert [*extension.components, extension.pce_svn] == facts["pck_tcb"]
    assert (extension.platform_instance_id is not None) == facts["pck_ca"].endswith("Platform CA")
