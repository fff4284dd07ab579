# SPDX-License-Identifier: Apache-2.0
"""The host's libraries as the dynamic linker sees them, against the vendor's."""

import re
import subprocess
from pathlib import Path

import pytest

from ensconce.edl.files import LIBRARY, load_file
from ensconce.sdk.host_libraries import HOST_INCLUDE, host_includes, host_libraries
from ensconce.sdk.toolchain import Toolchain

# What a program built here asks the dynamic linker for must be what the vendor's libraries are
# called. That of libsgx_uae_service has no version.
_SONAMES = {
    "libsgx_urts.so": "libsgx_urts.so.2",
    "libsgx_epid.so": "libsgx_epid.so.1",
    "libsgx_launch.so": "libsgx_launch.so.1",
    "libsgx_quote_ex.so": "libsgx_quote_ex.so.1",
    "libsgx_uae_service.so": "libsgx_uae_service.so",
    "libsgx_dcap_ql.so": "libsgx_dcap_ql.so.1",
    "libdcap_quoteprov.so": "libdcap_quoteprov.so.1",
    "libsgx_capable.so": "libsgx_capable.so",
}
_HEADERS = {
    "libsgx_urts.so": ["sgx_urts.h"],
    "libsgx_epid.so": ["sgx_uae_epid.h"],
    "libsgx_launch.so": ["sgx_uae_launch.h"],
    "libsgx_quote_ex.so": ["sgx_uae_quote_ex.h"],
    "libsgx_uae_service.so": ["sgx_uae_epid.h", "sgx_uae_launch.h", "sgx_uae_quote_ex.h"],
    "libsgx_dcap_ql.so": ["sgx_dcap_ql_wrapper.h"],
    "libdcap_quoteprov.so": ["sgx_default_quote_provider.h"],
    "libsgx_capable.so": ["sgx_capable.h"],
}
# What generated code calls, and the vendor's libsgx_uswitchless.a; no header of the host's has it.
_UNDECLARED = {
    "sgx_set_switchless_itf",
    "sgx_ecall",
    "sgx_ecall_switchless",
    "pthread_create_ocall",
    "pthread_wait_timeout_ocall",
    "pthread_wakeup_ocall",
}
_PROTOTYPE = re.compile(r"\b(sgx_\w+)\s*\([^(){}]*\)\s*;")


def _declared(library: str) -> set[str]:
    """Return the functions in a library's headers, and in the EDL file whose OCALLs it has."""
    names = set()
    for header in _HEADERS[library]:
        found = _PROTOTYPE.findall(_preprocessed(HOST_INCLUDE / header))
        assert found, header
        names.update(found)
    if library == "libsgx_urts.so":
        interface = load_file(LIBRARY / "sgx_tstdc.edl")
        names |= _UNDECLARED | {function.name for function in interface.ocalls}
    return names


def _preprocessed(header: Path) -> str:
    """Return a header's own lines, without comments and macros."""
    command = ["gcc", "-E", *(f"-I{place}" for place in host_includes()), str(header)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    own, lines = False, []
    for line in text.splitlines():
        if line.startswith("# "):
            own = str(header) in line
        elif own:
            lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("library", sorted(_HEADERS))
def test_a_library_exports_what_its_headers_declare_and_nothing_else(
    library: str, toolchain: Toolchain
) -> None:
    command = ["nm", "-D", "--defined-only", str(host_libraries(toolchain) / library)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert {line.split()[2] for line in listed.splitlines()} == _declared(library)


@pytest.mark.parametrize("library", sorted(_SONAMES))
def test_a_library_has_the_vendors_soname(library: str, toolchain: Toolchain) -> None:
    command = ["readelf", "-d", str(host_libraries(toolchain) / library)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"\(SONAME\).*\[(.*)\]", text) == [_SONAMES[library]]
    assert (host_libraries(toolchain) / _SONAMES[library]).is_file()
