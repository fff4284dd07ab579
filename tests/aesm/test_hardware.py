# SPDX-License-Identifier: Apache-2.0
"""The vendor's quoting library, for which a small library with the same functions stands in."""

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
from tests.aesm.serving import serving

from ensconce.aesm.codes import Code, Refusal
from ensconce.aesm.hardware import LIBRARY, HardwareBackend, check_devices
from ensconce.aesm.responder import BackendResponder
from ensconce.dcap.keyid import VENDOR_QE_KEY
from ensconce.errors import ConfigError
from ensconce.isa.report import Report, ReportBody, TargetInfo

REPORT = Report(ReportBody(report_data=b"\x77" * 64), mac=b"\x33" * 16)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """The stand-in: the wrapper library, which needs the one that has the functions."""
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1"]
    logic, wrapper = tmp_path / "libsgx_qe3_logic.so", tmp_path / "libsgx_dcap_ql.so.1"
    source = Path(__file__).parent / "library" / "quoting.c"
    subprocess.run(["gcc", *flags, source, "-o", logic], check=True)
    link = ["-Wl,--no-as-needed", str(logic), f"-Wl,-rpath,{tmp_path}"]
    subprocess.run(["gcc", *flags, "-xc", "/dev/null", "-xnone", *link, "-o", wrapper], check=True)
    return wrapper


def turn(library: Path, name: str, value: int) -> None:
    """Set one of the stand-in's variables."""
    ctypes.c_int.in_dll(ctypes.CDLL(str(library)), name).value = value


def state(library: Path, name: str) -> int:
    return ctypes.c_int.in_dll(ctypes.CDLL(str(library)), name).value


@pytest.fixture
def backend(library: Path) -> HardwareBackend:
    return HardwareBackend(str(library))


def test_the_key_is_the_librarys_and_its_enclave_stays_loaded(
    backend: HardwareBackend, library: Path
) -> None:
    assert backend.key_ids() == (VENDOR_QE_KEY,)
    assert state(library, "policy") == 0


def test_target_info_and_the_keys_id_come_from_the_library(backend: HardwareBackend) -> None:
    target, key_hash = backend.target_info()
    assert target == TargetInfo(measurement=b"\x11" * 32)
    assert key_hash == b"\x22" * 32


def test_a_quote_is_made_without_init_since_the_backend_asks_for_it(
    backend: HardwareBackend, library: Path
) -> None:
    quote, proof = backend.quote(REPORT, None)
    assert (quote[:384], len(quote)) == (bytes(REPORT.body), backend.quote_size())
    assert proof is None
    assert state(library, "inits") == 1


def test_a_lost_quoting_enclave_is_asked_again(backend: HardwareBackend, library: Path) -> None:
    backend.target_info()
    turn(library, "quote_fails", 0xE014)
    assert backend.quote(REPORT, None)
    assert state(library, "inits") == 2


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("init_fails", 0xE011, Code.NO_PLATFORM_CERT_DATA),
        ("init_fails", 0xE019, Code.NETWORK_ERROR),
        ("init_fails", 0xE016, Code.ENCLAVE_LOAD_ERROR),
        ("quote_fails", 0xE00B, Code.UNSUPPORTED_ATT_KEY_ID),
        ("quote_fails", 0xE012, Code.OUT_OF_EPC),
        ("quote_fails", 0x1234, Code.UNEXPECTED_ERROR),
    ],
)
def test_what_the_library_refuses_with_keeps_its_hex_code(
    backend: HardwareBackend, library: Path, name: str, status: int, code: Code
) -> None:
    turn(library, name, status)
    with pytest.raises(Refusal, match=f"{status:#06x}") as caught:
        backend.quote(REPORT, None)
    assert caught.value.code == code


@pytest.mark.parametrize("size", [0, 1 << 20, -1])
def test_an_absurd_size_from_the_library_is_refused(
    backend: HardwareBackend, library: Path, size: int
) -> None:
    backend.target_info()
    turn(library, "quote_size", size)
    with pytest.raises(Refusal, match="says that a quote has"):
        backend.quote(REPORT, None)


def test_the_service_serves_the_library(backend: HardwareBackend, tmp_path: Path) -> None:
    with serving(tmp_path / "s", BackendResponder(backend)) as service:
        client = service.client()
        target, _ = client.init_quote()
        made = client.quote(REPORT, nonce=b"n" * 16, target=target)
        assert made.quote[:384] == bytes(REPORT.body)
        assert made.qe_report is not None
        assert made.qe_report.body.report_data == b"n" * 16 + bytes(48)
        with pytest.raises(Refusal) as caught:
            client.quote(Report(ReportBody()))
        assert caught.value.code == Code.INVALID_REPORT


def test_a_library_that_is_absent_is_one_sentence_with_the_mend() -> None:
    with pytest.raises(ConfigError, match="install the vendor's libsgx-dcap-ql"):
        HardwareBackend("libsgx_dcap_ql_absent.so.1")


def test_a_library_without_the_functions_is_refused() -> None:
    with pytest.raises(ConfigError, match="sgx_ql_set_enclave_load_policy"):
        HardwareBackend("libc.so.6")


def test_a_library_that_would_ask_this_service_is_refused(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SGX_AESM_ADDR", "1")
    with pytest.raises(ConfigError, match="unset it"):
        HardwareBackend(str(library))


@pytest.mark.hardware
def test_the_real_library_makes_a_key() -> None:
    try:
        backend = HardwareBackend(LIBRARY)
    except ConfigError as error:
        pytest.skip(str(error))
    assert len(backend.target_info()[1]) == 32


@pytest.mark.skipif(os.getuid() == 0, reason="root may open everything")
def test_a_device_that_may_not_be_opened_is_named_with_its_group(tmp_path: Path) -> None:
    node = tmp_path / "sgx_provision"
    node.touch(0o000)
    with pytest.raises(ConfigError, match=rf"group {os.getgid()}\b.*need not be root"):
        check_devices([node])


def test_a_device_that_is_absent_is_the_librarys_to_name(tmp_path: Path) -> None:
    check_devices([tmp_path / "sgx_enclave"])
