# SPDX-License-Identifier: Apache-2.0
"""What is said of an enclave: genuine, altered, with another's SIGSTRUCT, or not signed."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.image.building import DATE, SMALL, EnclaveFile, signed

from ensconce.errors import FormatError, MeasurementError, UnsignedError, VerificationError
from ensconce.image import Mode, SdkImage, check_image, open_image, verify_image
from ensconce.image.config import EnclaveConfig
from ensconce.image.metadata import MetadataHeader
from ensconce.isa.sigstruct import SigStruct


def test_a_genuine_enclave_reports_what_was_configured(
    enclave: bytes, key: rsa.RSAPrivateKey
) -> None:
    report = check_image(open_image(enclave, source="e.so"))
    assert (report.signed, report.signature_valid, report.measurement_matches) == (True,) * 3
    assert (report.fault, report.mode, report.format) == ("", Mode.HW, "sdk 1.5")
    assert (report.isv_prod_id, report.isv_svn, report.date) == (7, 3, DATE)
    assert (report.debug, report.vendor, report.ssa_frame_size) == (True, 0, 1)
    modulus = key.public_key().public_numbers().n.to_bytes(384, "little")
    assert report.mr_signer == SigStruct(modulus=modulus).mr_signer
    assert report.mr_enclave == report.enclave_hash


def test_debug_is_what_the_sigstruct_allows(key: rsa.RSAPrivateKey) -> None:
    closed = signed(key, replace(SMALL, disable_debug=1))
    assert not verify_image(open_image(closed)).debug


def test_kss_fields_are_reported(key: rsa.RSAPrivateKey) -> None:
    config = EnclaveConfig(
        **{name: getattr(SMALL, name) for name in ("tcs_num", "stack_max_size", "heap_max_size")},
        enable_kss=1,
        isv_family_id_h=1,
        isv_ext_prod_id_l=2,
    )
    report = check_image(open_image(signed(key, config)))
    assert report.isv_family_id == (1 << 64).to_bytes(16, "little")
    assert report.isv_ext_prod_id == (2).to_bytes(16, "little")


def test_a_changed_byte_of_code_is_a_changed_file(enclave: bytes) -> None:
    altered = bytearray(enclave)
    altered[0x1800] ^= 1
    report = verify_image(open_image(bytes(altered), source="e.so"))
    assert (report.signature_valid, report.measurement_matches) == (True, False)
    with pytest.raises(MeasurementError, match=r"e\.so was changed after it was signed"):
        check_image(open_image(bytes(altered), source="e.so"))


def test_a_sigstruct_of_another_enclave_is_called_so(
    enclave: bytes, key: rsa.RSAPrivateKey
) -> None:
    other = SdkImage.parse(
        memoryview(signed(key, replace(SMALL, tcs_num=3))), source="other.so"
    ).sigstruct
    with pytest.raises(MeasurementError, match="made for another enclave"):
        check_image(open_image(enclave, sigstruct=other))


def test_a_sigstruct_put_into_the_file_is_told_by_its_attributes(
    enclave: bytes, key: rsa.RSAPrivateKey
) -> None:
    other = open_image(signed(key, replace(SMALL, tcs_num=3, provision_key=1))).sigstruct
    image = SdkImage.parse(memoryview(enclave), source="e.so")
    at = image.metadata.offset + MetadataHeader.offset_of("sigstruct")
    swapped = enclave[:at] + bytes(other or b"") + enclave[at + 1808 :]
    with pytest.raises(MeasurementError, match="made for another enclave"):
        check_image(open_image(swapped))


def test_a_broken_signature_goes_before_a_mismatch(enclave: bytes) -> None:
    image = SdkImage.parse(memoryview(enclave), source="e.so")
    at = image.metadata.offset + MetadataHeader.offset_of("sigstruct")
    broken = bytearray(enclave)
    broken[at + SigStruct.offset_of("enclave_hash")] ^= 1
    report = verify_image(open_image(bytes(broken)))
    assert (report.signature_valid, report.measurement_matches) == (False, False)
    with pytest.raises(VerificationError, match="RSA signature does not verify"):
        check_image(open_image(bytes(broken)))


def test_an_sgxs_file_without_sigstruct_is_reported_and_not_passed() -> None:
    image = open_image(b"ECREATE\0\1\0\0\0" + (1 << 20).to_bytes(8, "little") + bytes(44))
    report = verify_image(image)
    assert (report.signed, report.signature_valid, report.mr_signer) == (False, False, b"")
    with pytest.raises(UnsignedError, match="has no SIGSTRUCT"):
        check_image(image)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "neither an ELF nor an SGXS"),
        (b"MZ" + bytes(100), "a Windows program"),
        (b"#!/bin/sh\n", "neither an ELF nor an SGXS"),
        (b"\x7fELF", "too short"),
        (bytes(EnclaveFile())[:64], "cut short"),
    ],
)
def test_what_is_no_enclave_is_called_what_it_is(content: bytes, fault: str) -> None:
    with pytest.raises(FormatError, match=fault):
        open_image(content, source="e.so")
