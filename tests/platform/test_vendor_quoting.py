# SPDX-License-Identifier: Apache-2.0
"""The vendor's quoting library, played by a C library with its interface."""

import subprocess
from pathlib import Path

import pytest
from tests.platform.reporting import report_of

from ensconce.cli import cli, run
from ensconce.errors import ConfigError, DeviceError
from ensconce.isa.report import ReportBody
from ensconce.machine.identity import Identity
from ensconce.platform.quoting import EmulatedPlatform, QuotingRole, quoting_role
from ensconce.platform.roles import QE_TARGET
from ensconce.platform.vendor_quoting import QlError, VendorQuoter

# the quote is the REPORT's body, doubled; answers other than 0 come from the environment
SOURCE = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
static int answer(const char *name) {
    const char *code = getenv(name);
    return code ? (int)strtoul(code, 0, 0) : 0;
}
int sgx_qe_get_target_info(void *info) { memset(info, 0x5a, 32); return answer("TARGET"); }
int sgx_qe_get_quote_size(uint32_t *size) {
    const char *given = getenv("SIZE");
    *size = given ? strtoul(given, 0, 0) : 768;
    return 0;
}
int sgx_qe_get_quote(const void *report, uint32_t size, uint8_t *quote) {
    if (size != 768) return 0xE002;
    memcpy(quote, report, 384);
    memcpy(quote + 384, report, 384);
    return answer("QUOTE");
}
"""
ZEROS = Identity(bytes(16), bytes(16), bytes(16), bytes(32), bytes(16))
REPORT = report_of(ZEROS, QE_TARGET)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vendor")
    source, built = folder / "quoting.c", folder / "libquoting.so"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", built, source], check=True)
    return built


def test_target_and_quote_come_from_the_library(library: Path) -> None:
    vendor: QuotingRole = VendorQuoter(str(library))
    assert vendor.target_info.measurement == b"\x5a" * 32
    assert vendor.quote(REPORT) == bytes(REPORT.body) * 2
    assert len(vendor.quote(REPORT)) == 2 * ReportBody.SIZE


@pytest.mark.parametrize("error", QlError)
def test_a_code_comes_with_its_name_and_a_mend(
    error: QlError, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTE", hex(error))
    with pytest.raises(DeviceError, match=rf"SGX_QL_{error.name} \(0xe0..\); .{{10}}"):
        VendorQuoter(str(library)).quote(REPORT)


def test_the_first_complaint_names_the_registration(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTE", "0xe011")
    with pytest.raises(DeviceError, match="register this platform with the PCCS"):
        VendorQuoter(str(library)).quote(REPORT)


def test_a_code_that_is_none_is_shown_in_hex(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARGET", "0xffffffff")
    with pytest.raises(DeviceError, match="0xffffffff, which is no code"):
        _ = VendorQuoter(str(library)).target_info


@pytest.mark.parametrize("size", ["0", "0xffffffff"])
def test_a_size_that_no_quote_has_is_refused(
    size: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZE", size)
    with pytest.raises(DeviceError, match="asks for a quote of"):
        VendorQuoter(str(library)).quote(REPORT)


def test_only_version_3_comes_from_the_library(library: Path) -> None:
    with pytest.raises(ConfigError, match="version 3, not 4"):
        VendorQuoter(str(library)).quote(REPORT, version=4)


@pytest.mark.parametrize("name", ["libnone.so", "libc.so.6"])
def test_a_library_that_is_not_there_or_another_one_names_the_mend(name: str) -> None:
    with pytest.raises(ConfigError, match="install libsgx-dcap-ql"):
        VendorQuoter(name)


def test_the_backend_decides_who_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSCONCE_BACKEND", "emulated")
    made = quoting_role(path=tmp_path / "platform")
    assert made.target_info == EmulatedPlatform.load(tmp_path / "platform").quoter.target_info


def test_the_command_line_says_what_hardware_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        VendorQuoter()
    except ConfigError:
        assert run(cli, ["platform", "target", "--backend", "hardware"]) == 3
        assert "install libsgx-dcap-ql" in capsys.readouterr().err
    else:
        pytest.skip("the vendor's library is installed")
